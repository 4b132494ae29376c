//! Monitors that misbehave, played by a script: bounded time, bounded memory, the right error.

use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use maqet_adapters_qemu::{QemuMonitors, QmpSession};
use maqet_domain::port::{Heard, Monitors, QmpCommand, QmpError};
use maqet_domain::vm::{BootNumber, MonitorAnswer, MonitorRole, RunPlaces};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::kit::{folder, wait};

const GREETING: &[u8] = b"{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";
const NEGOTIATED: &[u8] = b"{\"return\": {}, \"id\": 0}\r\n";

/// What a monitor does on a connection, in this order.
enum Act {
    /// Sends these bytes.
    Say(Vec<u8>),
    /// Waits for a line.
    Hear,
    /// Sends these bytes again and again, for ever.
    Flood(Vec<u8>),
    /// Keeps silent for good.
    Hang,
}

use Act::{Flood, Hang, Hear, Say};

fn say(bytes: &[u8]) -> Act {
    Say(bytes.to_vec())
}

async fn play(stream: UnixStream, acts: &[Act]) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    for act in acts {
        match act {
            // The other side may have had enough.
            Say(bytes) => drop(AsyncWriteExt::write_all(&mut writer, bytes).await),
            Hear => drop(reader.read_line(&mut String::new()).await),
            // In a thread, as a real peer is another process that does not wait for our runtime.
            Flood(bytes) => {
                let bytes = bytes.clone();
                let stream =
                    std::os::unix::net::UnixStream::from(writer.as_ref().as_fd().try_clone_to_owned().unwrap());
                stream.set_nonblocking(false).unwrap();
                std::thread::spawn(move || while (&stream).write_all(&bytes).is_ok() {});
            }
            Hang => std::future::pending().await,
        }
    }
}

/// Asks a monitor that acts so for its status; returns what came of it.
fn ask(acts: &[Act], deadline: Duration) -> Result<serde_json::Value, QmpError> {
    wait(async {
        let folder = folder();
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = async {
            let (stream, _) = listener.accept().await.unwrap();
            play(stream, acts).await;
            std::future::pending::<()>().await;
        };
        let client = async {
            let mut session = QmpSession::connect(&socket, deadline).await?;
            session.execute(&QmpCommand::new("query-status"), deadline).await
        };
        tokio::select! {
            () = server => unreachable!(),
            result = client => result,
        }
    })
}

const SOON: Duration = Duration::from_millis(60);

#[test]
fn test_monitor_without_greeting_is_left_in_time() {
    let started = Instant::now();

    let refused = ask(&[Hang], SOON);

    assert!(matches!(refused, Err(QmpError::NoGreeting { .. })), "{refused:?}");
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn test_monitor_that_greets_and_hangs_is_blocked() {
    let refused = ask(&[say(GREETING), Hang], SOON);

    assert!(matches!(refused, Err(QmpError::Blocked { .. })), "{refused:?}");
}

#[test]
fn test_monitor_that_closes_at_once_is_closed() {
    let refused = ask(&[], SOON);

    assert!(matches!(refused, Err(QmpError::Closed { .. })), "{refused:?}");
}

#[test]
fn test_monitor_that_closes_within_a_line_is_closed() {
    let refused = ask(&[say(GREETING), Hear, say(NEGOTIATED), Hear, say(b"{\"return\": {\"sta")], SOON);

    assert!(matches!(&refused, Err(QmpError::Closed { command }) if command == "query-status"), "{refused:?}");
}

#[test]
fn test_monitor_that_stops_within_a_line_times_out() {
    let refused = ask(&[say(GREETING), Hear, say(NEGOTIATED), Hear, say(b"{\"return\": {\"sta"), Hang], SOON);

    assert!(matches!(refused, Err(QmpError::TimedOut { .. })), "{refused:?}");
}

#[test]
fn test_monitor_that_talks_nonsense_is_garbled() {
    for nonsense in [b"HTTP/1.1 400 Bad Request\r\n".as_slice(), b"\xff\xfe\xfd\n", b"[1, 2]\n", b"{}\n", NEGOTIATED] {
        let refused = ask(&[say(nonsense), Hang], SOON);

        assert!(matches!(refused, Err(QmpError::Garbled { .. })), "{refused:?}");
    }
}

#[test]
fn test_monitor_whose_line_never_ends_is_cut_off() {
    let endless = vec![b'x'; (16 << 20) + (1 << 20)];

    let refused = ask(&[say(GREETING), Hear, Say(endless), Hang], Duration::from_secs(20));

    assert!(matches!(refused, Err(QmpError::Garbled { .. })), "{refused:?}");
}

#[test]
fn test_monitor_whose_answer_has_10_mb_is_read() {
    let answer = format!("{{\"return\": \"{}\", \"id\": 1}}\n", "y".repeat(10 << 20));

    let answer =
        ask(&[say(GREETING), Hear, say(NEGOTIATED), Hear, Say(answer.into_bytes()), Hang], Duration::from_secs(20));

    assert_eq!(answer.unwrap().as_str().unwrap().len(), 10 << 20);
}

#[test]
fn test_monitor_that_floods_events_is_still_heard() {
    let event = b"{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"X\"}\r\n".repeat(50_000);
    let answer = b"{\"return\": 7, \"id\": 1}\r\n";

    let answer =
        ask(&[say(GREETING), Hear, say(NEGOTIATED), Hear, Say(event), say(answer), Hang], Duration::from_secs(20));

    assert_eq!(answer.unwrap(), 7);
}

const EVENT: &[u8] = b"{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"X\"}\r\n";

#[test]
fn test_monitor_that_floods_events_for_ever_times_out_in_time() {
    let flood = EVENT.repeat(1_000);
    let started = Instant::now();

    let refused =
        ask(&[say(GREETING), Hear, say(NEGOTIATED), Hear, Flood(flood.clone()), Hang], Duration::from_millis(500));
    let blocked = ask(&[say(GREETING), Hear, Flood(flood), Hang], Duration::from_millis(500));

    assert!(matches!(refused, Err(QmpError::TimedOut { .. })), "{refused:?}");
    assert!(matches!(blocked, Err(QmpError::Blocked { .. })), "{blocked:?}");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[test]
fn test_monitor_that_floods_events_lets_others_of_the_runtime_work() {
    wait(async {
        let folder = folder();
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let acts = [say(GREETING), Hear, say(NEGOTIATED), Hear, Flood(EVENT.repeat(1_000)), Hang];
        let server = async {
            let (stream, _) = listener.accept().await.unwrap();
            play(stream, &acts).await;
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
fn test_monitor_that_answers_somebody_else_first_is_not_believed() {
    let others = b"{\"return\": 5, \"id\": 99}\n{\"return\": 6}\n{\"error\": {\"class\": \"X\"}, \"id\": \"abc\"}\n";

    let answer = ask(
        &[say(GREETING), Hear, say(NEGOTIATED), Hear, say(others), say(b"{\"return\": 7, \"id\": 1}\n"), Hang],
        Duration::from_secs(20),
    );

    assert_eq!(answer.unwrap(), 7);
}

/// Returns how the run state of a machine is told whose monitors all act so.
fn state(acts: &[Act]) -> MonitorAnswer {
    wait(async {
        let folder = folder();
        let places = RunPlaces::of(&folder.path().join("r"), &folder.path().join("s"), BootNumber(1));
        std::fs::create_dir_all(&places.sockets).unwrap();
        let serve = |role| {
            let listener = UnixListener::bind(places.monitor(role)).unwrap();
            async move {
                let (stream, _) = listener.accept().await.unwrap();
                play(stream, acts).await;
                std::future::pending::<()>().await;
            }
        };
        let (one, two) = (serve(MonitorRole::Command), serve(MonitorRole::SessionOne));
        let three = serve(MonitorRole::SessionTwo);
        let servers = async { tokio::join!(one, two, three) };
        tokio::select! {
            _ = servers => unreachable!(),
            answer = QemuMonitors.answer(&places, Duration::from_millis(150)) => answer,
        }
    })
}

#[test]
fn test_answer_machine_that_greets_and_hangs_is_blocked() {
    assert_eq!(state(&[say(GREETING), Hang]), MonitorAnswer::Blocked);
    assert_eq!(state(&[say(GREETING), Hear, say(NEGOTIATED), Hang]), MonitorAnswer::Blocked);
}

#[test]
fn test_answer_machine_that_never_greets_is_silent() {
    assert_eq!(state(&[Hang]), MonitorAnswer::Silent);
}

#[test]
fn test_session_events_that_nobody_takes_are_counted_and_cost_bounded_memory() {
    wait(async {
        let folder = folder();
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let answer = b"{\"return\": 7, \"id\": 1}\r\n";
        let acts = [say(GREETING), Hear, say(NEGOTIATED), Hear, Say(EVENT.repeat(50_000)), say(answer), Hang];
        let server = async {
            let (stream, _) = listener.accept().await.unwrap();
            play(stream, &acts).await;
        };
        let client = async {
            let session = QmpSession::connect(&socket, Duration::from_secs(20)).await.unwrap();
            let mut session = session.keeping_events();
            session.execute(&QmpCommand::new("query-status"), Duration::from_secs(20)).await.unwrap();
            let first = session.heard(Duration::ZERO).await.unwrap();
            let mut kept = 0;
            while let Some(Heard::Event(_)) = session.heard(Duration::ZERO).await.unwrap() {
                kept += 1;
            }
            (first, kept)
        };

        let (missed, kept) = tokio::select! {
            () = server => unreachable!(),
            heard = client => heard,
        };

        assert_eq!((missed, kept), (Some(Heard::Missed(48_976)), 1_024));
    });
}
