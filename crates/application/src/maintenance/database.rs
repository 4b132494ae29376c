//! The database: sound, or why not; repaired from what is left.

use maqet_domain::Timestamp;
use maqet_domain::port::{KeptVm, Origin, RepairReport, StaleFileKind, StoreError, StoreHealth};
use maqet_domain::vm::{BootNumber, Phase, Run, RunEnd, RunPaths, StopReason};

use super::{Area, Finding, Severity};
use crate::App;
use crate::app::shown;
use crate::vm::orphan::run_of_instance;

/// Whether the database can be asked for VMs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// It can.
    Usable,
    /// There is none yet, and to look is no reason to make one.
    NoneYet,
    /// It cannot.
    Unusable,
}

impl App {
    /// Examines the database, and repairs it or backs it up if asked to.
    pub(crate) async fn database_findings(&self, fix: bool) -> (Vec<Finding>, Access) {
        let care = &self.maintenance().care;
        match care.check().await {
            Ok(None) => self.absent_finding(fix).await,
            Ok(Some(health)) => (self.sound_findings(&health, fix).await, Access::Usable),
            Err(error) => {
                let finding = self.found_error(&error);
                let is_damaged = matches!(error, StoreError::Corrupt { .. } | StoreError::NotFound { .. });
                if !is_damaged {
                    // Others are at it, or it is newer, or out of reach: that is nothing to repair.
                    return (vec![finding], Access::Unusable);
                }
                self.repaired(finding.fixable(), fix).await
            }
        }
    }

    fn subject(&self) -> String {
        self.maintenance().care.location()
    }

    fn found_error(&self, error: &StoreError) -> Finding {
        let severity = if matches!(error, StoreError::Busy { .. }) { Severity::Warning } else { Severity::Problem };
        Finding::of_error(severity, Area::Database, self.subject(), error)
    }

    /// Tells a database that was never made from one that is gone.
    async fn absent_finding(&self, fix: bool) -> (Vec<Finding>, Access) {
        let vms = self.maintenance().copies.count().await;
        if vms == 0 {
            let what = "there is none yet; it is made when it is needed";
            return (vec![Finding::new(Severity::Ok, Area::Database, self.subject(), what)], Access::NoneYet);
        }
        let lost = StoreError::NotFound { location: self.subject(), vms };
        self.repaired(self.found_error(&lost).fixable(), fix).await
    }

    async fn sound_findings(&self, health: &StoreHealth, fix: bool) -> Vec<Finding> {
        let found = |severity, what: String| Finding::new(severity, Area::Database, self.subject(), what);
        let size = health.bytes.div_ceil(1024);
        let mut findings =
            vec![found(Severity::Ok, format!("sound: {} VMs, schema {}, {size} KiB", health.vms, health.schema))];
        if health.schema < health.newest_schema {
            let what = format!("it has schema {}, the newest is {}", health.schema, health.newest_schema);
            findings.push(found(Severity::Note, what).cured_by("nothing: the next command brings it up to date"));
        }
        if !matches!(health.journal.as_str(), "" | "wal") {
            let what = format!("its journal mode is `{}`, and not `wal`", health.journal);
            findings.push(found(Severity::Note, what).cured_by("nothing: the next change turns it on"));
        }
        if let Some(why) = &health.unwritable {
            findings.push(
                found(Severity::Problem, format!("it can be read and not be written to: {why}")).cured_by(
                    "look at the permissions of the file and of its folder, and whether the disk is read-only",
                ),
            );
        }
        findings.push(self.backup_finding(health, fix).await);
        findings
    }

    /// Tells of the newest backup; one is made if fixing was asked for.
    async fn backup_finding(&self, health: &StoreHealth, fix: bool) -> Finding {
        let care = &self.maintenance().care;
        let found = |severity, what: String| Finding::new(severity, Area::Database, "backup", what);
        if fix && health.vms > 0 && health.unwritable.is_none() && !health.journal.is_empty() {
            return match care.backup().await {
                Ok(path) => found(Severity::Ok, format!("`{}`", shown(&path))).fixed("a backup was made"),
                Err(error) => Finding::of_error(Severity::Warning, Area::Database, "backup", &error),
            };
        }
        match care.newest_backup().await {
            Some(path) => found(Severity::Ok, format!("the newest is `{}`", shown(&path))),
            None => found(Severity::Ok, "none yet; `--fix` makes one".to_owned()),
        }
    }

    async fn repaired(&self, finding: Finding, fix: bool) -> (Vec<Finding>, Access) {
        if !fix {
            return (vec![finding], Access::Unusable);
        }
        let known = self.known_by_copies().await;
        match self.maintenance().care.repair(known).await {
            Ok(mended) => {
                let mut findings = vec![finding.fixed(in_words(&mended))];
                for lost in mended.lost {
                    let what = format!("could not be saved: {lost}");
                    findings.push(
                        Finding::new(Severity::Warning, Area::Database, self.subject(), what)
                            .cured_by("look for it in the files that were kept"),
                    );
                }
                (findings, Access::Usable)
            }
            Err(error) => (vec![finding.not_fixed(&error)], Access::Unusable),
        }
    }

    /// Returns the VMs that are known by their copies, with what can be seen of their last start.
    async fn known_by_copies(&self) -> Vec<KeptVm> {
        let upkeep = self.maintenance();
        let mut known = upkeep.copies.all().await;
        if known.is_empty() {
            return known;
        }
        let machines = upkeep.stale_files.instances().await;
        let traces = upkeep.stale_files.files(&[]).await;
        for kept in &mut known {
            let entry = &mut kept.vm.entry;
            let short = entry.id.short();
            if let Some(machine) = machines.iter().find(|machine| machine.short == short && !machine.is_foreign) {
                entry.run = Some(run_of_instance(machine));
                continue;
            }
            let boots = traces.iter().find_map(|trace| match &trace.kind {
                StaleFileKind::Records { id, boots } if *id == entry.id => boots.last().copied(),
                _ => None,
            });
            if let Some(boot) = boots {
                entry.run = Some(self.ended_run(&entry.id, boot).await);
            }
        }
        known
    }

    async fn ended_run(&self, id: &maqet_domain::vm::VmId, (boot, started_at): (BootNumber, Timestamp)) -> Run {
        let (sockets, records) = (self.folders.vm_sockets(id), self.folders.vm_records(id));
        let paths = RunPaths::new(&sockets, &records, boot);
        let word = self.ports.hypervisor.shutdown_event(&paths).await;
        let ending = word.map_or(RunEnd { reason: StopReason::Unknown, at: None }, |word| RunEnd {
            reason: word.reason,
            at: Some(word.at),
        });
        Run { boot, phase: Phase::Ended(ending), process: None, started_at, paths, forwards: Vec::new() }
    }
}

/// Says what a repair came to.
fn in_words(mended: &RepairReport) -> String {
    let count = |wanted: Origin| mended.vms.iter().filter(|(_, _, origin)| *origin == wanted).count();
    let (read, copied, restored) = (count(Origin::Database), count(Origin::Copy), count(Origin::Backup));
    let sources: Vec<String> = [(read, "read from it"), (copied, "from their copies"), (restored, "from the backup")]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, from)| format!("{count} {from}"))
        .collect();
    let sources = if sources.is_empty() { String::new() } else { format!(" ({})", sources.join(", ")) };
    let kept = mended.kept.first().map(|kept| format!("; what was there is kept as `{}`", shown(kept)));
    let (vms, entries, kept) = (mended.vms.len(), mended.log_entries, kept.unwrap_or_default());
    format!("it was built anew with {vms} VMs{sources} and {entries} entries of history and events{kept}")
}
