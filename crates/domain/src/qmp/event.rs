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

/// The events of QEMU, of all targets (7.2 to 10.0).
const NAMES: [&str; 12] = [
    "ACPI_DEVICE_OST BALLOON_CHANGE BLOCK_EXPORT_DELETED BLOCK_IMAGE_CORRUPTED BLOCK_IO_ERROR",
    "BLOCK_JOB_CANCELLED BLOCK_JOB_COMPLETED BLOCK_JOB_ERROR BLOCK_JOB_PENDING BLOCK_JOB_READY",
    "BLOCK_WRITE_THRESHOLD COLO_EXIT CPU_POLARIZATION_CHANGE DEVICE_DELETED DEVICE_TRAY_MOVED",
    "DEVICE_UNPLUG_GUEST_ERROR DUMP_COMPLETED FAILOVER_NEGOTIATED GUEST_CRASHLOADED GUEST_PANICKED",
    "GUEST_PVSHUTDOWN HV_BALLOON_STATUS_REPORT JOB_STATUS_CHANGE MEMORY_DEVICE_SIZE_CHANGE",
    "MEMORY_FAILURE MEM_UNPLUG_ERROR MIGRATION MIGRATION_PASS NETDEV_STREAM_CONNECTED",
    "NETDEV_STREAM_DISCONNECTED NETDEV_VHOST_USER_CONNECTED NETDEV_VHOST_USER_DISCONNECTED",
    "NIC_RX_FILTER_CHANGED POWERDOWN PR_MANAGER_STATUS_CHANGED QUORUM_FAILURE QUORUM_REPORT_BAD",
    "RDMA_GID_STATUS_CHANGED RESET RESUME RTC_CHANGE SHUTDOWN SPICE_CONNECTED SPICE_DISCONNECTED",
    "SPICE_INITIALIZED SPICE_MIGRATE_COMPLETED STOP SUSPEND SUSPEND_DISK UNPLUG_PRIMARY",
    "VFIO_MIGRATION VFU_CLIENT_HANGUP VNC_CONNECTED VNC_DISCONNECTED VNC_INITIALIZED VSERPORT_CHANGE",
    "WAKEUP WATCHDOG",
];

/// Returns the names of the events that QEMU had when this was written; a newer one may have more.
pub fn event_names() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter().flat_map(|row| row.split(' '))
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
