//! What nobody needs any more: told from what belongs to a VM, and removed.

use std::collections::HashSet;
use std::path::PathBuf;

use maqet_domain::port::{QemuInstance, StaleFile, StaleFileKind};
use maqet_domain::vm::{Phase, VmEntry};

use super::{Area, Finding, Severity};
use crate::app::shown;
use crate::{App, Error};

/// Something that nobody needs any more.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Leftover {
    /// A QEMU that no VM owns.
    Orphan(QemuInstance),
    /// Files of a VM that is gone, of a run that is over, or of a process that is dead.
    Files(StaleFile),
}

/// What a survey came to.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    /// What nobody needs any more.
    pub(crate) leftovers: Vec<Leftover>,
    /// The VMs there are.
    pub(crate) entries: Vec<VmEntry>,
}

/// Looks through maqet's folders and the processes of this user.
///
/// The VMs are asked for last: what was there before, and belongs to none of them, was left behind. The other way
/// round, a VM that is made and started meanwhile would be taken for a leftover.
pub(crate) async fn survey(app: &App) -> Result<Rest, Error> {
    let mut beside: HashSet<PathBuf> = HashSet::new();
    for entry in app.ports.store.list().await? {
        let records = app.ports.store.of_vm(&entry.id).await?;
        beside.extend(records.iter().filter_map(|record| record.path.parent().map(ToOwned::to_owned)));
    }
    let beside: Vec<PathBuf> = beside.into_iter().collect();
    let leftovers = &app.maintenance().stale_files;
    let traces = leftovers.files(&beside).await;
    let machines = leftovers.instances().await;
    let entries = app.ports.store.list().await?;
    Ok(Rest { leftovers: judge(traces, &machines, &entries), entries })
}

/// Tells what belongs to nobody: a pure rule over what was seen.
fn judge(traces: Vec<StaleFile>, machines: &[QemuInstance], entries: &[VmEntry]) -> Vec<Leftover> {
    let owners: HashSet<String> = entries.iter().map(|entry| entry.id.short()).collect();
    let open: HashSet<(String, u32)> = entries
        .iter()
        .filter_map(|entry| {
            let run = entry.run.as_ref().filter(|run| !matches!(run.phase, Phase::Ended(_)))?;
            Some((entry.id.short(), run.boot.0))
        })
        .collect();
    let alive: HashSet<(String, u32)> =
        machines.iter().map(|machine| (machine.short.clone(), machine.boot.0)).collect();
    let lives = |short: &str| alive.iter().any(|(living, _)| living == short);

    let is_left = |trace: &StaleFile| {
        !trace.is_foreign
            && match &trace.kind {
                // The open run of a VM is settled under its lock, with its sockets.
                StaleFileKind::Sockets { short, boot } => {
                    let run = (short.clone(), boot.0);
                    !alive.contains(&run) && !open.contains(&run)
                }
                StaleFileKind::Records { id, .. } => !owners.contains(&id.short()) && !lives(&id.short()),
                StaleFileKind::Lock { id } => !owners.contains(&id.short()),
                StaleFileKind::Temporary => true,
            }
    };
    // A VM whose records say something else than its process is as good as unknown: nothing shows it.
    let is_orphan =
        |machine: &QemuInstance| !machine.is_foreign && !open.contains(&(machine.short.clone(), machine.boot.0));
    let orphans: Vec<Leftover> =
        machines.iter().filter(|machine| is_orphan(machine)).cloned().map(Leftover::Orphan).collect();
    let files = traces.into_iter().filter(|trace| is_left(trace)).map(Leftover::Files);
    orphans.into_iter().chain(files).collect()
}

impl App {
    /// Looks for what nobody needs any more, and removes what holds nothing of worth if asked to.
    pub(crate) async fn leftover_findings(&self, fix: bool) -> Result<Vec<Finding>, Error> {
        let rest = survey(self).await?;
        let mut findings = Vec::new();
        for leftover in &rest.leftovers {
            findings.extend(match leftover {
                Leftover::Orphan(machine) => Some(orphan_finding(machine, &rest.entries)),
                Leftover::Files(trace) => self.file_finding(trace, &rest.entries, fix).await,
            });
        }
        if findings.is_empty() {
            findings.push(Finding::new(Severity::Ok, Area::StaleFiles, "leftovers", "there are none"));
        }
        Ok(findings)
    }

    /// Returns nothing of what somebody else works on, or needs by now.
    async fn file_finding(&self, trace: &StaleFile, entries: &[VmEntry], fix: bool) -> Option<Finding> {
        let finding = Finding::new(Severity::Note, Area::StaleFiles, shown(&trace.path), what_of(trace));
        // Records hold logs and the copy of a definition: nothing that `--fix` takes away.
        if matches!(trace.kind, StaleFileKind::Records { .. }) {
            return Some(finding.cured_by("remove them with `maqet cleanup`"));
        }
        let finding = finding.cured_by("remove it with `maqet cleanup`").fixable();
        if !fix {
            return Some(finding);
        }
        match self.remove_leftover(trace, entries).await {
            Ok(true) => Some(finding.fixed("it was removed")),
            Ok(false) => None,
            Err(error) => Some(finding.not_fixed(&error)),
        }
    }
}

fn orphan_finding(machine: &QemuInstance, entries: &[VmEntry]) -> Finding {
    let subject = machine.name.clone().unwrap_or_else(|| machine.short.clone());
    Finding::new(Severity::Problem, Area::StaleFiles, subject, what_of_orphan(machine, entries))
        .cured_by("take it back with `maqet cleanup --adopt-orphans`, or end it with `--end-orphans`")
}

/// Says what a machine is that no VM owns.
pub(crate) fn what_of_orphan(machine: &QemuInstance, entries: &[VmEntry]) -> String {
    let pid = machine.process.pid;
    if entries.iter().any(|entry| entry.id.short() == machine.short) {
        return format!("a QEMU (pid {pid}) that its VM knows nothing of");
    }
    format!("a QEMU (pid {pid}) that no VM owns")
}

/// Says what a trace is.
pub(crate) fn what_of(trace: &StaleFile) -> &'static str {
    match trace.kind {
        StaleFileKind::Sockets { .. } => "sockets of a run that is over",
        StaleFileKind::Records { .. } => "logs and records of a VM that is gone",
        StaleFileKind::Lock { .. } => "the lock of a VM that is gone",
        StaleFileKind::Temporary => "an unfinished file whose maker is dead",
    }
}

#[cfg(test)]
mod tests {
    use maqet_domain::Timestamp;
    use maqet_domain::vm::{
        BootId, BootNumber, ProcessIdentity, Revision, Run, RunEnd, RunPaths, StopReason, VmId, VmName,
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
        }
    }

    fn machine(boot: u32) -> QemuInstance {
        QemuInstance {
            process: ProcessIdentity { pid: 7, start_ticks: 1, boot_id: BootId(String::new()) },
            short: SHORT.to_owned(),
            id: Some(id()),
            name: Some("web".to_owned()),
            boot: BootNumber(boot),
            started_at: Timestamp::UNIX_EPOCH,
            paths: RunPaths { sockets: "/r".into(), records: "/s".into() },
            is_foreign: false,
        }
    }

    fn trace(kind: StaleFileKind) -> StaleFile {
        StaleFile { kind, path: "/x".into(), is_foreign: false }
    }

    fn sockets(boot: u32) -> StaleFile {
        trace(StaleFileKind::Sockets { short: SHORT.to_owned(), boot: BootNumber(boot) })
    }

    fn records() -> StaleFile {
        trace(StaleFileKind::Records { id: id(), boots: Vec::new() })
    }

    const ENDED: Phase = Phase::Ended(RunEnd { reason: StopReason::Crashed, at: None });

    #[track_caller]
    fn check(traces: &[StaleFile], machines: &[QemuInstance], entries: &[VmEntry], expected: &[Leftover]) {
        assert_eq!(judge(traces.to_vec(), machines, entries), expected);
    }

    #[test]
    fn test_judge_what_a_vm_needs_is_left_alone() {
        let lock = trace(StaleFileKind::Lock { id: id() });

        check(&[sockets(3), records(), lock.clone()], &[machine(3)], &[entry(Phase::Running, 3)], &[]);
        check(&[sockets(3), records(), lock.clone()], &[], &[entry(Phase::Starting, 3)], &[]);
        check(&[records(), lock], &[], &[entry(ENDED, 3)], &[]);
    }

    #[test]
    fn test_judge_sockets_of_a_run_that_is_over_are_left_over() {
        let left = [Leftover::Files(sockets(3))];

        check(&[sockets(3)], &[], &[entry(ENDED, 3)], &left);
        check(&[sockets(3)], &[], &[entry(Phase::Running, 4)], &left);
        check(&[sockets(3)], &[], &[], &left);
    }

    #[test]
    fn test_judge_what_a_living_orphan_has_is_kept_with_it() {
        check(&[sockets(3), records()], &[machine(3)], &[], &[Leftover::Orphan(machine(3))]);
    }

    #[test]
    fn test_judge_machine_that_its_vm_does_not_know_is_an_orphan() {
        check(&[], &[machine(3)], &[entry(ENDED, 3)], &[Leftover::Orphan(machine(3))]);
        check(&[], &[machine(2)], &[entry(Phase::Running, 3)], &[Leftover::Orphan(machine(2))]);
    }

    #[test]
    fn test_judge_what_another_database_has_is_not_ours() {
        let foreign = StaleFile { is_foreign: true, ..records() };

        check(&[foreign], &[QemuInstance { is_foreign: true, ..machine(3) }], &[], &[]);
    }
}
