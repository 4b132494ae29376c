//! Scripted monitors that misbehave: bounded time, bounded memory, the right error.

use std::time::{Duration, Instant};

use maqet_adapters_qemu::{QemuMonitors, QmpSession};
use maqet_domain::port::{MonitorSession, Monitors, SessionEvent};
use maqet_domain::qmp::{QmpCommand, QmpError};
use maqet_domain::vm::{BootNumber, MonitorAnswer, MonitorRole, RunPaths};
use tokio::net::UnixListener;

use crate::fake_monitor::{EVENT, Flood, GREETING, Hang, NEGOTIATED, ReceiveLine, SendBytes, Step, play, query, send};
use crate::kit::{folder, wait};

const SOON: Duration = Duration::from_millis(60);

#[test]
fn test_monitor_without_greeting_times_out() {
    let started = Instant::now();

    let refused = query(&[Hang], SOON);

    assert!(matches!(refused, Err(QmpError::GreetingTimedOut { .. })), "{refused:?}");
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn test_monitor_hanging_after_greeting_is_blocked() {
    let refused = query(&[send(GREETING), Hang], SOON);

    assert!(matches!(refused, Err(QmpError::Unresponsive { .. })), "{refused:?}");
}

#[test]
fn test_monitor_closing_at_once_is_closed() {
    let refused = query(&[], SOON);

    assert!(matches!(refused, Err(QmpError::ConnectionClosed { .. })), "{refused:?}");
}

#[test]
fn test_monitor_closing_within_line_is_closed() {
    let refused =
        query(&[send(GREETING), ReceiveLine, send(NEGOTIATED), ReceiveLine, send(b"{\"return\": {\"sta")], SOON);

    assert!(
        matches!(&refused, Err(QmpError::ConnectionClosed { command }) if command == "query-status"),
        "{refused:?}"
    );
}

#[test]
fn test_monitor_stopping_within_line_times_out() {
    let refused =
        query(&[send(GREETING), ReceiveLine, send(NEGOTIATED), ReceiveLine, send(b"{\"return\": {\"sta"), Hang], SOON);

    assert!(matches!(refused, Err(QmpError::TimedOut { .. })), "{refused:?}");
}

#[test]
fn test_monitor_invalid_json_is_reported() {
    for nonsense in [b"HTTP/1.1 400 Bad Request\r\n".as_slice(), b"\xff\xfe\xfd\n", b"[1, 2]\n", b"{}\n", NEGOTIATED] {
        let refused = query(&[send(nonsense), Hang], SOON);

        assert!(matches!(refused, Err(QmpError::InvalidResponse { .. })), "{refused:?}");
    }
}

#[test]
fn test_monitor_endless_line_is_cut_off() {
    let endless = vec![b'x'; (16 << 20) + (1 << 20)];

    let refused = query(&[send(GREETING), ReceiveLine, SendBytes(endless), Hang], Duration::from_secs(20));

    assert!(matches!(refused, Err(QmpError::InvalidResponse { .. })), "{refused:?}");
}

#[test]
fn test_monitor_reply_of_10_mb_is_read() {
    let answer = format!("{{\"return\": \"{}\"}}\n", "y".repeat(10 << 20));

    let answer = query(
        &[send(GREETING), ReceiveLine, send(NEGOTIATED), ReceiveLine, SendBytes(answer.into_bytes()), Hang],
        Duration::from_secs(20),
    );

    assert_eq!(answer.unwrap().as_str().unwrap().len(), 10 << 20);
}

#[test]
fn test_monitor_flooding_events_still_gets_reply() {
    let event = b"{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"X\"}\r\n".repeat(50_000);
    let answer = b"{\"return\": 7}\r\n";

    let answer = query(
        &[send(GREETING), ReceiveLine, send(NEGOTIATED), ReceiveLine, SendBytes(event), send(answer), Hang],
        Duration::from_secs(20),
    );

    assert_eq!(answer.unwrap(), 7);
}

#[test]
fn test_monitor_flooding_events_forever_times_out() {
    let flood = EVENT.repeat(1_000);
    let started = Instant::now();

    let refused = query(
        &[send(GREETING), ReceiveLine, send(NEGOTIATED), ReceiveLine, Flood(flood.clone()), Hang],
        Duration::from_millis(500),
    );
    let blocked = query(&[send(GREETING), ReceiveLine, Flood(flood), Hang], Duration::from_millis(500));

    assert!(matches!(refused, Err(QmpError::TimedOut { .. })), "{refused:?}");
    assert!(matches!(blocked, Err(QmpError::Unresponsive { .. })), "{blocked:?}");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[test]
fn test_monitor_flooding_events_does_not_block_runtime() {
    wait(async {
        let folder = folder();
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let steps = [send(GREETING), ReceiveLine, send(NEGOTIATED), ReceiveLine, Flood(EVENT.repeat(1_000)), Hang];
        let server = async {
            let (stream, _) = listener.accept().await.unwrap();
            play(stream, &steps).await;
        };
        let client = async {
            let mut session = QmpSession::connect(&socket, Duration::from_secs(20)).await.unwrap();
            session.execute(&QmpCommand::new("query-status"), Duration::from_secs(20)).await
        };
        let started = Instant::now();

        tokio::select! {
            () = server => unreachable!(),
            answer = client => panic!("{answer:?}"),
            () = tokio::time::sleep(Duration::from_millis(300)) => {}
        }

        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    });
}

#[test]
fn test_monitor_reply_with_other_id_is_ignored() {
    let others =
        b"{\"return\": 5, \"id\": 99}\n{\"return\": 6, \"id\": 0}\n{\"error\": {\"class\": \"X\"}, \"id\": \"abc\"}\n";

    let answer = query(
        &[send(GREETING), ReceiveLine, send(NEGOTIATED), ReceiveLine, send(others), send(b"{\"return\": 7}\n"), Hang],
        Duration::from_secs(20),
    );

    assert_eq!(answer.unwrap(), 7);
}

/// Pings a VM whose monitors all run this script.
fn state(steps: &[Step]) -> MonitorAnswer {
    wait(async {
        let folder = folder();
        let paths = RunPaths::new(&folder.path().join("r"), &folder.path().join("s"), BootNumber(1));
        std::fs::create_dir_all(&paths.sockets).unwrap();
        let serve = |role| {
            let listener = UnixListener::bind(paths.monitor(role)).unwrap();
            async move {
                let (stream, _) = listener.accept().await.unwrap();
                play(stream, steps).await;
                std::future::pending::<()>().await;
            }
        };
        let (one, two) = (serve(MonitorRole::Command), serve(MonitorRole::SessionOne));
        let three = serve(MonitorRole::SessionTwo);
        let servers = async { tokio::join!(one, two, three) };
        tokio::select! {
            _ = servers => unreachable!(),
            answer = QemuMonitors.answer(&paths, Duration::from_millis(150)) => answer,
        }
    })
}

#[test]
fn test_ping_monitor_hanging_after_greeting_is_blocked() {
    assert_eq!(state(&[send(GREETING), Hang]), MonitorAnswer::Blocked);
    assert_eq!(state(&[send(GREETING), ReceiveLine, send(NEGOTIATED), Hang]), MonitorAnswer::Blocked);
}

#[test]
fn test_ping_monitor_without_greeting_is_unresponsive() {
    assert_eq!(state(&[Hang]), MonitorAnswer::TimedOut);
}

#[test]
fn test_session_unread_events_are_counted_in_bounded_memory() {
    wait(async {
        let folder = folder();
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let answer = b"{\"return\": 7}\r\n";
        let steps = [
            send(GREETING),
            ReceiveLine,
            send(NEGOTIATED),
            ReceiveLine,
            SendBytes(EVENT.repeat(50_000)),
            send(answer),
            Hang,
        ];
        let server = async {
            let (stream, _) = listener.accept().await.unwrap();
            play(stream, &steps).await;
        };
        let client = async {
            let session = QmpSession::connect(&socket, Duration::from_secs(20)).await.unwrap();
            let mut session = session.keeping_events();
            session.execute(&QmpCommand::new("query-status"), Duration::from_secs(20)).await.unwrap();
            let first = session.next_event(Duration::ZERO).await.unwrap();
            let mut kept = 0;
            while let Some(SessionEvent::Event(_)) = session.next_event(Duration::ZERO).await.unwrap() {
                kept += 1;
            }
            (first, kept)
        };

        let (missed, kept) = tokio::select! {
            () = server => unreachable!(),
            heard = client => heard,
        };

        assert_eq!((missed, kept), (Some(SessionEvent::Missed(48_976)), 1_024));
    });
}
