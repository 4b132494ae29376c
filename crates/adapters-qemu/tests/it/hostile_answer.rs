//! Invalid replies and events, and monitors that never finish: the session ends with an error or continues
//! undisturbed.

use std::time::{Duration, Instant};

use maqet_adapters_qemu::QmpSession;
use maqet_domain::port::{MainLoop, MonitorSession, SessionEvent};
use maqet_domain::qmp::{ErrorClass, QmpCommand, QmpError};
use serde_json::{Value, json};

use crate::fake_monitor::{
    Dribble, EVENT, ExpectLine, GREETING, Hang, NEGOTIATED, ReceiveLine, SendBytes, Step, query, send, with_session,
};

/// Short, for what must not happen.
const SOON: Duration = Duration::from_millis(80);

/// Long, for what must happen, also on a busy host.
const TIMEOUT: Duration = Duration::from_secs(20);

const ANSWER: &[u8] = b"{\"return\": 7}\r\n";

/// Returns a script that negotiates, and then runs `steps` on the first command.
fn after_negotiation(steps: impl IntoIterator<Item = Step>) -> Vec<Step> {
    let mut all = vec![send(GREETING), ReceiveLine, send(NEGOTIATED), ReceiveLine];
    all.extend(steps);
    all
}

async fn status(session: &mut QmpSession) -> Result<Value, QmpError> {
    session.execute(&QmpCommand::new("query-status"), TIMEOUT).await
}

#[test]
fn test_greeting_interrupted_times_out() {
    let refused = query(&[send(&GREETING[..20]), Hang], SOON);

    assert!(matches!(refused, Err(QmpError::GreetingTimedOut { .. })), "{refused:?}");
}

#[test]
fn test_greeting_cut_off_is_closed() {
    let refused = query(&[send(&GREETING[..20])], TIMEOUT);

    assert!(matches!(refused, Err(QmpError::ConnectionClosed { .. })), "{refused:?}");
}

#[test]
fn test_greeting_without_fields_is_accepted() {
    for greeting in ["{\"QMP\": 7}\n", "{\"QMP\": {\"capabilities\": {\"oob\": 1}}}\n", "{\"QMP\": null}\n"] {
        let steps = [send(greeting.as_bytes()), ReceiveLine, send(NEGOTIATED), ReceiveLine, send(ANSWER), Hang];

        assert_eq!(query(&steps, TIMEOUT).unwrap(), 7, "{greeting}");
    }
}

#[test]
fn test_negotiation_cut_off_is_closed() {
    let refused = query(&[send(GREETING), ReceiveLine, send(&NEGOTIATED[..9])], TIMEOUT);

    assert!(
        matches!(&refused, Err(QmpError::ConnectionClosed { command }) if command == "qmp_capabilities"),
        "{refused:?}"
    );
}

#[test]
fn test_negotiation_refused_is_reported() {
    let refused = query(
        &[send(GREETING), ReceiveLine, send(b"{\"error\": {\"class\": \"X\", \"desc\": \"no\"}, \"id\": 0}\n"), Hang],
        TIMEOUT,
    );

    assert!(matches!(&refused, Err(QmpError::Refused { description, .. }) if description == "no"), "{refused:?}");
}

#[test]
fn test_reply_not_an_object_is_invalid() {
    let nested = [b"{\"return\": ".to_vec(), vec![b'['; 100_000], b"\n".to_vec()].concat();
    for garbage in [
        b"\xff\xfe\xfd\n".as_slice(),
        b"{\"return\": \"\xc3\x28\"}\n",
        b"{\"return\": \"\0\"}\n",
        b"\0\0\0\0\n",
        b"{\"return\": 7}{\"return\": 7}\n",
        b"{\"return\": 7, \"id\": 1, \"id\": 1}\n",
        b"{\"return\": 7, \"return\": 8}\n",
        b"{\"error\": \"no\"}\n",
        b"{\"error\": {\"class\": 1, \"desc\": 2}}\n",
        b"{\"id\": 1}\n",
        b"null\n",
        b"{\"return\": 1e999}\n",
        &nested,
    ] {
        let refused = query(&after_negotiation([send(garbage), Hang]), TIMEOUT);

        let shown = String::from_utf8_lossy(&garbage[..garbage.len().min(60)]).into_owned();
        let Err(QmpError::InvalidResponse { detail }) = refused else { panic!("{shown}: {refused:?}") };
        // The message is short, and safe on a terminal.
        assert!(detail.len() < 1_000 && !detail.contains(char::is_control), "{shown}: {detail}");
    }
}

#[test]
fn test_reply_without_or_with_other_id_is_ignored() {
    for other in [
        "{\"return\": 5, \"id\": null}",
        "{\"return\": 5, \"id\": -1}",
        "{\"return\": 5, \"id\": 1.0}",
        "{\"return\": 5, \"id\": 18446744073709551616}",
        "{\"return\": 5, \"id\": {\"id\": 1}}",
        "{\"return\": 5, \"id\": \"1\"}",
        "{\"return\": 5, \"id\": 0}",
        "{\"return\": 5, \"id\": 1}",
        "{\"error\": {\"class\": \"X\", \"desc\": \"no\"}, \"id\": 1}",
        "{\"QMP\": {}}",
        "",
        "   ",
    ] {
        let steps = after_negotiation([send(format!("{other}\r\n").as_bytes()), send(ANSWER), Hang]);

        assert_eq!(query(&steps, TIMEOUT).unwrap(), 7, "{other}");
    }
}

#[test]
fn test_negotiation_ignores_replies_to_previous_client() {
    for stale in [
        "{\"return\": 5}",
        "{\"error\": {\"class\": \"X\", \"desc\": \"no\"}}",
        "{\"return\": 5, \"id\": 7}",
        "{\"return\": {}, \"id\": 0}",
    ] {
        let negotiates = ExpectLine(r#"{"execute":"qmp_capabilities","id":0}"#);
        let answers = [send(format!("{stale}\r\n").as_bytes()), send(NEGOTIATED)];
        let asks = [ExpectLine(r#"{"execute":"query-status"}"#), send(ANSWER), Hang];
        let steps: Vec<Step> = [send(GREETING), negotiates].into_iter().chain(answers).chain(asks).collect();

        assert_eq!(query(&steps, TIMEOUT).unwrap(), 7, "{stale}");
    }
}

#[test]
fn test_reply_arriving_late_is_not_taken_for_next_command() {
    let late = [send(b"{\"return\": 5}\n"), send(b"{\"return\": 8, \"id\": 1}\n")];
    let steps = [send(GREETING), ReceiveLine, send(NEGOTIATED), ExpectLine(r#"{"execute":"query-status"}"#)]
        .into_iter()
        // Only commands whose replies could be confused have an id.
        .chain([ExpectLine(r#"{"execute":"query-status","id":1}"#)])
        .chain(late)
        .chain([ExpectLine(r#"{"execute":"query-status"}"#), send(b"{\"return\": 9}\n"), Hang]);

    let answers = with_session(&steps.collect::<Vec<Step>>(), TIMEOUT, async |session| {
        let given_up = session.execute(&QmpCommand::new("query-status"), SOON).await;
        assert!(matches!(given_up, Err(QmpError::TimedOut { .. })), "{given_up:?}");
        Ok([status(session).await?, status(session).await?])
    });

    assert_eq!(answers.unwrap(), [json!(8), json!(9)]);
}

#[test]
fn test_error_without_id_belongs_to_oldest_command() {
    let refusal = |words: &str| format!("{{\"error\": {{\"class\": \"X\", \"desc\": \"{words}\"}}}}\n");
    let both = [send(refusal("the first").as_bytes()), send(refusal("the second").as_bytes())];
    let steps = after_negotiation([ReceiveLine].into_iter().chain(both).chain([ReceiveLine, send(ANSWER), Hang]));

    let (refused, answer) = with_session(&steps, TIMEOUT, async |session| {
        drop(session.execute(&QmpCommand::new("query-status"), SOON).await);
        Ok((status(session).await, status(session).await))
    })
    .unwrap();

    assert!(
        matches!(&refused, Err(QmpError::Refused { description, .. }) if description == "the second"),
        "{refused:?}"
    );
    assert_eq!(answer.unwrap(), 7);
}

#[test]
fn test_reply_repeated_is_not_taken_for_next_command() {
    let second = b"{\"return\": 8, \"id\": 1}\n";
    let next = [send(ANSWER), send(second), send(second), ReceiveLine, send(b"{\"return\": 9}\n"), Hang];
    let steps = after_negotiation([ReceiveLine].into_iter().chain(next));

    let answers = with_session(&steps, TIMEOUT, async |session| {
        drop(session.execute(&QmpCommand::new("query-status"), SOON).await);
        Ok([status(session).await?, status(session).await?])
    });

    assert_eq!(answers.unwrap(), [json!(8), json!(9)]);
}

#[test]
fn test_error_without_description_says_so() {
    for error in ["{}", "{\"class\": \"X\"}", "{\"desc\": \"\"}"] {
        let refused = query(&after_negotiation([send(format!("{{\"error\": {error}}}\n").as_bytes()), Hang]), TIMEOUT);

        let refused = refused.unwrap_err();
        assert_eq!(refused.to_string(), "QEMU refused `query-status`: no description", "{error}");
    }
}

#[test]
fn test_error_with_endless_description_is_truncated() {
    let endless = "ä".repeat(1 << 20);
    let refusal = format!("{{\"error\": {{\"class\": \"{endless}\", \"desc\": \"{endless}\"}}}}\n");
    let no_greeting = format!("{{\"return\": \"{endless}\", \"id\": 0}}\n");

    let refused = query(&after_negotiation([send(refusal.as_bytes()), Hang]), TIMEOUT);
    let invalid = query(&[send(no_greeting.as_bytes()), Hang], TIMEOUT);

    let Err(QmpError::Refused { class: ErrorClass::Generic, description, .. }) = refused else { panic!("not refused") };
    let Err(QmpError::InvalidResponse { detail }) = invalid else { panic!("not invalid") };
    assert!(description.len() < 5_000 && description.ends_with("ä…"), "{}", description.len());
    assert!(detail.len() < 1_000, "{}", detail.len());
}

#[test]
fn test_events_of_wrong_types_are_ignored() {
    let events = concat!(
        "{\"event\": 7}\n",
        "{\"event\": null, \"timestamp\": {\"seconds\": 1, \"microseconds\": 2}}\n",
        "{\"event\": \"X\", \"timestamp\": \"now\"}\n",
        "{\"event\": \"X\", \"timestamp\": {\"seconds\": 1e300, \"microseconds\": 2}}\n",
        "{\"event\": \"X\", \"timestamp\": {\"seconds\": 9223372036854775807, \"microseconds\": 2147483647}}\n",
        "{\"event\": \"X\"}\n",
        "{\"event\": {\"return\": 5, \"id\": 1}}\n",
    );
    let steps = after_negotiation([send(events.as_bytes()), send(EVENT), send(ANSWER), Hang]);

    let (answer, first, second) = with_session(&steps, TIMEOUT, async |session| {
        let answer = status(session).await?;
        Ok((answer, session.next_event(Duration::ZERO).await?, session.next_event(Duration::ZERO).await?))
    })
    .unwrap();

    assert_eq!(answer, 7);
    assert!(matches!(&first, Some(SessionEvent::Event(event)) if event.name == "X"), "{first:?}");
    assert_eq!(second, None);
}

#[test]
fn test_monitor_trickling_bytes_does_not_extend_deadline() {
    // Enough for the handshake, also on a busy host, and a fraction of the time of the bytes.
    let (deadline, pause) = (Duration::from_millis(500), Duration::from_millis(100));
    let started = Instant::now();

    let greeting = query(&[Dribble(GREETING.to_vec(), pause), Hang], deadline);
    let negotiation = query(&[send(GREETING), ReceiveLine, Dribble(NEGOTIATED.to_vec(), pause), Hang], deadline);
    let answer = with_session(&after_negotiation([Dribble(ANSWER.to_vec(), pause), Hang]), TIMEOUT, async |session| {
        session.execute(&QmpCommand::new("query-status"), deadline).await
    });

    assert!(matches!(greeting, Err(QmpError::GreetingTimedOut { .. })), "{greeting:?}");
    assert!(matches!(negotiation, Err(QmpError::Unresponsive { .. })), "{negotiation:?}");
    assert!(matches!(answer, Err(QmpError::TimedOut { .. })), "{answer:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn test_monitor_never_reading_times_out() {
    let mut large = QmpCommand::new("qom-get");
    large.arguments.insert("path".to_owned(), json!("x".repeat(4 << 20)));
    let steps = [send(GREETING), ReceiveLine, send(NEGOTIATED), Hang];
    let started = Instant::now();

    let refused = with_session(&steps, TIMEOUT, async |session| {
        let first = session.execute(&large, SOON).await;
        Ok((first, session.execute(&QmpCommand::new("query-status"), SOON).await))
    });

    let (first, second) = refused.unwrap();
    assert!(matches!(first, Err(QmpError::TimedOut { .. })), "{first:?}");
    // Unread data does not accumulate.
    assert!(matches!(second, Err(QmpError::Unresponsive { .. })), "{second:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn test_monitor_closing_during_send_is_closed() {
    let mut large = QmpCommand::new("qom-get");
    large.arguments.insert("path".to_owned(), json!("x".repeat(4 << 20)));

    let refused = with_session(&[send(GREETING), ReceiveLine, send(NEGOTIATED)], TIMEOUT, async |session| {
        session.execute(&large, TIMEOUT).await
    });

    assert!(matches!(refused, Err(QmpError::ConnectionClosed { .. })), "{refused:?}");
}

#[test]
fn test_command_cancelled_within_reply_leaves_session_usable() {
    let rest = SendBytes([&ANSWER[10..], b"{\"return\": 8, \"id\": 1}\n"].concat());
    // The rest comes only once the next command is there.
    let steps = after_negotiation([send(&ANSWER[..10]), ReceiveLine, rest, Hang]);

    let answer = with_session(&steps, TIMEOUT, async |session| {
        let given_up = tokio::time::timeout(SOON, status(session)).await;
        assert!(given_up.is_err(), "{given_up:?}");
        status(session).await
    });

    assert_eq!(answer.unwrap(), 8);
}

#[test]
fn test_main_loop_late_out_of_band_reply_does_not_count() {
    // It uses all of its time, and a busy host may need some of it for the two replies.
    const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
    let greeting = b"{\"QMP\": {\"version\": {}, \"capabilities\": [\"oob\"]}}\r\n";
    let late = b"{\"return\": {}, \"id\": 1}\r\n";
    // Two lines of the first ping, five commands, and the second ping, which has room for one line only.
    let lines = (0..7).map(|_| ReceiveLine).chain([ExpectLine(r#"{"exec-oob":"query-yank","id":7}"#)]);
    let answers = [send(late), send(b"{\"return\": {}, \"id\": 7}\r\n"), Hang];
    let steps = [send(greeting), ReceiveLine, send(NEGOTIATED)].into_iter().chain(lines).chain(answers);

    let results = with_session(&steps.collect::<Vec<Step>>(), TIMEOUT, async |session| {
        let first = session.main_loop(SOON).await;
        for _ in 0..5 {
            let late = session.execute(&QmpCommand::new("query-status"), SOON).await;
            assert!(matches!(late, Err(QmpError::TimedOut { .. })), "{late:?}");
        }
        Ok([first, session.main_loop(PROBE_TIMEOUT).await])
    });

    assert_eq!(results.unwrap(), [MainLoop::Unresponsive, MainLoop::Blocked]);
}
