//! Long sessions with a real QEMU: events, canceled commands, a blocked main loop, and a stopped process.

use std::path::PathBuf;
use std::time::Duration;

use maqet_adapters_qemu::{QemuMonitors, QmpSession};
use maqet_domain::port::{MainLoop, MonitorSession, Monitors, SessionEvent};
use maqet_domain::qmp::{QmpCommand, QmpError};
use maqet_domain::vm::MonitorRole;
use rustix::fs::Mode;
use serde_json::json;

use crate::kit::{Bench, TIMEOUT, wait};

const SOON: Duration = Duration::from_millis(150);

/// Returns the names of the next `count` events.
async fn names(session: &mut dyn MonitorSession, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    while names.len() < count {
        match session.next_event(TIMEOUT).await.unwrap() {
            Some(SessionEvent::Event(event)) => names.push(event.name),
            other => panic!("{other:?} after {names:?}"),
        }
    }
    names
}

#[test]
fn test_session_events_arrive_in_order() {
    wait(async {
        let bench = Bench::new();
        bench.start().await;
        let mut session = QemuMonitors.session(&bench.paths, TIMEOUT).await.unwrap();

        session.execute(&QmpCommand::new("cont"), TIMEOUT).await.unwrap();
        session.execute(&QmpCommand::new("stop"), TIMEOUT).await.unwrap();
        let during = names(&mut *session, 2).await;
        QemuMonitors.execute(&bench.paths, &QmpCommand::new("system_reset"), TIMEOUT).await.unwrap();
        let after = names(&mut *session, 1).await;
        let none = session.next_event(Duration::ZERO).await.unwrap();

        assert_eq!(
            (during, after, none),
            (vec!["RESUME".to_owned(), "STOP".to_owned()], vec!["RESET".to_owned()], None)
        );
    });
}

#[test]
fn test_session_third_is_refused_until_one_closes() {
    wait(async {
        let bench = Bench::new();
        bench.start().await;
        let one = QemuMonitors.session(&bench.paths, TIMEOUT).await.unwrap();
        let _two = QemuMonitors.session(&bench.paths, TIMEOUT).await.unwrap();

        let third = QemuMonitors.session(&bench.paths, SOON).await.err();
        drop(one);
        let again = QemuMonitors.session(&bench.paths, TIMEOUT).await;

        assert!(matches!(third, Some(QmpError::SessionsInUse { .. })), "{third:?}");
        assert!(again.is_ok());
    });
}

#[test]
fn test_session_uses_second_monitor_if_first_is_in_use() {
    wait(async {
        let bench = Bench::new();
        bench.start().await;
        let _stranger = QmpSession::connect(&bench.paths.monitor(MonitorRole::SessionOne), TIMEOUT).await.unwrap();

        let mut session = QemuMonitors.session(&bench.paths, Duration::from_secs(10)).await.unwrap();

        session.execute(&QmpCommand::new("query-status"), TIMEOUT).await.unwrap();
    });
}

#[test]
fn test_session_after_cancelled_command_is_usable() {
    wait(async {
        let bench = Bench::new();
        bench.start().await;
        let mut session = QemuMonitors.session(&bench.paths, TIMEOUT).await.unwrap();
        let mut large = QmpCommand::new("qom-get");
        large.arguments.insert("path".to_owned(), json!("x".repeat(400_000)));
        large.arguments.insert("property".to_owned(), json!("y"));

        // The large one is partially sent.
        for micros in [0, 50, 500, 2_000] {
            let given_up = tokio::time::timeout(Duration::from_micros(micros), session.execute(&large, TIMEOUT));
            drop(given_up.await);
        }
        let status = session.execute(&QmpCommand::new("query-status"), TIMEOUT).await.unwrap();

        assert_eq!(status["status"], json!("prelaunch"));
    });
}

#[test]
fn test_session_command_qemu_cannot_parse_is_not_sent() {
    wait(async {
        let bench = Bench::new();
        bench.start().await;
        let mut session = QemuMonitors.session(&bench.paths, TIMEOUT).await.unwrap();
        let nested = |depth: usize| (0..depth).fold(json!(1), |within, _| json!([within]));
        let values = |count: usize| json!(vec![0; count]);
        let mut answers = Vec::new();

        for path in [nested(1_100), values(1_100_000), json!("x".repeat(11 << 20))] {
            let refused = session.execute(&qom_get(path), TIMEOUT).await;
            assert!(matches!(refused, Err(QmpError::CommandTooLarge { .. })), "{refused:?}");
        }
        // QEMU refuses a Unicode noncharacter without the id of the command.
        for path in [nested(990), values(10_000), json!("x".repeat(100 << 10)), json!("\u{ffff}")] {
            let refused = session.execute(&qom_get(path), TIMEOUT).await;
            assert!(matches!(refused, Err(QmpError::Refused { .. })), "{refused:?}");
            answers.push(session.execute(&QmpCommand::new("query-status"), TIMEOUT).await.unwrap());
        }

        assert!(answers.iter().all(|answer| answer["status"] == "prelaunch"), "{answers:?}");
    });
}

fn qom_get(path: serde_json::Value) -> QmpCommand {
    let mut command = QmpCommand::new("qom-get");
    command.arguments.insert("path".to_owned(), path);
    command
}

/// Blocks the main loop in the opening of a FIFO until it has a reader; returns the FIFO.
async fn block(bench: &Bench, session: &mut dyn MonitorSession) -> PathBuf {
    let fifo = bench.folder.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
    let mut save = QmpCommand::new("pmemsave");
    for (key, value) in [("val", json!(0)), ("size", json!(16)), ("filename", json!(fifo))] {
        save.arguments.insert(key.to_owned(), value);
    }
    let late = session.execute(&save, SOON).await;
    assert!(matches!(late, Err(QmpError::TimedOut { .. })), "{late:?}");
    fifo
}

#[test]
fn test_main_loop_hanging_is_blocked_until_it_continues() {
    wait(async {
        let bench = Bench::new();
        bench.start().await;
        let mut session = QemuMonitors.session(&bench.paths, TIMEOUT).await.unwrap();
        let before = session.main_loop(TIMEOUT).await;
        let fifo = block(&bench, &mut *session).await;

        let mut blocked = Vec::new();
        // More than QEMU's queue holds, beyond which it would stop reading, out of band or not.
        for _ in 0..10 {
            blocked.push(session.main_loop(SOON).await);
        }
        let refused = session.execute(&QmpCommand::new("query-status"), SOON).await;
        let reader = std::thread::spawn(|| std::fs::read(fifo).unwrap().len());
        let after = session.main_loop(TIMEOUT).await;
        let status = session.execute(&QmpCommand::new("query-status"), TIMEOUT).await;

        assert_eq!((before, after), (MainLoop::Answers, MainLoop::Answers));
        assert_eq!(blocked, [MainLoop::Blocked; 10]);
        assert!(matches!(refused, Err(QmpError::Unresponsive { .. })), "{refused:?}");
        assert_eq!((status.unwrap()["status"].as_str(), reader.join().unwrap()), (Some("prelaunch"), 16));
    });
}

#[test]
fn test_session_reply_to_previous_client_is_ignored() {
    wait(async {
        let bench = Bench::new();
        bench.start().await;
        let mut before = QemuMonitors.session(&bench.paths, TIMEOUT).await.unwrap();
        let fifo = block(&bench, &mut *before).await;
        drop(before);
        // The previous client was on the first monitor, which accepts the next one while the main loop is blocked.
        let reader = std::thread::spawn(|| {
            std::thread::sleep(SOON);
            std::fs::read(fifo).unwrap().len()
        });

        let first = bench.paths.monitor(MonitorRole::SessionOne);
        let mut session = QmpSession::connect(&first, TIMEOUT).await.unwrap();
        let status = session.execute(&QmpCommand::new("query-status"), TIMEOUT).await.unwrap();
        let name = session.execute(&QmpCommand::new("query-name"), TIMEOUT).await.unwrap();

        assert_eq!((status["status"].as_str(), reader.join().unwrap()), (Some("prelaunch"), 16));
        assert!(name.get("status").is_none(), "{name}");
    });
}

#[test]
fn test_main_loop_of_stopped_process_is_unresponsive() {
    wait(async {
        let bench = Bench::new();
        let process = bench.start().await;
        let mut session = QemuMonitors.session(&bench.paths, TIMEOUT).await.unwrap();
        let pid = rustix::process::Pid::from_raw(process.pid.try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        while !std::fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap().contains(") T ") {
            tokio::task::yield_now().await;
        }

        assert_eq!(session.main_loop(SOON).await, MainLoop::Unresponsive);
    });
}

#[test]
fn test_session_of_ending_qemu_gets_last_event() {
    wait(async {
        let bench = Bench::new();
        bench.start().await;
        let mut session = QemuMonitors.session(&bench.paths, TIMEOUT).await.unwrap();

        session.execute(&QmpCommand::new("quit"), TIMEOUT).await.unwrap();
        let last = names(&mut *session, 1).await;
        let end = session.next_event(TIMEOUT).await;

        assert_eq!(last, ["SHUTDOWN"]);
        assert!(matches!(end, Err(QmpError::ConnectionClosed { .. })), "{end:?}");
    });
}
