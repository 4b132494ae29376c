//! Checks of the database, and its repair.

use maqet_domain::Timestamp;
use maqet_domain::port::{Hypervisor, RecoverySource, RepairReport, StaleFileKind, StoreError, StoreHealth, VmCopy};
use maqet_domain::vm::{BootNumber, Phase, Run, RunEnd, StopReason, VmId};

use super::missing::{missing_finding, name_in_use_finding};
use super::{Area, Finding, Maintenance, Severity, count_vms};
use crate::app::ports::Directories;
use crate::app::shown;
use crate::vm::orphan::run_of_instance;

/// Whether the database can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DatabaseAccess {
    /// It can.
    Usable,
    /// It does not exist yet; a check does not create it.
    NotCreated,
    /// It cannot.
    Unusable,
}

/// The subject of the findings; their messages name the file.
const SUBJECT: &str = "database";

/// Checks the database.
pub(crate) struct DatabaseCheck<'a> {
    pub(crate) maintenance: &'a Maintenance,
    pub(crate) hypervisor: &'a dyn Hypervisor,
    pub(crate) folders: &'a Directories,
    /// Whether to repair a damaged database and to back up a good one.
    pub(crate) fix: bool,
}

impl DatabaseCheck<'_> {
    /// Runs all checks.
    pub(crate) async fn findings(&self) -> (Vec<Finding>, DatabaseAccess) {
        match self.maintenance.store.check().await {
            Ok(None) => self.check_missing().await,
            Ok(Some(health)) => (self.check_health(&health).await, DatabaseAccess::Usable),
            Err(error) if is_repairable(&error) => self.repair(error_finding(&error).fixable()).await,
            Err(error) => (vec![error_finding(&error)], DatabaseAccess::Unusable),
        }
    }

    /// Distinguishes a database that was never created from one that was lost, by the copies of VMs.
    async fn check_missing(&self) -> (Vec<Finding>, DatabaseAccess) {
        let vms = self.maintenance.copies.count().await;
        // Without a copy, other hosts may have VMs in a database that was used here.
        if vms == 0 && self.maintenance.copies.database_id().await.is_none() {
            let finding = finding(Severity::Ok, format!("`{}` does not exist yet", self.maintenance.store.location()));
            return (vec![finding], DatabaseAccess::NotCreated);
        }
        let lost = StoreError::NotFound { location: self.maintenance.store.location(), vms };
        self.repair(error_finding(&lost).fixable()).await
    }

    async fn check_health(&self, health: &StoreHealth) -> Vec<Finding> {
        let size = health.bytes.div_ceil(1024);
        let location = self.maintenance.store.location();
        let vms = count_vms(health.vms);
        let message = format!("`{location}` is intact: {vms}, schema {}, {size} KiB", health.schema);
        let mut findings = vec![finding(Severity::Ok, message)];
        if health.schema < health.newest_schema {
            let message = format!("schema {}; the newest is {}", health.schema, health.newest_schema);
            findings.push(
                finding(Severity::Note, message).hint("no action needed: the next command migrates the database"),
            );
        }
        if !matches!(health.journal.as_str(), "" | "wal") {
            let message = format!("journal mode `{}` instead of `wal`", health.journal);
            findings.push(finding(Severity::Note, message).hint("no action needed: the next change enables it"));
        }
        // A store that is not a file has no journal, and is backed up by other means.
        let is_file = !health.journal.is_empty();
        if let Some(why) = &health.unwritable {
            let hint = if is_file {
                "check the permissions of the file and its directory, and whether the file system is read-only"
            } else {
                "use the URL of the primary server; a standby can only be read"
            };
            findings.push(finding(Severity::Problem, format!("cannot be written: {why}")).hint(hint));
        }
        if is_file {
            findings.push(self.check_backup(health).await);
        }
        findings.extend(self.check_copies().await);
        findings
    }

    /// Finds VMs that the database lacks although there are copies of them, and adds them for `--fix`.
    ///
    /// Those that run are orphans, about which the user decides.
    async fn check_copies(&self) -> Vec<Finding> {
        let mut missing = match self.maintenance.missing_vms().await {
            Ok(missing) => missing,
            Err(error) => return vec![error_finding(&error)],
        };
        if !missing.is_empty() {
            let instances = self.maintenance.stale_files.instances().await;
            missing.retain(|copy| instances.iter().all(|one| one.short != copy.vm.entry.id.short()));
        }
        if missing.is_empty() || !self.fix {
            return missing.iter().map(missing_finding).collect();
        }
        match self.maintenance.store.add_missing(self.with_runs(missing.clone()).await).await {
            Ok(report) => {
                let is_added = |copy: &VmCopy| report.vms.iter().any(|(id, ..)| *id == copy.vm.entry.id);
                let finding = |copy: &VmCopy| {
                    if is_added(copy) { missing_finding(copy).fixed("added it") } else { name_in_use_finding(copy) }
                };
                missing.iter().map(finding).collect()
            }
            Err(error) => missing.iter().map(|copy| missing_finding(copy).fix_failed(&error)).collect(),
        }
    }

    /// Makes a backup for `--fix`; else finds the newest one.
    async fn check_backup(&self, health: &StoreHealth) -> Finding {
        let store = &self.maintenance.store;
        let ok = |message: String| Finding::new(Severity::Ok, Area::Database, "backup", message);
        if self.fix && health.vms > 0 && health.unwritable.is_none() {
            return match store.backup().await {
                Ok(path) => ok(format!("`{}`", shown(&path))).fixed("created a backup"),
                Err(error) => Finding::from_error(Severity::Warning, Area::Database, "backup", &error),
            };
        }
        match store.newest_backup().await {
            Some(path) => ok(format!("the newest is `{}`", shown(&path))),
            None => ok("none yet; `--fix` creates one".to_owned()),
        }
    }

    async fn repair(&self, damage: Finding) -> (Vec<Finding>, DatabaseAccess) {
        if !self.fix {
            return (vec![damage], DatabaseAccess::Unusable);
        }
        let known = self.with_runs(self.maintenance.copies.all().await).await;
        let report = match self.maintenance.store.repair(known).await {
            Ok(report) => report,
            Err(error) => return (vec![damage.fix_failed(&error)], DatabaseAccess::Unusable),
        };
        let mut findings = vec![damage.fixed(describe_repair(&report))];
        for lost in report.lost {
            let finding = finding(Severity::Warning, format!("not recovered: {lost}"));
            findings.push(finding.hint("search the kept copies of the damaged files for it"));
        }
        match self.maintenance.missing_vms().await {
            Ok(missing) => findings.extend(missing.iter().map(name_in_use_finding)),
            Err(error) => findings.push(error_finding(&error)),
        }
        (findings, DatabaseAccess::Usable)
    }

    /// Returns copies of VMs with the last known run of each.
    async fn with_runs(&self, mut known: Vec<VmCopy>) -> Vec<VmCopy> {
        if known.is_empty() {
            return known;
        }
        let instances = self.maintenance.stale_files.instances().await;
        let files = self.maintenance.stale_files.files(&[]).await;
        for copy in &mut known {
            let entry = &mut copy.vm.entry;
            let short = entry.id.short();
            if let Some(instance) = instances.iter().find(|one| one.short == short && !one.is_foreign) {
                entry.run = Some(run_of_instance(instance));
                continue;
            }
            let last_boot = files.iter().find_map(|file| match &file.kind {
                StaleFileKind::Records { id, boots, .. } if *id == entry.id => boots.last().copied(),
                _ => None,
            });
            if let Some((boot, started_at)) = last_boot {
                entry.run = Some(self.ended_run(&entry.id, boot, started_at).await);
            }
        }
        known
    }

    async fn ended_run(&self, id: &VmId, boot: BootNumber, started_at: Timestamp) -> Run {
        let paths = self.folders.run(id, boot);
        let unknown = RunEnd { reason: StopReason::Unknown, at: None };
        let run = Run { boot, phase: Phase::Ended(unknown), process: None, started_at, paths, forwards: Vec::new() };
        let end = self.hypervisor.exit_report(&run).await.end.unwrap_or(unknown);
        run.at_phase(Phase::Ended(end))
    }
}

fn finding(severity: Severity, message: impl Into<String>) -> Finding {
    Finding::new(severity, Area::Database, SUBJECT, message)
}

fn error_finding(error: &StoreError) -> Finding {
    let severity = if matches!(error, StoreError::Busy { .. }) { Severity::Warning } else { Severity::Problem };
    Finding::from_error(severity, Area::Database, SUBJECT, error)
}

/// Returns whether a repair can help; it cannot if the database is in use, newer than this maqet, or inaccessible.
const fn is_repairable(error: &StoreError) -> bool {
    matches!(error, StoreError::Corrupt { .. } | StoreError::NotFound { .. } | StoreError::Replaced { .. })
}

fn describe_repair(report: &RepairReport) -> String {
    let count = |wanted: RecoverySource| report.vms.iter().filter(|(_, _, origin)| *origin == wanted).count();
    let sources: Vec<String> = [
        (RecoverySource::Database, "from the database"),
        (RecoverySource::Copy, "from copies"),
        (RecoverySource::Backup, "from the backup"),
    ]
    .into_iter()
    .map(|(origin, source)| (count(origin), source))
    .filter(|(count, _)| *count > 0)
    .map(|(count, source)| format!("{count} {source}"))
    .collect();
    let sources = if sources.is_empty() { String::new() } else { format!(" ({})", sources.join(", ")) };
    let kept = report.damaged_copies.first().map(|kept| format!("; kept the damaged file as `{}`", shown(kept)));
    let (vms, entries, kept) = (count_vms(report.vms.len() as u64), report.log_entries, kept.unwrap_or_default());
    format!("rebuilt it with {vms}{sources} and {entries} history entries and events{kept}")
}
