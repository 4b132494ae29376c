//! Starting QEMU, and what remains after its end.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use maqet_adapters_linux::LinuxProcesses;
use maqet_adapters_qemu::QemuMonitors;
use maqet_domain::port::{Hypervisor, LaunchError, Monitors, Processes, Signal};
use maqet_domain::qmp::QmpCommand;
use maqet_domain::qmp::RunState;
use maqet_domain::vm::{BootNumber, ExitReport, MonitorAnswer, MonitorRole, Phase, ProcessIdentity, Run, StopReason};
use maqet_testkit::qemu;

use crate::kit::{Bench, PAUSED, TIMEOUT, script, wait};

/// Returns why the process of a bench ended.
async fn exit_report(bench: &Bench, process: ProcessIdentity) -> ExitReport {
    let (started_at, paths) = (jiff::Timestamp::now(), bench.paths.clone());
    let process = Some(process);
    let run = Run { boot: BootNumber(1), phase: Phase::Running, process, started_at, paths, forwards: Vec::new() };
    bench.hypervisor.exit_report(&run).await
}

fn mode_of(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().mode() & 0o777
}

#[test]
fn test_launch_returns_running_qemu_that_replies() {
    wait(async {
        let bench = Bench::new();

        let process = bench.start().await;

        assert!(LinuxProcesses::new().is_alive(&process));
        let answer = QemuMonitors.answer(&bench.paths, TIMEOUT).await;
        assert_eq!(answer, MonitorAnswer::State(RunState::Prelaunch));
    });
}

#[test]
fn test_launch_files_are_private() {
    wait(async {
        let bench = Bench::new();

        bench.start().await;

        let paths = &bench.paths;
        for folder in [&paths.sockets, &paths.records] {
            assert_eq!(mode_of(folder), 0o700);
            assert_eq!(mode_of(folder.parent().unwrap()), 0o700);
        }
        for role in MonitorRole::ALL {
            assert_eq!(mode_of(&paths.monitor(role)), 0o600);
        }
        let logs = [paths.qemu_log(), paths.serial_log(), paths.qmp_log()];
        for file in logs.into_iter().chain([paths.qmp_log_fifo(), paths.pid_file(), paths.serial_input()]) {
            assert_eq!(mode_of(&file), 0o600, "{}", file.display());
        }
    });
}

#[test]
fn test_launch_qemu_has_own_session_and_no_inherited_files() {
    wait(async {
        let bench = Bench::new();
        // As a shell passes on the file of `flock 9`.
        let held = std::fs::File::create(bench.folder.path().join("held")).unwrap();
        rustix::io::fcntl_setfd(&held, rustix::io::FdFlags::empty()).unwrap();

        let process = bench.start().await;

        let open: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", process.pid))
            .unwrap()
            .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
            .map(|path| path.display().to_string())
            .collect();
        assert!(!open.iter().any(|path| path.ends_with("/held")), "{open:?}");
        assert!(!open.iter().any(|path| path.contains("pidfd")), "{open:?}");
        let pid = rustix::process::Pid::from_raw(process.pid.try_into().unwrap());
        assert_eq!(rustix::process::getsid(pid).ok(), pid);
        assert_eq!(std::fs::read_link(format!("/proc/{}/cwd", process.pid)).unwrap(), Path::new("/"));
    });
}

#[test]
fn test_launch_refused_option_shows_message_and_leaves_nothing() {
    wait(async {
        let bench = Bench::new();

        let refusal = bench.refusal(r#"{"args": ["-nonsense"]}"#).await;

        let LaunchError::Exited { status, stderr_tail } = refusal else { panic!("{refusal:?}") };
        assert_eq!(status, "exit code 1");
        assert_eq!(stderr_tail, "-nonsense: invalid option");
        assert_eq!(bench.hypervisor.find_process(&bench.paths).await, None);
        assert!(!bench.paths.sockets.exists());
        assert!(bench.paths.qemu_log().exists());
    });
}

#[test]
fn test_launch_cancelled_and_cleared_leaves_no_process() {
    wait(async {
        let bench = Bench::new();
        let launch = bench.launch_of(PAUSED);

        for timeout in [0, 1, 3, 8, 15] {
            let launched = bench.hypervisor.launch(&launch);
            let dropped = tokio::time::timeout(Duration::from_millis(timeout), launched).await;

            assert!(dropped.is_err(), "the machine was faster than the test");
            bench.hypervisor.remove_sockets(&bench.paths).await;
            assert_eq!(bench.hypervisor.find_process(&bench.paths).await, None, "after {timeout} ms");
            assert!(!bench.paths.sockets.exists(), "after {timeout} ms");
        }
    });
}

#[test]
fn test_launch_hanging_program_is_killed_with_children() {
    wait(async {
        let bench = Bench::new();
        let marker = bench.folder.path().join("child.pid");
        let body = format!("echo 'about to hang' >&2\nsleep 1000 & echo $! > {}\nwait", marker.display());
        let hanging = script(bench.folder.path(), "hanging", &body);
        let mut launch = bench.launch_with(&hanging, PAUSED);
        launch.timeout = Duration::from_millis(300);

        let refusal = bench.hypervisor.launch(&launch).await.unwrap_err();

        let LaunchError::TimedOut { stderr_tail, .. } = refusal else { panic!("{refusal:?}") };
        assert_eq!(stderr_tail, "about to hang");
        assert_eq!(bench.hypervisor.find_process(&bench.paths).await, None);
        let child = std::fs::read_to_string(marker).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    });
}

#[test]
fn test_launch_daemonizing_qemu_is_killed() {
    wait(async {
        let bench = Bench::new();

        let wrapper =
            script(bench.folder.path(), "wrapper", &format!("exec {} \"$@\" -daemonize", qemu::emulator().display()));
        let launch = bench.launch_with(&wrapper, PAUSED);

        let refusal = bench.hypervisor.launch(&launch).await.unwrap_err();

        assert!(matches!(refusal, LaunchError::Exited { .. }), "{refusal:?}");
        assert_eq!(bench.hypervisor.find_process(&bench.paths).await, None);
    });
}

#[test]
fn test_launch_wrapper_returns_identity_of_qemu() {
    wait(async {
        let bench = Bench::new();
        let marker = bench.folder.path().join("wrapper.pid");
        let body = format!("echo $$ > {}\n{} \"$@\"\nexit 3", marker.display(), qemu::emulator().display());
        let wrapper = script(bench.folder.path(), "wrapper", &body);

        let process = bench.hypervisor.launch(&bench.launch_with(&wrapper, PAUSED)).await.unwrap().process;
        let found = bench.hypervisor.find_process(&bench.paths).await;
        let program = std::fs::read_link(format!("/proc/{}/exe", process.pid)).unwrap();
        LinuxProcesses::new().signal(&process, Signal::Kill).await.unwrap();
        assert!(LinuxProcesses::new().wait_for_exit(&process, TIMEOUT).await);

        assert!(program.ends_with("qemu-system-x86_64"), "{}", program.display());
        assert_eq!(found, Some(process));
        let shell = std::fs::read_to_string(marker).unwrap();
        let until = Instant::now() + TIMEOUT;
        // Reaps the wrapper, which would otherwise stay as a zombie of this test.
        while Path::new("/proc").join(shell.trim()).exists() {
            assert!(Instant::now() < until, "the wrapper is still there");
            bench.hypervisor.remove_sockets(&bench.paths).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(bench.hypervisor.find_process(&bench.paths).await, None);
    });
}

#[test]
fn test_launch_wrapper_is_killed_at_the_deadline() {
    wait(async {
        let bench = Bench::new();
        let body = "QEMU \"$@\" -chardev socket,id=x,path=/tmp/none,server=on,wait=on & wait";
        let body = body.replace("/tmp", &bench.folder.path().to_string_lossy());
        let body = body.replace("QEMU", &qemu::emulator().to_string_lossy());
        let hanging = script(bench.folder.path(), "wrapper", &body);
        let mut launch = bench.launch_with(&hanging, PAUSED);
        launch.timeout = Duration::from_millis(500);

        let refusal = bench.hypervisor.launch(&launch).await.unwrap_err();

        assert!(matches!(refusal, LaunchError::TimedOut { .. }), "{refusal:?}");
        assert_eq!(bench.hypervisor.find_process(&bench.paths).await, None);
    });
}

#[test]
fn test_launch_after_failure_shows_only_new_message() {
    wait(async {
        let bench = Bench::new();
        let talks = |words| script(bench.folder.path(), words, &format!("echo {words} >&2\nexit 1"));
        let (first, second) = (talks("first"), talks("second"));
        let silent = script(bench.folder.path(), "silent", "exit 1");

        let mut words = Vec::new();
        for binary in [first, second, silent] {
            let refusal = bench.hypervisor.launch(&bench.launch_with(&binary, PAUSED)).await.unwrap_err();
            let LaunchError::Exited { stderr_tail, .. } = refusal else { panic!("{refusal:?}") };
            words.push(stderr_tail);
            std::fs::write(bench.paths.serial_log(), "left behind").unwrap();
            std::fs::write(bench.paths.qmp_log(), "left behind").unwrap();
        }
        bench.start().await;

        assert_eq!(words, ["first", "second", ""]);
        for log in [bench.paths.serial_log(), bench.paths.qmp_log()] {
            assert!(!std::fs::read_to_string(log).unwrap().contains("left behind"));
        }
    });
}

#[test]
fn test_launch_missing_program_is_an_io_error() {
    wait(async {
        let bench = Bench::new();
        let launch = bench.launch_with(Path::new("/nonexistent/qemu"), PAUSED);

        let refusal = bench.hypervisor.launch(&launch).await.unwrap_err();

        assert!(matches!(refusal, LaunchError::Io { action: "run", .. }), "{refusal:?}");
    });
}

#[test]
fn test_launch_path_too_long_for_socket_creates_nothing() {
    wait(async {
        let mut bench = Bench::new();
        bench.paths.sockets = bench.folder.path().join("x".repeat(100));
        let launch = bench.launch_of(PAUSED);

        let refusal = bench.hypervisor.launch(&launch).await.unwrap_err();

        assert!(matches!(refusal, LaunchError::SocketPathTooLong { .. }), "{refusal:?}");
        assert!(!bench.paths.records.exists());
    });
}

#[test]
fn test_launch_symlinked_folder_is_refused() {
    wait(async {
        let bench = Bench::new();
        std::fs::create_dir_all(bench.paths.sockets.parent().unwrap()).unwrap();
        symlink(bench.folder.path(), &bench.paths.sockets).unwrap();

        let refusal = bench.refusal(PAUSED).await;

        assert!(matches!(refusal, LaunchError::Io { .. }), "{refusal:?}");
    });
}

#[test]
fn test_launch_in_same_paths_after_kill_works() {
    wait(async {
        let bench = Bench::new();
        let processes = LinuxProcesses::new();
        let first = bench.start().await;
        processes.signal(&first, Signal::Kill).await.unwrap();
        assert!(processes.wait_for_exit(&first, TIMEOUT).await);

        let second = bench.start().await;

        assert_ne!(first, second);
        assert!(processes.is_alive(&second));
    });
}

#[test]
fn test_find_unrecorded_qemu_is_found() {
    wait(async {
        let bench = Bench::new();

        let process = bench.start().await;

        assert_eq!(bench.hypervisor.find_process(&bench.paths).await, Some(process));
    });
}

#[test]
fn test_exit_report_after_quit_is_host_quit() {
    wait(async {
        let bench = Bench::new();
        let process = bench.start().await;

        QemuMonitors.execute(&bench.paths, &QmpCommand::new("quit"), TIMEOUT).await.unwrap();
        assert!(LinuxProcesses::new().wait_for_exit(&process, TIMEOUT).await);

        let report = exit_report(&bench, process).await;
        assert_eq!(report.end.unwrap().reason, StopReason::HostQuit);
    });
}

#[test]
fn test_exit_report_after_sigterm_names_the_sender() {
    wait(async {
        let bench = Bench::new();
        let (process, processes) = (bench.start().await, LinuxProcesses::new());

        processes.signal(&process, Signal::Term).await.unwrap();
        assert!(processes.wait_for_exit(&process, TIMEOUT).await);

        let report = exit_report(&bench, process).await;
        assert_eq!(report.end.unwrap().reason, StopReason::HostSignal);
        assert_eq!(
            (report.details.signal.as_deref(), report.details.sender_pid),
            (Some("SIGTERM"), Some(std::process::id()))
        );
    });
}

#[test]
fn test_exit_report_of_guest_reset_is_triple_fault() {
    wait(async {
        let bench = Bench::new();
        let disk = bench.folder.path().join("boot");
        // lidt [0x7c20]; int3: without interrupt vectors a CPU resets, and `-no-reboot` makes that an end.
        let mut sector = [0; 512];
        sector[..6].copy_from_slice(&[0x0f, 0x01, 0x1e, 0x20, 0x7c, 0xcc]);
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        std::fs::write(&disk, sector).unwrap();
        let drive = format!("file={},format=raw", disk.display());
        let definition = format!(r#"{{"memory": "32M", "args": ["-no-reboot", "-drive", "{drive}"]}}"#);

        let process = bench.hypervisor.launch(&bench.launch_of(&definition)).await.unwrap();
        assert!(LinuxProcesses::new().wait_for_exit(&process.process, TIMEOUT).await);

        let report = exit_report(&bench, process.process).await;
        assert_eq!(report.end.unwrap().reason, StopReason::TripleFault);
    });
}

#[test]
fn test_exit_report_after_sigkill_is_unexplained() {
    wait(async {
        let bench = Bench::new();
        let (process, processes) = (bench.start().await, LinuxProcesses::new());

        processes.signal(&process, Signal::Kill).await.unwrap();
        assert!(processes.wait_for_exit(&process, TIMEOUT).await);

        assert!(!processes.is_alive(&process));
        assert_eq!(exit_report(&bench, process).await, ExitReport::default());
    });
}

#[test]
fn test_clear_and_forget_leave_nothing() {
    wait(async {
        let bench = Bench::new();
        let (process, processes) = (bench.start().await, LinuxProcesses::new());
        processes.signal(&process, Signal::Kill).await.unwrap();
        assert!(processes.wait_for_exit(&process, TIMEOUT).await);

        bench.hypervisor.remove_sockets(&bench.paths).await;
        assert!(!bench.paths.sockets.exists());
        assert!(bench.paths.qemu_log().exists());

        let (sockets, records) = (bench.folder.path().join("r/vm"), bench.folder.path().join("s/vm"));
        bench.hypervisor.remove_vm_files(&sockets, &records).await;
        assert!(!sockets.exists() && !records.exists());
    });
}
