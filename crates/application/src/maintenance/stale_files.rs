//! Finds files and processes that belong to no VM.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use maqet_domain::Timestamp;
use maqet_domain::port::{QemuInstance, StaleFile, StaleFileKind, VmPresence};
use maqet_domain::vm::{VmEntry, VmId};

use super::{Area, Finding, Severity, StaleFileRemoval, trash_findings};
use crate::app::shown;
use crate::{App, Error};

/// Something that belongs to no VM.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StaleItem {
    /// A QEMU process without a VM.
    Orphan(QemuInstance),
    /// Files of a removed VM, of a run that ended, or of a process that has exited.
    File(StaleFile),
}

/// What a search found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// What belongs to no VM.
    pub(crate) stale: Vec<StaleItem>,
    /// Records with the only copy of a VM that the database lacks although it does not record its removal.
    pub(crate) lost: Vec<StaleFile>,
    /// All VMs.
    pub(crate) entries: Vec<VmEntry>,
}

impl Survey {
    /// Searches maqet's folders and the processes of this user.
    ///
    /// The VMs are listed last: a file that existed before and belongs to none of them is stale. If they were listed
    /// first, the files of a VM that is added and started in between would be taken for stale.
    pub(crate) async fn new(app: &App) -> Result<Self, Error> {
        let records = app.ports.store.all_storage().await?;
        let created = records.iter().filter(|record| record.vm.is_some() && record.is_created());
        let folders: HashSet<PathBuf> = created.filter_map(|record| Some(record.path.parent()?.to_owned())).collect();
        let folders: Vec<PathBuf> = folders.into_iter().collect();
        let port = &app.ports.maintenance.stale_files;
        let files = port.files(&folders).await;
        let instances = port.instances().await;
        let entries = app.ports.store.list().await?;
        let found = find_stale(files, &instances, &entries);
        let presence = presence_of_copied(app, &found).await?;
        Ok(Self { entries, ..Self::new_without_lost(found, &presence) })
    }

    /// Keeps records with a copy, unless the database records that their VM was removed since.
    fn new_without_lost(found: Vec<StaleItem>, presence: &HashMap<VmId, VmPresence>) -> Self {
        let mut survey = Self::default();
        for item in found {
            match item {
                StaleItem::File(file) if let Some((id, copied_at)) = copy_of(&file) => {
                    let presence = presence.get(&id).copied().unwrap_or(VmPresence::Unknown);
                    match presence {
                        _ if presence.is_lost_since(Some(copied_at)) => survey.lost.push(file),
                        VmPresence::Removed { .. } => survey.stale.push(StaleItem::File(file)),
                        // Of another host or user by now.
                        VmPresence::Held | VmPresence::TakenOver | VmPresence::Moved { .. } | VmPresence::Unknown => {}
                    }
                }
                other => survey.stale.push(other),
            }
        }
        survey
    }
}

/// Returns the VM of records that have a copy of its definition, and when that was written.
fn copy_of(file: &StaleFile) -> Option<(VmId, Timestamp)> {
    match file.kind {
        StaleFileKind::Records { id, copied_at, .. } => Some((id, copied_at?)),
        StaleFileKind::Sockets { .. } | StaleFileKind::Lock { .. } | StaleFileKind::Temporary => None,
    }
}

/// Asks the database about the VMs of records with a copy of a definition.
async fn presence_of_copied(app: &App, found: &[StaleItem]) -> Result<HashMap<VmId, VmPresence>, Error> {
    let copied = found.iter().filter_map(|item| match item {
        StaleItem::File(file) => copy_of(file).map(|(id, _)| id),
        StaleItem::Orphan(_) => None,
    });
    let ids: Vec<VmId> = copied.collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let presence = app.ports.maintenance.store.presence(ids.clone()).await?;
    Ok(ids.into_iter().zip(presence).collect())
}

/// Returns the instances and files that belong to none of the VMs `entries`, nor to a VM of another database.
fn find_stale(files: Vec<StaleFile>, instances: &[QemuInstance], entries: &[VmEntry]) -> Vec<StaleItem> {
    let vms: HashSet<String> = entries.iter().map(|entry| entry.id.short()).collect();
    let open_runs: HashSet<(String, u32)> =
        entries.iter().filter_map(|entry| Some((entry.id.short(), entry.open_run()?.boot.0))).collect();
    let running: HashSet<(String, u32)> =
        instances.iter().map(|instance| (instance.short.clone(), instance.boot.0)).collect();
    let runs = |short: &str| running.iter().any(|(running, _)| running == short);

    let is_stale = |file: &StaleFile| match &file.kind {
        _ if file.is_foreign => false,
        // The open run of a VM is reconciled under its lock, together with its sockets.
        StaleFileKind::Sockets { short, boot } => {
            let run = (short.clone(), boot.0);
            !running.contains(&run) && !open_runs.contains(&run)
        }
        StaleFileKind::Records { id, .. } => !vms.contains(&id.short()) && !runs(&id.short()),
        StaleFileKind::Lock { id } => !vms.contains(&id.short()),
        StaleFileKind::Temporary => true,
    };
    // Also an instance whose VM records another run: no command would show it.
    let is_orphan = |instance: &QemuInstance| {
        !instance.is_foreign && !open_runs.contains(&(instance.short.clone(), instance.boot.0))
    };
    let orphans = instances.iter().filter(|instance| is_orphan(instance)).cloned().map(StaleItem::Orphan);
    let files = files.into_iter().filter(is_stale).map(StaleItem::File);
    orphans.chain(files).collect()
}

/// Reports everything that belongs to no VM, and removes what holds no data if `fix` is set.
pub(crate) async fn stale_findings(app: &App, fix: bool) -> Result<Vec<Finding>, Error> {
    let survey = Survey::new(app).await?;
    let removal = app.stale_file_removal(&survey.entries);
    let mut findings = Vec::new();
    for item in &survey.stale {
        findings.extend(match item {
            StaleItem::Orphan(instance) => Some(orphan_finding(instance, &survey.entries)),
            StaleItem::File(file) => file_finding(&removal, file, fix).await,
        });
    }
    findings.extend(trash_findings(app, fix).await?);
    if findings.is_empty() {
        findings.push(Finding::new(Severity::Ok, Area::StaleFiles, "stale files", "none"));
    }
    Ok(findings)
}

/// Returns nothing for a file that another process uses by now.
async fn file_finding(removal: &StaleFileRemoval<'_>, file: &StaleFile, fix: bool) -> Option<Finding> {
    let finding = Finding::new(Severity::Note, Area::StaleFiles, shown(&file.path), describe_file(file));
    let finding = finding.hint("run `maqet cleanup` to remove it");
    // Records hold logs and the copy of a definition, which `--fix` keeps.
    if matches!(file.kind, StaleFileKind::Records { .. }) {
        return Some(finding);
    }
    let finding = finding.fixable();
    if !fix {
        return Some(finding);
    }
    match removal.remove(file).await {
        Ok(true) => Some(finding.fixed("removed it")),
        Ok(false) => None,
        Err(error) => Some(finding.fix_failed(&error)),
    }
}

fn orphan_finding(instance: &QemuInstance, entries: &[VmEntry]) -> Finding {
    let subject = instance.name.clone().unwrap_or_else(|| instance.short.clone());
    Finding::new(Severity::Problem, Area::StaleFiles, subject, describe_orphan(instance, entries))
        .hint("adopt it with `maqet cleanup --adopt-orphans`, or end it with `--end-orphans`")
}

/// Describes an orphan.
pub(crate) fn describe_orphan(instance: &QemuInstance, entries: &[VmEntry]) -> String {
    let pid = instance.process.pid;
    if entries.iter().any(|entry| entry.id.short() == instance.short) {
        return format!("QEMU process {pid} is not recorded as a run of its VM");
    }
    format!("QEMU process {pid} belongs to no VM")
}

/// Describes a stale file.
pub(crate) const fn describe_file(file: &StaleFile) -> &'static str {
    match file.kind {
        StaleFileKind::Sockets { .. } => "sockets of an ended run",
        StaleFileKind::Records { .. } => "logs and records of a removed VM",
        StaleFileKind::Lock { .. } => "lock of a removed VM",
        StaleFileKind::Temporary => "temporary file of a process that has exited",
    }
}

#[cfg(test)]
mod tests {
    use maqet_domain::vm::{
        BootId, BootNumber, Phase, ProcessIdentity, Revision, Run, RunEnd, RunPaths, StopReason, VmName,
    };

    use super::*;

    const ID: &str = "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11";
    const SHORT: &str = "0d9f2ac358b1";

    fn id() -> VmId {
        ID.parse().unwrap()
    }

    fn entry(phase: Phase, boot: u32) -> VmEntry {
        let paths = RunPaths { sockets: "/r".into(), records: "/s".into() };
        let run = Run {
            boot: BootNumber(boot),
            phase,
            process: None,
            started_at: Timestamp::UNIX_EPOCH,
            paths,
            forwards: Vec::new(),
        };
        VmEntry {
            id: id(),
            name: VmName::parse("web").unwrap(),
            revision: Revision::FIRST,
            created_at: Timestamp::UNIX_EPOCH,
            run: Some(run),
            pending: None,
            layers: Vec::new(),
        }
    }

    fn instance(boot: u32) -> QemuInstance {
        QemuInstance {
            process: ProcessIdentity { pid: 7, start_ticks: 1, boot_id: BootId(String::new()), namespace: None },
            short: SHORT.to_owned(),
            id: Some(id()),
            name: Some("web".to_owned()),
            boot: BootNumber(boot),
            started_at: Timestamp::UNIX_EPOCH,
            paths: RunPaths { sockets: "/r".into(), records: "/s".into() },
            is_foreign: false,
        }
    }

    fn file(kind: StaleFileKind) -> StaleFile {
        StaleFile { kind, path: "/x".into(), is_foreign: false }
    }

    fn sockets(boot: u32) -> StaleFile {
        file(StaleFileKind::Sockets { short: SHORT.to_owned(), boot: BootNumber(boot) })
    }

    fn records() -> StaleFile {
        file(StaleFileKind::Records { id: id(), boots: Vec::new(), copied_at: None })
    }

    const ENDED: Phase = Phase::Ended(RunEnd { reason: StopReason::Crashed, at: None });

    #[track_caller]
    fn check(files: &[StaleFile], instances: &[QemuInstance], entries: &[VmEntry], expected: &[StaleItem]) {
        assert_eq!(find_stale(files.to_vec(), instances, entries), expected);
    }

    #[test]
    fn test_find_stale_skips_files_of_vms() {
        let lock = file(StaleFileKind::Lock { id: id() });

        check(&[sockets(3), records(), lock.clone()], &[instance(3)], &[entry(Phase::Running, 3)], &[]);
        check(&[sockets(3), records(), lock.clone()], &[], &[entry(Phase::Starting, 3)], &[]);
        check(&[records(), lock], &[], &[entry(ENDED, 3)], &[]);
    }

    #[test]
    fn test_find_stale_returns_sockets_of_ended_runs() {
        let stale = [StaleItem::File(sockets(3))];

        check(&[sockets(3)], &[], &[entry(ENDED, 3)], &stale);
        check(&[sockets(3)], &[], &[entry(Phase::Running, 4)], &stale);
        check(&[sockets(3)], &[], &[], &stale);
    }

    #[test]
    fn test_find_stale_keeps_files_of_running_orphans() {
        check(&[sockets(3), records()], &[instance(3)], &[], &[StaleItem::Orphan(instance(3))]);
    }

    #[test]
    fn test_find_stale_returns_unrecorded_instances_as_orphans() {
        check(&[], &[instance(3)], &[entry(ENDED, 3)], &[StaleItem::Orphan(instance(3))]);
        check(&[], &[instance(2)], &[entry(Phase::Running, 3)], &[StaleItem::Orphan(instance(2))]);
    }

    #[test]
    fn test_find_stale_skips_vms_of_other_databases() {
        let foreign = StaleFile { is_foreign: true, ..records() };

        check(&[foreign], &[QemuInstance { is_foreign: true, ..instance(3) }], &[], &[]);
    }

    #[test]
    fn test_new_without_lost_keeps_copies_without_a_removal() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let copied = file(StaleFileKind::Records { id: id(), boots: Vec::new(), copied_at: Some(at(5)) });
        let survey = |file: &StaleFile, presence: Option<VmPresence>| {
            let presence = presence.map(|presence| (id(), presence)).into_iter().collect();
            let survey = Survey::new_without_lost(vec![StaleItem::File(file.clone())], &presence);
            (survey.stale.len(), survey.lost.len())
        };

        assert_eq!(survey(&records(), None), (1, 0));
        assert_eq!(survey(&copied, None), (0, 1));
        assert_eq!(survey(&copied, Some(VmPresence::Unknown)), (0, 1));
        assert_eq!(survey(&copied, Some(VmPresence::Held)), (0, 0));
        assert_eq!(survey(&copied, Some(VmPresence::Removed { at: at(6) })), (1, 0));
        assert_eq!(survey(&copied, Some(VmPresence::Removed { at: at(4) })), (0, 1));
    }
}
