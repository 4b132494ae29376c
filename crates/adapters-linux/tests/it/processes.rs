//! Real processes: recycled pids, zombies, running and ended ones.

use std::process::{Child, Command};
use std::time::Duration;

use maqet_adapters_linux::LinuxProcesses;
use maqet_domain::port::{ProcessError, Processes, Signal};
use maqet_domain::vm::{BootId, PidNamespace, ProcessIdentity};

use crate::kit::{TIMEOUT, wait};

/// A process that ends with its test.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        // `spawn` returns in the middle of `execve`, before the kernel has stored the arguments.
        let arguments = format!("/proc/{}/cmdline", child.id());
        while std::fs::read(&arguments).unwrap().is_empty() {
            std::thread::yield_now();
        }
        Self(child)
    }

    /// Returns its identity from the kernel.
    fn identity(&self) -> ProcessIdentity {
        let pid = self.0.id();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let start_ticks = stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap().parse().unwrap();
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        ProcessIdentity { pid, start_ticks, boot_id: BootId(boot_id.trim().to_owned()), namespace: None }
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Signals a recorded process whose pid was recycled.
#[track_caller]
fn check_stranger(change: impl FnOnce(ProcessIdentity) -> ProcessIdentity) {
    wait(async {
        let mut stranger = Sleeper::start();
        let recorded = change(stranger.identity());
        let processes = LinuxProcesses::new();

        processes.signal(&recorded, Signal::Kill).await.unwrap();

        assert!(!processes.is_alive(&recorded));
        assert!(processes.wait_for_exit(&recorded, TIMEOUT).await);
        assert!(stranger.lives());
    });
}

#[test]
fn test_signal_recycled_pid_is_never_sent() {
    check_stranger(|process| ProcessIdentity { start_ticks: process.start_ticks + 1, ..process });
    check_stranger(|process| ProcessIdentity { start_ticks: process.start_ticks - 1, ..process });
    check_stranger(|process| ProcessIdentity { boot_id: BootId("another".to_owned()), ..process });
}

#[test]
fn test_signal_recorded_process_ends_it() {
    wait(async {
        let sleeper = Sleeper::start();
        let (process, processes) = (sleeper.identity(), LinuxProcesses::new());
        assert!(processes.is_alive(&process));

        processes.signal(&process, Signal::Term).await.unwrap();

        assert!(processes.wait_for_exit(&process, TIMEOUT).await);
        assert!(!processes.is_alive(&process));
    });
}

#[test]
fn test_arguments_are_those_of_exactly_this_process() {
    let sleeper = Sleeper::start();
    let (process, processes) = (sleeper.identity(), LinuxProcesses::new());
    let stranger = ProcessIdentity { start_ticks: process.start_ticks + 1, ..process.clone() };

    assert_eq!(processes.args(&process), ["sleep", "1000"]);
    assert_eq!(processes.args(&stranger), Vec::<String>::new());
}

#[test]
fn test_signal_ended_process_succeeds() {
    wait(async {
        let sleeper = Sleeper::start();
        let process = sleeper.identity();
        drop(sleeper);

        LinuxProcesses::new().signal(&process, Signal::Kill).await.unwrap();
    });
}

#[test]
fn test_signal_of_other_namespace_is_refused() {
    wait(async {
        let mut sleeper = Sleeper::start();
        let process = ProcessIdentity { namespace: Some(PidNamespace(1)), ..sleeper.identity() };
        let processes = LinuxProcesses::new();

        let signaled = processes.signal(&process, Signal::Kill).await;
        let has_exited = processes.wait_for_exit(&process, Duration::from_millis(50)).await;

        assert!(matches!(signaled, Err(ProcessError::OtherNamespace)), "{signaled:?}");
        assert!(!has_exited && !processes.is_alive(&process) && sleeper.lives());
        assert!(processes.args(&process).is_empty());
    });
}

#[test]
fn test_is_alive_zombie_is_dead() {
    wait(async {
        // The shell starts a child and becomes a program that never reaps it.
        let script = "sleep 0.05 & echo $!; exec sleep 1000";
        let mut parent =
            Sleeper(Command::new("sh").args(["-c", script]).stdout(std::process::Stdio::piped()).spawn().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(parent.0.stdout.take().unwrap()), &mut line).unwrap();
        let pid: u32 = line.trim().parse().unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let start_ticks = stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap().parse().unwrap();
        let process = ProcessIdentity { pid, start_ticks, ..parent.identity() };
        let processes = LinuxProcesses::new();

        assert!(processes.wait_for_exit(&process, TIMEOUT).await);

        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        assert!(stat.contains(") Z "), "{stat}");
        assert!(!processes.is_alive(&process));
        processes.signal(&process, Signal::Kill).await.unwrap();
    });
}

/// Returns the number of threads of a process, including ended ones that are not gone.
fn threads(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// The first thread of a killed QEMU is a zombie while others still hold its disks: seen two times in three.
#[test]
fn test_wait_gone_returns_after_last_thread_ended() {
    wait(async {
        let processes = LinuxProcesses::new();
        for _ in 0..20 {
            let words = ["-accel", "tcg", "-m", "16", "-nodefaults", "-display", "none"];
            let qemu = Sleeper(Command::new("qemu-system-x86_64").args(words).spawn().unwrap());
            let process = qemu.identity();
            while threads(process.pid) < 3 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }

            processes.signal(&process, Signal::Kill).await.unwrap();
            let is_zombie = |stat: &String| stat.contains(") Z ");
            while !std::fs::read_to_string(format!("/proc/{}/stat", process.pid)).is_ok_and(|stat| is_zombie(&stat)) {}

            assert!(processes.wait_for_exit(&process, TIMEOUT).await);
            assert!(threads(process.pid) <= 1, "threads of it are left");
            assert!(!processes.is_alive(&process));
        }
    });
}

#[test]
fn test_is_alive_ended_child_is_reaped() {
    let mut sleeper = Sleeper::start();
    let process = sleeper.identity();
    let pid = rustix::process::Pid::from_raw(process.pid.try_into().unwrap()).unwrap();
    let processes = LinuxProcesses::new();
    let stranger = ProcessIdentity { start_ticks: process.start_ticks + 1, ..process.clone() };

    assert!(processes.is_alive(&process));
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    while !std::fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap().contains(") Z ") {
        std::thread::yield_now();
    }
    assert!(!processes.is_alive(&stranger));
    assert!(std::path::Path::new(&format!("/proc/{}", process.pid)).exists(), "reaped as a stranger");

    assert!(!processes.is_alive(&process));
    assert!(!std::path::Path::new(&format!("/proc/{}", process.pid)).exists());
    assert!(sleeper.0.try_wait().is_err());
}

#[test]
fn test_wait_gone_living_process_times_out() {
    wait(async {
        let sleeper = Sleeper::start();

        let gone = LinuxProcesses::new().wait_for_exit(&sleeper.identity(), Duration::from_millis(20)).await;

        assert!(!gone);
    });
}
