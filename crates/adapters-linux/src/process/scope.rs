//! Where process IDs are valid: the boot of the host and the PID namespace of this process.

use std::fs;
use std::os::linux::fs::MetadataExt;

use maqet_domain::vm::{BootId, PidNamespace, ProcessIdentity};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::identity::{Stat, read_stat};
use super::{list, proc_file};

/// The boot of the host and the PID namespace in which process IDs mean what they mean to this process.
///
/// The folders of `/proc` are named by the numbers of *one* namespace, that of the process that mounted it. In a namespace
/// without a `/proc` of its own (`unshare --pid` without `--mount-proc`), they are the numbers of another one: then no
/// process is visible, since a number found there would refer to another process in a system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PidScope {
    boot_id: BootId,
    /// `None` on a kernel without namespaces.
    namespace: Option<PidNamespace>,
    /// Whether `/proc` shows the processes of this namespace.
    is_proc_own: bool,
}

impl PidScope {
    /// Reads the scope of this process.
    pub fn current() -> Self {
        let status = proc_file::read_text("/proc/self/status").unwrap_or_default();
        let is_proc_own = is_shown_as(&status, std::process::id());
        // The link leads to the namespace itself, whichever `/proc` it is in.
        let found = fs::metadata("/proc/self/ns/pid").ok().map(|found| PidNamespace(found.st_ino()));
        let namespace = found.or_else(|| (!is_proc_own).then_some(PidNamespace::UNIDENTIFIED));
        Self { boot_id: boot_id(), namespace, is_proc_own }
    }

    /// Returns the boot ID of the running kernel; empty where it is not available, which is then so for every process.
    pub const fn boot_id(&self) -> &BootId {
        &self.boot_id
    }

    /// Returns the PID namespace, if the kernel has namespaces.
    pub const fn namespace(&self) -> Option<PidNamespace> {
        self.namespace
    }

    /// Returns whether `/proc` shows the processes of this namespace; otherwise none is visible.
    pub const fn is_proc_own(&self) -> bool {
        self.is_proc_own
    }

    /// Returns whether the ID of a process is valid here.
    pub fn contains(&self, process: &ProcessIdentity) -> bool {
        process.boot_id == self.boot_id && self.has_same_namespace(process) && self.is_proc_own
    }

    /// Returns whether the ID of a process is one of this namespace.
    fn has_same_namespace(&self, process: &ProcessIdentity) -> bool {
        // An identity of a version that did not record it.
        let (Some(own), Some(other)) = (self.namespace, process.namespace) else { return true };
        own == other && own != PidNamespace::UNIDENTIFIED
    }

    /// Returns the IDs of all visible processes.
    pub fn pids(&self) -> impl Iterator<Item = u32> + use<> {
        let is_proc_own = self.is_proc_own;
        is_proc_own.then(list::pids).into_iter().flatten()
    }

    /// Returns the identity of the process that has `pid` now, if it is alive and visible.
    pub fn identify(&self, pid: u32) -> Option<ProcessIdentity> {
        let stat = self.stat_of(pid).filter(|stat| stat.is_alive())?;
        Some(self.identity(pid, stat.start_ticks))
    }

    /// Returns the identity of this process.
    pub fn identify_self(&self) -> ProcessIdentity {
        let stat = super::identity::read_own_stat();
        self.identity(std::process::id(), stat.map_or(0, |stat| stat.start_ticks))
    }

    /// Returns the identity of a process that started at `start_ticks`.
    pub fn identity(&self, pid: u32, start_ticks: u64) -> ProcessIdentity {
        ProcessIdentity { pid, start_ticks, boot_id: self.boot_id.clone(), namespace: self.namespace }
    }

    /// Returns whether exactly this process is alive and visible.
    pub fn is_alive(&self, process: &ProcessIdentity) -> bool {
        self.contains(process) && self.is_that(process, read_stat(process.pid))
    }

    /// Returns whether `found`, which has the pid of `process` here, is `process` itself and alive.
    ///
    /// A pid is reused, and so are a start time after a reboot and both in another namespace; all together are not.
    fn is_that(&self, process: &ProcessIdentity, found: Option<Stat>) -> bool {
        let is_same = |stat: Stat| stat.is_alive() && stat.start_ticks == process.start_ticks;
        self.contains(process) && found.is_some_and(is_same)
    }

    /// Reads the state of exactly this process, alive or dead; `None` if it is not visible.
    pub(super) fn stat(&self, process: &ProcessIdentity) -> Option<Stat> {
        let found = self.contains(process).then(|| read_stat(process.pid)).flatten();
        found.filter(|stat| stat.start_ticks == process.start_ticks)
    }

    /// Reads the state of the process that has `pid` now; `None` if there is none, or if it is not visible.
    pub fn stat_of(&self, pid: u32) -> Option<Stat> {
        self.is_proc_own.then(|| read_stat(pid)).flatten()
    }

    /// Reaps exactly this process if it is a dead child of this one; returns whether there is nothing left to reap.
    ///
    /// Its state is read once: a process that was alive here and is dead at a second look would never be reaped.
    pub fn reap(&self, process: &ProcessIdentity) -> bool {
        let Some(stat) = self.stat(process) else { return true };
        let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return true };
        // A process is dead in `/proc` with its main thread, and can be reaped with its last one.
        let reaped = || waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        stat.state == b'Z' && !matches!(reaped(), Ok(None))
    }
}

fn boot_id() -> BootId {
    let text = proc_file::read_text("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    BootId(text.trim().to_owned())
}

/// Returns whether `/proc/self/status` (proc(5)) describes a process by the ID that it has itself, and in one namespace.
///
/// `NSpid` holds its IDs from the namespace of `/proc` to its own; kernels without namespaces omit it.
fn is_shown_as(status: &str, pid: u32) -> bool {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let is_same = |ids: &str| ids.trim().parse() == Ok(pid);
    field("Pid:").is_some_and(is_same) && field("NSpid:").is_none_or(is_same)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use proptest::prelude::*;
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn test_is_shown_as_needs_one_id_in_one_namespace() {
        assert!(is_shown_as("Name:\tmaqet\nPid:\t42\nNSpid:\t42\n", 42));
        assert!(is_shown_as("Pid:\t42\n", 42), "a kernel without namespaces");
        assert!(!is_shown_as("Pid:\t42\nNSpid:\t42\t1\n", 1), "the /proc of an outer namespace");
        assert!(!is_shown_as("Pid:\t42\nNSpid:\t42\t42\n", 42), "the same ID in both");
        assert!(!is_shown_as("", 42), "the /proc of a namespace without this process");
    }

    #[test]
    fn test_scope_with_foreign_proc_shows_no_process() {
        let scope = PidScope { is_proc_own: false, ..PidScope::current() };

        assert_eq!(scope.identify(std::process::id()), None);
        assert!(!scope.is_alive(&scope.identify_self()));
        assert_eq!(scope.pids().count(), 0);
    }

    #[test]
    fn test_scope_unidentified_namespace_equals_none() {
        let scope = PidScope { namespace: Some(PidNamespace::UNIDENTIFIED), ..PidScope::current() };

        assert!(!scope.is_alive(&scope.identify_self()));
    }

    #[test]
    fn test_identify_own_process_is_alive() {
        let scope = PidScope::current();
        let me = scope.identify(std::process::id()).unwrap();

        assert_eq!(scope.identify_self(), me);
        assert!(scope.is_alive(&me));
        assert!(scope.is_alive(&ProcessIdentity { namespace: None, ..me.clone() }), "of a version without namespaces");
        assert!(!scope.is_alive(&ProcessIdentity { start_ticks: me.start_ticks + 1, ..me.clone() }));
        assert!(!scope.is_alive(&ProcessIdentity { boot_id: BootId("another".to_owned()), ..me.clone() }));
        assert!(!scope.is_alive(&ProcessIdentity { namespace: Some(PidNamespace(1)), ..me }));
    }

    #[test]
    fn test_reap_tells_whether_a_child_is_left() {
        let scope = PidScope::current();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let process = scope.identify(child.id()).unwrap();

        assert!(!scope.reap(&process), "it runs");
        drop(child.stdin.take());
        while !scope.reap(&process) {
            std::thread::yield_now();
        }

        assert_eq!(child.wait().unwrap_err().raw_os_error(), Some(Errno::CHILD.raw_os_error()));
        assert!(scope.reap(&process), "it is gone");
    }

    /// A process that was started once: in which boot and namespace, with which pid, when.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Spawned {
        boot: u8,
        namespace: u64,
        pid: u32,
        start_ticks: u64,
        /// Its state now, if its pid was not reused.
        state: u8,
    }

    impl Spawned {
        fn identity(self) -> ProcessIdentity {
            let boot_id = BootId(self.boot.to_string());
            let namespace = Some(PidNamespace(self.namespace));
            ProcessIdentity { pid: self.pid, start_ticks: self.start_ticks, boot_id, namespace }
        }
    }

    /// Processes started one after the other, in few boots and namespaces and with few pids, so that all values are reused often.
    fn starts() -> impl Strategy<Value = Vec<Spawned>> {
        let state = proptest::sample::select(b"RSDTtZXxI".to_vec());
        let step = (any::<bool>(), 1..3_usize, 1..4_u32, 1..3_u64, state);
        proptest::collection::vec(step, 1..12).prop_map(|steps| {
            let (mut boot, mut ticks) = (0, [0; 3]);
            let next = |(is_rebooted, namespace, pid, later, state): (bool, usize, u32, u64, u8)| {
                // The count restarts with each boot; processes of several namespaces may start at the same time.
                if is_rebooted {
                    (boot, ticks) = (boot + 1, [0; 3]);
                }
                ticks[namespace] += later;
                Spawned { boot, namespace: namespace as u64, pid, start_ticks: ticks[namespace], state }
            };
            steps.into_iter().map(next).collect()
        })
    }

    proptest! {
        // A signal to the wrong process cannot be undone.
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        #[test]
        fn test_is_that_never_matches_another_process(
            starts in starts(),
            recorded in any::<proptest::sample::Index>(),
            is_of_another_boot in proptest::bool::weighted(0.1),
            namespace in 1..3_u64,
        ) {
            let recorded = starts[recorded.index(starts.len())];
            let boot = starts[starts.len() - 1].boot + u8::from(is_of_another_boot);
            // The process started last with a pid, in this boot and namespace, has it.
            let is_here = |start: &&Spawned| start.boot == boot && start.namespace == namespace;
            let has_pid = starts.iter().rev().filter(is_here).find(|start| start.pid == recorded.pid);
            let stat = has_pid.map(|start| Stat {
                state: start.state,
                is_exiting: false,
                cpu_ticks: 0,
                threads: 1,
                start_ticks: start.start_ticks,
            });

            let boot_id = BootId(boot.to_string());
            let scope = PidScope { boot_id, namespace: Some(PidNamespace(namespace)), is_proc_own: true };
            let is_it = scope.is_that(&recorded.identity(), stat);

            let lives = has_pid == Some(&recorded) && !matches!(recorded.state, b'Z' | b'X' | b'x');
            prop_assert_eq!(is_it, lives);
        }
    }
}
