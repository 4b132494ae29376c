//! Reading what a QEMU leaves behind: the end of its logs, its pid file, and what was noted when it was started.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use maqet_adapters_linux::private_file::{fresh_log, open_regular, private_log, read_private, read_tail};
use maqet_adapters_linux::{MemoryKills, kernel_report};
use maqet_domain::command_line::CommandLine;
use maqet_domain::qmp::QmpEvent;
use maqet_domain::qmp::wording::TRIPLE_FAULT;
use maqet_domain::vm::{
    ExitEvidence, ExitReport, HaltReason, KernelReport, Phase, ProcessIdentity, ResetCounter, Run, RunEnd, RunPaths,
    StateDetails, StopReason, StoppedTime, explain_halt,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::qmp_log;
use crate::console::console_lock;
use crate::limits::{
    MAX_CPU_LOG_BYTES, MAX_QMP_LOG_TAIL_BYTES, MAX_RESET_LOG_BYTES, MAX_START_NOTES_BYTES, MAX_STDERR_TAIL_BYTES,
};
use crate::stderr_tail::stderr_tail;

/// What is noted when QEMU is started, because it cannot be found out once it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct StartNotes {
    /// Whether QEMU writes the pid file of the run.
    pid_file: bool,
    /// Whether it has the device `isa-debug-exit`.
    debug_exit: bool,
    /// The kills for lack of memory until then.
    kills: MemoryKills,
}

impl StartNotes {
    /// Notes this for a QEMU that was just spawned.
    ///
    /// Without it the reason for its end is less exact, which does not keep a VM from starting.
    pub(super) fn write(command_line: &CommandLine, paths: &RunPaths, pid: u32) {
        let args = command_line.args();
        let pid_file = paths.pid_file();
        let notes = Self {
            pid_file: args.windows(2).any(|pair| pair[0] == "-pidfile" && Path::new(&pair[1]) == pid_file),
            debug_exit: args.windows(2).any(|pair| pair[0] == "-device" && pair[1].contains("isa-debug-exit")),
            kills: MemoryKills::read(pid),
        };
        // A failed start is repeated under the same number.
        let _ = fs::remove_file(paths.exit_notes());
        let write = |file: &Path| write_notes(file, &notes);
        // Usually on another file system, where there is space if the records are on a full disk.
        let written = write(&paths.start_notes()).or_else(|_| write(&spare_start_notes(paths)));
        if let Err(error) = written {
            tracing::warn!(%error, "cannot note the start of QEMU");
        }
    }

    fn read(paths: &RunPaths) -> Option<Self> {
        read_notes(&paths.start_notes()).or_else(|| read_notes(&spare_start_notes(paths)))
    }
}

fn write_notes(file: &Path, notes: &impl Serialize) -> io::Result<()> {
    let notes = serde_json::to_vec(notes)?;
    fresh_log(file)?;
    private_log(file)?.write_all(&notes)
}

fn read_notes<N: DeserializeOwned>(file: &Path) -> Option<N> {
    serde_json::from_slice(&read_private(file, MAX_START_NOTES_BYTES)?).ok()
}

/// Returns the file of the notes of a run whose records are on a full disk.
pub(super) fn spare_start_notes(paths: &RunPaths) -> PathBuf {
    paths.sockets.join("start-notes.json")
}

/// Returns the last `SHUTDOWN` of a run, whose QEMU may be alive.
pub(super) fn shutdown_event(paths: &RunPaths) -> Option<RunEnd> {
    ExitEvidence { events: last_events(paths), ..ExitEvidence::default() }.shutdown_report()?.end
}

/// Returns why the QEMU of a run ended.
pub(super) fn exit_report(run: &Run) -> ExitReport {
    let ask = |process: &ProcessIdentity, notes: &StartNotes| {
        read_notes(&run.paths.exit_notes()).unwrap_or_else(|| kernel_report(process, &notes.kills))
    };
    conclude(run, ask)
}

/// Returns how the guest ended a QEMU with this exit code before a monitor responded; `None` if it did not.
pub(super) fn guest_end(paths: &RunPaths, exit_code: i32) -> Option<ExitReport> {
    // Another program than QEMU, or a QEMU that printed a list, has no monitors.
    qmp_log::has_greeting(&paths.qmp_log()).then(|| evidence(paths, &StartNotes::read(paths)?).guest_end(exit_code))?
}

/// Notes what the kernel says about the end of a run, if nothing else explains it.
pub(super) fn note_exit(run: &Run) {
    conclude(run, |process, notes| {
        let report = kernel_report(process, &notes.kills);
        // Without it the kernel is asked again each time.
        if let Err(error) = write_notes(&run.paths.exit_notes(), &report) {
            tracing::warn!(%error, "cannot note the end of QEMU");
        }
        report
    });
}

/// Concludes why the QEMU of a run ended; asks the kernel only about an end that nothing else explains.
fn conclude(run: &Run, kernel: impl FnOnce(&ProcessIdentity, &StartNotes) -> KernelReport) -> ExitReport {
    let notes = StartNotes::read(&run.paths).unwrap_or_default();
    let mut evidence = evidence(&run.paths, &notes);
    let report = evidence.conclude();
    match &run.process {
        Some(process) if report.end.is_none() && may_be_in_kernel_log(run) => {
            evidence.kernel = kernel(process, &notes);
            evidence.conclude()
        }
        _ => report,
    }
}

/// Returns what the files of a run say about its end.
fn evidence(paths: &RunPaths, notes: &StartNotes) -> ExitEvidence {
    let removed_pid_file = removed_pid_file(notes, paths);
    let cpu_log = read_tail(&paths.cpu_log(), MAX_CPU_LOG_BYTES).unwrap_or_default();
    ExitEvidence {
        events: last_events(paths),
        stderr: last_stderr(paths),
        removed_pid_file,
        has_debug_exit: notes.debug_exit,
        had_triple_fault: String::from_utf8_lossy(&cpu_log).lines().any(|line| line == TRIPLE_FAULT),
        kernel: KernelReport::Unknown,
    }
}

/// Returns whether the end of a run, if it is recorded, is one of those that the kernel reports.
fn may_be_in_kernel_log(run: &Run) -> bool {
    let Phase::Ended(RunEnd { reason, .. }) = run.phase else { return true };
    matches!(reason, StopReason::Crashed | StopReason::OutOfMemory)
}

/// Returns more about why the guest of a run does not run.
pub(super) fn halt_report(paths: &RunPaths, halted: HaltReason) -> (HaltReason, StateDetails) {
    explain_halt(halted, &last_events(paths), &last_stderr(paths))
}

/// Counts how often the guest of a run reset itself.
pub(super) fn guest_resets(paths: &RunPaths) -> u64 {
    let mut counter = ResetCounter::default();
    for_each_event(paths, &["RESET"], |event| counter.push(event));
    counter.count()
}

/// Returns how long the guest of a run did not run since it booted.
pub(super) fn stopped_time(paths: &RunPaths) -> StoppedTime {
    let mut time = StoppedTime::default();
    for_each_event(paths, &StoppedTime::EVENTS, |event| time.push(event));
    time
}

/// Reads the events of these names in the last part of the QMP log.
fn for_each_event(paths: &RunPaths, names: &[&str], mut read: impl FnMut(&QmpEvent)) {
    let Ok(log) = open_at_tail(&paths.qmp_log(), MAX_RESET_LOG_BYTES) else { return };
    let lines = BufReader::with_capacity(64 << 10, log).split(b'\n').map_while(Result::ok);
    // Most events are others; parsing them all would take long.
    let quoted: Vec<Vec<u8>> = names.iter().map(|name| format!("\"{name}\"").into_bytes()).collect();
    let has = |line: &[u8], name: &[u8]| line.windows(name.len()).any(|part| part == name);
    let is_wanted = |line: &Vec<u8>| quoted.iter().any(|name| has(line, name));
    lines.filter(is_wanted).filter_map(|line| QmpEvent::parse(&line)).for_each(|event| read(&event));
}

fn open_at_tail(log: &Path, length: u64) -> io::Result<File> {
    let mut log = open_regular(log)?;
    let start = log.metadata()?.len().saturating_sub(length);
    log.seek(SeekFrom::Start(start))?;
    Ok(log)
}

/// Returns whether QEMU removed its pid file; `None` if the other files of the run are gone as well, as after a restart
/// of the host, or because another process just removes them.
fn removed_pid_file(notes: &StartNotes, paths: &RunPaths) -> Option<bool> {
    let is_there = |path: &Path| fs::symlink_metadata(path).is_ok();
    // In this order: of the files of a run, the pid file is removed last.
    let has_pid_file = is_there(&paths.pid_file());
    let is_known = notes.pid_file && is_there(&console_lock(paths));
    is_known.then_some(!has_pid_file)
}

fn last_events(paths: &RunPaths) -> Vec<QmpEvent> {
    let tail = read_tail(&paths.qmp_log(), MAX_QMP_LOG_TAIL_BYTES).unwrap_or_default();
    tail.split(|byte| *byte == b'\n').filter_map(QmpEvent::parse).collect()
}

fn last_stderr(paths: &RunPaths) -> String {
    read_tail(&paths.qemu_log(), MAX_STDERR_TAIL_BYTES).map(|tail| stderr_tail(&tail)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use maqet_domain::vm::{BootId, BootNumber};

    use super::*;
    use crate::hypervisor::run_paths;

    #[test]
    fn test_removed_pid_file_during_removal_by_another_is_unknown() {
        let root = tempfile::tempdir().unwrap();
        let paths = RunPaths::new(&root.path().join("r"), &root.path().join("s"), BootNumber(1));
        run_paths::create(&paths).unwrap();
        fs::write(paths.pid_file(), "7\n").unwrap();
        let notes = StartNotes { pid_file: true, ..StartNotes::default() };

        let left = removed_pid_file(&notes, &paths);
        fs::remove_file(paths.pid_file()).unwrap();
        let removed = removed_pid_file(&notes, &paths);
        fs::remove_file(console_lock(&paths)).unwrap();
        let being_removed = removed_pid_file(&notes, &paths);

        assert_eq!([left, removed, being_removed], [Some(false), Some(true), None]);
    }

    fn run(root: &Path, phase: Phase) -> Run {
        let paths = RunPaths::new(&root.join("r"), &root.join("s"), BootNumber(1));
        run_paths::create(&paths).unwrap();
        let process = ProcessIdentity { pid: 1, start_ticks: 0, boot_id: BootId("other".to_owned()), namespace: None };
        let started_at = maqet_domain::Timestamp::UNIX_EPOCH;
        Run { boot: BootNumber(1), phase, process: Some(process), started_at, paths, forwards: Vec::new() }
    }

    #[test]
    fn test_exit_report_noted_end_is_not_asked_again() {
        let root = tempfile::tempdir().unwrap();
        let run = run(root.path(), Phase::Running);
        note_exit(&run);
        let noted: KernelReport = read_notes(&run.paths.exit_notes()).unwrap();
        let killed = KernelReport::OutOfMemory("the kernel killed it".to_owned());
        write_notes(&run.paths.exit_notes(), &killed).unwrap();

        let report = exit_report(&run);

        assert_eq!(noted, KernelReport::Unknown);
        assert_eq!(report.end.map(|end| end.reason), Some(StopReason::OutOfMemory));
    }

    #[test]
    fn test_exit_report_of_end_that_kernel_does_not_tell_ignores_it() {
        let root = tempfile::tempdir().unwrap();
        let run = run(root.path(), Phase::Ended(RunEnd { reason: StopReason::HostSignal, at: None }));
        write_notes(&run.paths.exit_notes(), &KernelReport::Fault("segfault".to_owned())).unwrap();

        assert_eq!(exit_report(&run), ExitReport::default());
    }
}
