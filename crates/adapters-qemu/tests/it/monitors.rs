//! The monitors of a real QEMU.

use std::time::{Duration, Instant};

use maqet_adapters_qemu::{QemuMonitors, QmpSession};
use maqet_domain::port::{MonitorSession, Monitors};
use maqet_domain::qmp::RunState;
use maqet_domain::qmp::{ErrorClass, QmpCommand, QmpError};
use maqet_domain::vm::{MonitorAnswer, MonitorRole};
use serde_json::json;

use crate::kit::{Bench, TIMEOUT, wait};

#[test]
fn test_execute_returns_the_result_value() {
    wait(async {
        let bench = Bench::new();
        bench.start().await;

        let status = QemuMonitors.execute(&bench.paths, &QmpCommand::new("query-status"), TIMEOUT).await.unwrap();

        assert_eq!(status["status"], json!("prelaunch"));
    });
}

#[test]
fn test_execute_unknown_command_has_error_class() {
    wait(async {
        let bench = Bench::new();
        bench.start().await;

        let refused = QemuMonitors.execute(&bench.paths, &QmpCommand::new("no-such"), TIMEOUT).await.unwrap_err();

        assert!(matches!(&refused, QmpError::Refused { class: ErrorClass::CommandNotFound, .. }), "{refused:?}");
    });
}

#[test]
fn test_execute_largest_reply_is_complete() {
    wait(async {
        let bench = Bench::new();
        bench.start().await;

        let schema = QemuMonitors.execute(&bench.paths, &QmpCommand::new("query-qmp-schema"), TIMEOUT).await.unwrap();

        assert!(schema.as_array().unwrap().len() > 500);
    });
}

#[test]
fn test_execute_concurrent_callers_get_their_replies() {
    wait(async {
        let bench = Bench::new();
        bench.start().await;
        let query = || async {
            for _ in 0..20 {
                QemuMonitors.execute(&bench.paths, &QmpCommand::new("query-status"), TIMEOUT).await.unwrap();
            }
        };

        tokio::join!(query(), query(), query(), query());
    });
}

#[test]
fn test_execute_monitor_in_use_by_external_times_out() {
    wait(async {
        let bench = Bench::new();
        bench.start().await;
        let _stranger = QmpSession::connect(&bench.paths.monitor(MonitorRole::Command), TIMEOUT).await.unwrap();

        let patience = Duration::from_millis(100);
        let refused = QemuMonitors.execute(&bench.paths, &QmpCommand::new("query-status"), patience).await;

        assert!(matches!(refused, Err(QmpError::GreetingTimedOut { .. })), "{refused:?}");
    });
}

#[test]
fn test_execute_without_time_for_greeting_blames_no_qemu() {
    wait(async {
        let bench = Bench::new();
        bench.start().await;

        let free = QemuMonitors.execute(&bench.paths, &QmpCommand::new("query-status"), Duration::ZERO).await;
        let session = QemuMonitors.session(&bench.paths, Duration::ZERO).await.err();
        let _stranger = QmpSession::connect(&bench.paths.monitor(MonitorRole::Command), TIMEOUT).await.unwrap();
        let taken =
            QemuMonitors.execute(&bench.paths, &QmpCommand::new("query-status"), Duration::from_millis(1)).await;

        assert!(matches!(free, Err(QmpError::ConnectTimedOut)), "{free:?}");
        assert!(matches!(session, Some(QmpError::ConnectTimedOut)), "{session:?}");
        assert!(matches!(taken, Err(QmpError::ConnectTimedOut)), "{taken:?}");
    });
}

#[test]
fn test_execute_without_time_in_busy_queue_is_connect_timed_out() {
    wait(async {
        let bench = Bench::new();
        bench.start().await;
        let lock = std::fs::File::open(bench.paths.sockets.join("qmp.lock")).unwrap();
        lock.lock().unwrap();

        let refused = QemuMonitors.execute(&bench.paths, &QmpCommand::new("query-status"), Duration::ZERO).await;

        assert!(matches!(refused, Err(QmpError::ConnectTimedOut)), "{refused:?}");
    });
}

#[test]
fn test_session_without_time_on_used_monitors_reports_it() {
    wait(async {
        let bench = Bench::new();
        bench.start().await;
        let _one = QemuMonitors.session(&bench.paths, TIMEOUT).await.unwrap();
        let _two = QemuMonitors.session(&bench.paths, TIMEOUT).await.unwrap();

        let refused = QemuMonitors.session(&bench.paths, Duration::ZERO).await.err();

        assert!(matches!(refused, Some(QmpError::SessionsInUse { .. })), "{refused:?}");
    });
}

#[test]
fn test_execute_without_qemu_has_no_monitor() {
    wait(async {
        let bench = Bench::new();

        let refused = QemuMonitors.execute(&bench.paths, &QmpCommand::new("query-status"), TIMEOUT).await;

        assert!(matches!(refused, Err(QmpError::MonitorUnavailable { .. })), "{refused:?}");
        assert_eq!(QemuMonitors.answer(&bench.paths, TIMEOUT).await, MonitorAnswer::TimedOut);
    });
}

#[test]
fn test_ping_uses_third_monitor_if_two_are_in_use() {
    wait(async {
        let bench = Bench::new();
        bench.start().await;
        let _one = QmpSession::connect(&bench.paths.monitor(MonitorRole::Command), TIMEOUT).await.unwrap();
        let _two = QmpSession::connect(&bench.paths.monitor(MonitorRole::SessionOne), TIMEOUT).await.unwrap();

        let answer = QemuMonitors.answer(&bench.paths, Duration::from_secs(1)).await;

        assert_eq!(answer, MonitorAnswer::State(RunState::Prelaunch));
    });
}

#[test]
fn test_ping_succeeds_while_command_monitor_is_locked() {
    wait(async {
        let bench = Bench::new();
        bench.start().await;
        let lock = std::fs::File::open(bench.paths.sockets.join("qmp.lock")).unwrap();
        lock.lock().unwrap();

        let answer = QemuMonitors.answer(&bench.paths, Duration::from_secs(1)).await;

        assert_eq!(answer, MonitorAnswer::State(RunState::Prelaunch));
    });
}

#[test]
fn test_ping_with_all_monitors_locked_is_busy() {
    wait(async {
        let bench = Bench::new();
        bench.start().await;
        let locks: Vec<std::fs::File> = ["qmp.lock", "qmp-s1.lock", "qmp-s2.lock"]
            .map(|name| std::fs::File::open(bench.paths.sockets.join(name)).unwrap())
            .into();
        for lock in &locks {
            lock.lock().unwrap();
        }

        let answer = QemuMonitors.answer(&bench.paths, Duration::from_millis(50)).await;

        assert_eq!(answer, MonitorAnswer::Blocked);
    });
}

#[test]
fn test_execute_monitor_always_locked_times_out() {
    wait(async {
        let bench = Bench::new();
        bench.start().await;
        let lock = std::fs::File::open(bench.paths.sockets.join("qmp.lock")).unwrap();
        lock.lock().unwrap();

        let patience = Duration::from_millis(60);
        let refused = QemuMonitors.execute(&bench.paths, &QmpCommand::new("query-status"), patience).await;

        assert!(matches!(refused, Err(QmpError::QueueTimedOut { after }) if after >= patience), "{refused:?}");
    });
}

#[test]
fn test_ping_local_error_is_not_unresponsive() {
    wait(async {
        let bench = Bench::new();
        bench.start().await;
        for name in ["qmp.lock", "qmp-s1.lock", "qmp-s2.lock"] {
            let lock = bench.paths.sockets.join(name);
            std::fs::remove_file(&lock).unwrap();
            // A symlink in place of the lock cannot be opened, by root either.
            std::os::unix::fs::symlink("/dev/null", &lock).unwrap();
        }

        let locks_broken = QemuMonitors.answer(&bench.paths, TIMEOUT).await;
        for name in ["qmp.lock", "qmp-s1.lock", "qmp-s2.lock"] {
            std::fs::remove_file(bench.paths.sockets.join(name)).unwrap();
        }
        let socket = bench.paths.monitor(MonitorRole::Command);
        std::fs::remove_file(&socket).unwrap();
        std::os::unix::fs::symlink(&socket, &socket).unwrap();
        let socket_broken = QemuMonitors.answer(&bench.paths, TIMEOUT).await;

        assert_eq!([locks_broken, socket_broken], [MonitorAnswer::Blocked; 2]);
    });
}

#[test]
fn test_ping_socket_without_server_is_unresponsive() {
    wait(async {
        let bench = Bench::new();
        std::fs::create_dir_all(&bench.paths.sockets).unwrap();
        drop(std::os::unix::net::UnixListener::bind(bench.paths.monitor(MonitorRole::Command)).unwrap());

        assert_eq!(QemuMonitors.answer(&bench.paths, TIMEOUT).await, MonitorAnswer::TimedOut);
    });
}

#[test]
fn test_ping_stopped_process_is_unresponsive_in_time() {
    wait(async {
        let bench = Bench::new();
        let process = bench.start().await;
        let pid = rustix::process::Pid::from_raw(process.pid.try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        while !std::fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap().contains(") T ") {
            tokio::task::yield_now().await;
        }

        let started = Instant::now();
        let answer = QemuMonitors.answer(&bench.paths, Duration::from_millis(200)).await;

        assert_eq!(answer, MonitorAnswer::TimedOut);
        assert!(started.elapsed() < Duration::from_secs(2));
    });
}

#[test]
fn test_session_command_larger_than_socket_buffer_is_sent() {
    wait(async {
        let bench = Bench::new();
        bench.start().await;
        let socket = bench.paths.monitor(MonitorRole::SessionOne);
        let mut session = QmpSession::connect(&socket, TIMEOUT).await.unwrap();
        let mut command = QmpCommand::new("qom-get");
        command.arguments.insert("path".to_owned(), json!("x".repeat(300_000)));
        command.arguments.insert("property".to_owned(), json!("y"));

        let refused = session.execute(&command, TIMEOUT).await;

        assert!(matches!(&refused, Err(QmpError::Refused { class: ErrorClass::DeviceNotFound, .. })), "{refused:?}");
    });
}

#[test]
fn test_session_thousand_commands_use_one_connection() {
    wait(async {
        let bench = Bench::new();
        bench.start().await;
        let socket = bench.paths.monitor(MonitorRole::SessionOne);
        let mut session = QmpSession::connect(&socket, TIMEOUT).await.unwrap();

        for _ in 0..1_000 {
            session.execute(&QmpCommand::new("query-status"), TIMEOUT).await.unwrap();
        }
    });
}

#[test]
fn test_session_after_timed_out_command_is_usable() {
    wait(async {
        let bench = Bench::new();
        bench.start().await;
        let socket = bench.paths.monitor(MonitorRole::SessionOne);
        let mut session = QmpSession::connect(&socket, TIMEOUT).await.unwrap();

        let late = session.execute(&QmpCommand::new("query-qmp-schema"), Duration::ZERO).await;
        let status = session.execute(&QmpCommand::new("query-status"), TIMEOUT).await.unwrap();

        assert!(matches!(late, Err(QmpError::TimedOut { .. })), "{late:?}");
        assert_eq!(status["status"], json!("prelaunch"));
    });
}
