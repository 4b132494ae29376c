use serde_json::json;

use super::*;
use crate::qmp::Schema;

const REPLY: &str = include_str!("../../../data/qmp-schema-7.2.json");

fn of_json(name: &str, arguments: &Value) -> Option<HostAccess> {
    access_of(name, arguments.as_object().unwrap())
}

/// Fails when the schema of a newer QEMU is recorded that has commands no list holds.
#[test]
fn test_host_access_every_command_is_on_one_list() {
    let schema = Schema::from_reply(&serde_json::from_str(REPLY).unwrap()).unwrap();

    for name in schema.commands() {
        let harmless = HARMLESS.contains(&name);
        let query = HARMLESS_QUERIES.iter().any(|prefix| name.starts_with(prefix));
        let host_access = HOST_ACCESS_COMMANDS.iter().any(|(command, _)| *command == name);
        assert_eq!(u8::from(harmless) + u8::from(query) + u8::from(host_access), 1, "`{name}`");
    }
}

#[test]
fn test_host_access_lists_are_sorted_and_name_real_commands() {
    let schema = Schema::from_reply(&serde_json::from_str(REPLY).unwrap()).unwrap();

    for name in HARMLESS.iter().chain(HOST_ACCESS_COMMANDS.iter().map(|(name, _)| name)) {
        assert!(schema.has_command(name), "`{name}`");
    }
    assert!(HOST_ACCESS_COMMANDS.is_sorted_by(|a, b| a.0 < b.0));
    assert!(DEVICES.is_sorted_by(|a, b| a < b) && DEVICE_FAMILIES.is_sorted_by(|a, b| a < b));
}

#[test]
fn test_host_access_without_arguments_is_that_of_the_list() {
    for (name, why) in HOST_ACCESS_COMMANDS {
        let harmless_without = matches!(*name, "block-commit" | "block-stream");
        assert_eq!(access_of(name, &Map::new()), (!harmless_without).then_some(*why), "`{name}`");
    }
}

#[test]
fn test_host_access_unknown_command_is_refused_unless_query() {
    assert_eq!(of_json("open-any-file", &json!({})), Some(HostAccess::Unknown));
    assert_eq!(of_json("query-something-new", &json!({})), None);
}

#[test]
fn test_host_access_every_command_is_documented_with_reason() {
    let page = include_str!("../../../../../docs/reference/qmp.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();

    for (name, why) in HOST_ACCESS_COMMANDS.iter().filter(|(name, _)| *name != "transaction") {
        let reason = why.reason().split(',').next().unwrap_or_default();
        let is_documented = |row: &&&str| {
            let mut cells = row.split(" | ");
            cells.next().is_some_and(|names| names.contains(&format!("`{name}`"))) && row.contains(reason)
        };
        assert!(rows.iter().any(|row| is_documented(&row)), "`{name}`, which {reason}");
    }
}

#[test]
fn test_host_access_hmp_queries_are_harmless() {
    let line = |line: &str| of_json("human-monitor-command", &json!({ "command-line": line }));

    for harmless in ["info usernet", "  info pci", "info", "help", "help eject", "? info"] {
        assert_eq!(line(harmless), None, "{harmless}");
    }
    for refused in ["infos", "logfile /x", "migrate exec:x", "i /b 0x60", "", "drive_add 0 info", "gdbserver"] {
        assert_eq!(line(refused), Some(HostAccess::HumanMonitor), "{refused}");
    }
}

#[test]
fn test_host_access_transaction_is_that_of_its_actions() {
    let actions = |actions: Value| of_json("transaction", &json!({ "actions": actions }));
    let bitmap = json!({"type": "block-dirty-bitmap-add", "data": {"node": "n", "name": "b"}});
    let sync = json!({"type": "blockdev-snapshot-sync", "data": {"node-name": "n", "snapshot-file": "/x"}});

    assert_eq!(actions(json!([bitmap, {"type": "abort", "data": {}}])), None);
    assert_eq!(actions(json!([bitmap, sync])), Some(HostAccess::Files));
    assert_eq!(actions(json!([{"type": "new-thing", "data": {}}])), Some(HostAccess::Unknown));
    assert_eq!(actions(json!([bitmap, {}])), Some(HostAccess::Unknown));
    assert_eq!(actions(json!("x")), Some(HostAccess::Unknown));
}

#[test]
fn test_host_access_device_of_host_or_with_files_is_refused() {
    for harmless in [
        json!({"driver": "virtio-blk-pci", "drive": "n", "id": "x", "bus": "rp0", "share-rw": "on"}),
        json!({"driver": "virtio-net-pci-non-transitional", "netdev": "n", "mac": "52:54:00:12:34:56"}),
        json!({"driver": "qemu64-x86_64-cpu", "socket-id": 1, "core-id": 0, "thread-id": 0}),
        json!({"driver": "usb-storage", "drive": "n"}),
        json!({"driver": "pcie-root-port", "id": "p"}),
        json!({"driver": "hda-duplex", "audiodev": "a"}),
    ] {
        assert_eq!(of_json("device_add", &harmless), None, "{harmless}");
    }
    for refused in [
        json!({"driver": "vfio-pci", "host": "0000:00:01.0"}),
        json!({"driver": "usb-host", "hostbus": 1}),
        json!({"driver": "usb-mtp", "rootdir": "/"}),
        json!({"driver": "virtio-net-pci", "netdev": "n", "romfile": "/etc/shadow"}),
        json!({"driver": "usb-storage", "drive": "n", "pcap": "/tmp/x"}),
        json!({"driver": "virtio-input-host-pci", "evdev": "/dev/input/event0"}),
        json!({"driver": "vhost-vsock-pci", "guest-cid": 3}),
        json!({"driver": "virtio-blkfoo"}),
        json!({"driver": "virtio-gpu-gl-pci"}),
        json!({"driver": "virtio-gpu-rutabaga-pci", "wayland-socket-path": "/x"}),
        json!({"driver": "AC97"}),
        json!({"driver": "hda-duplex"}),
        json!({"driver": "virtio-sound-pci"}),
        json!({"driver": "loader", "file": "/x"}),
        json!({}),
    ] {
        assert_eq!(of_json("device_add", &refused), Some(HostAccess::HostDevice), "{refused}");
    }
}

#[test]
fn test_host_access_depends_on_arguments() {
    for (name, arguments, expected) in [
        ("chardev-add", json!({"id": "c", "backend": {"type": "ringbuf", "data": {}}}), None),
        (
            "chardev-add",
            json!({"id": "c", "backend": {"type": "file", "data": {"out": "/x"}}}),
            Some(HostAccess::Files),
        ),
        (
            "chardev-add",
            json!({"id": "c", "backend": {"type": "null", "data": {"logfile": "/x"}}}),
            Some(HostAccess::Files),
        ),
        (
            "chardev-change",
            json!({"id": "c", "backend": {"type": "ringbuf", "data": {"size": 4096, "logfile": "/x"}}}),
            Some(HostAccess::Files),
        ),
        ("netdev_add", json!({"type": "hubport", "id": "n", "hubid": 0}), None),
        ("netdev_add", json!({"type": "user", "id": "n"}), Some(HostAccess::ProgramsOrNetwork)),
        ("blockdev-add", json!({"driver": "null-co", "node-name": "n"}), None),
        ("blockdev-add", json!({"driver": "raw", "file": "n"}), Some(HostAccess::Files)),
        ("object-add", json!({"qom-type": "iothread", "id": "i"}), None),
        ("object-add", json!({"qom-type": "secret", "id": "s", "data": "x"}), None),
        ("object-add", json!({"qom-type": "secret", "id": "s", "file": "/x"}), Some(HostAccess::Files)),
        ("object-add", json!({"qom-type": "secret", "id": "s", "props": {"file": "/x"}}), Some(HostAccess::Files)),
        ("object-add", json!({"qom-type": "memory-backend-file", "id": "m"}), Some(HostAccess::Files)),
        ("object-add", json!({"qom-type": "memory-backend-ram", "id": "m", "size": 1, "reserve": true}), None),
        ("object-add", json!({"qom-type": "memory-backend-ram", "id": "m", "size": 1, "prealloc": false}), None),
        ("object-add", json!({"qom-type": "memory-backend-memfd", "id": "m", "size": 1, "share": true}), None),
        (
            "object-add",
            json!({"qom-type": "memory-backend-ram", "id": "m", "prealloc": true}),
            Some(HostAccess::Memory),
        ),
        (
            "object-add",
            json!({"qom-type": "memory-backend-ram", "id": "m", "host-nodes": [0]}),
            Some(HostAccess::Memory),
        ),
        (
            "object-add",
            json!({"qom-type": "memory-backend-memfd", "id": "m", "hugetlb": true}),
            Some(HostAccess::Memory),
        ),
        ("object-add", json!({"qom-type": "memory-backend-ram", "props": {"prealloc": true}}), Some(HostAccess::Files)),
        ("object-add", json!({"qom-type": "tls-cipher-suites", "id": "t", "dir": "/x"}), Some(HostAccess::Files)),
        ("qom-set", json!({"path": "/m", "property": "guest-stats-polling-interval", "value": 2}), None),
        ("qom-set", json!({"path": "/m", "property": "filename", "value": "/x"}), Some(HostAccess::Property)),
        ("block-commit", json!({"device": "d"}), None),
        ("block-commit", json!({"device": "d", "backing-file": "/x"}), Some(HostAccess::Files)),
    ] {
        assert_eq!(of_json(name, &arguments), expected, "{name} {arguments}");
    }
}
