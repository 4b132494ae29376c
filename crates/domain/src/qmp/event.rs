//! A QMP event, as QEMU writes it.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// A QMP event (QMP specification, "Asynchronous events").
#[derive(Debug, Clone, PartialEq)]
pub struct QmpEvent {
    /// The name, as in `SHUTDOWN`.
    pub name: String,
    /// When it happened, by the host's clock.
    pub at: Timestamp,
    /// Data of this kind of event; null where there is none.
    pub data: Value,
}

#[derive(Deserialize)]
struct Line {
    event: String,
    timestamp: UnixTime,
    #[serde(default)]
    data: Value,
}

#[derive(Deserialize)]
struct UnixTime {
    seconds: i64,
    microseconds: i32,
}

impl QmpEvent {
    /// Parses a line of a monitor; `None` for greetings, replies, incomplete lines and anything else.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let Line { event, timestamp, data } = serde_json::from_slice(line.trim_ascii()).ok()?;
        let at = Timestamp::new(timestamp.seconds, timestamp.microseconds.checked_mul(1_000)?).ok()?;
        Some(Self { name: event, at, data })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn test_qmp_event_has_name_time_and_data() {
        let line = br#"{"timestamp": {"seconds": 1700000000, "microseconds": 250000}, "event": "RESET", "data": {"guest": true}}"#;

        let event = QmpEvent::parse(line).unwrap();

        assert_eq!((event.name.as_str(), event.data), ("RESET", json!({ "guest": true })));
        assert_eq!(event.at, "2023-11-14T22:13:20.25Z".parse().unwrap());
    }

    #[test]
    fn test_qmp_event_other_lines_are_none() {
        for line in ["{\"return\": {}}", "{\"QMP\": {}}", "{\"event\": \"STOP\"", "", "7"] {
            assert_eq!(QmpEvent::parse(line.as_bytes()), None, "{line}");
        }
        let beyond = r#"{"timestamp": {"seconds": 1, "microseconds": 2147483647}, "event": "STOP"}"#;
        assert_eq!(QmpEvent::parse(beyond.as_bytes()), None);
    }

    proptest! {
        #[test]
        fn test_qmp_event_any_bytes_do_not_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = QmpEvent::parse(&line);
        }
    }
}
