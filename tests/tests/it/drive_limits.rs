//! Drives with `iops` and `bps`: what the guest requests is delayed, and nothing else.

use std::fs;
use std::time::{Duration, Instant};

use maqet_testkit::guest::CountingGuest;
use maqet_testkit::{TestHome, guest, wait};
use serde_json::{Value, json};

/// QEMU lets a guest that was idle request a tenth of a second's worth at once, and one request is under way.
const BURST: f64 = 0.1;

/// A VM that writes one sector after the other, to two drives in turn, as fast as it can: without flushing them.
fn writing(home: &TestHome, limits: &str) {
    let boot = CountingGuest::write(home);
    // Firmware boots no disk of one sector.
    fs::OpenOptions::new().write(true).open(&boot).unwrap().set_len(1 << 20).unwrap();
    let size = CountingGuest::DISK_BYTES >> 20;
    home.add(&format!(
        "name: web\naccel: tcg\nmemory: 16M\nnetwork: none\nstorage:\n  \
         - {{name: boot, type: raw, file: {}, readonly: true}}\n  \
         - {{name: a, size: {size}M, cache: unsafe, {limits}}}\n  - {{name: b, size: {size}M, cache: unsafe}}\n",
        boot.display(),
    ));
}

fn block(home: &TestHome, drive: &str) -> Value {
    let blocks = home.json(&["qmp", "web", "query-block"]);
    let is_it = |block: &&Value| block["inserted"]["node-name"] == drive;
    blocks.as_array().unwrap().iter().find(is_it).unwrap()["inserted"].clone()
}

/// Returns how many sectors the guest wrote to the drive `a`.
fn writes(home: &TestHome) -> u64 {
    let stats = home.json(&["qmp", "web", "query-blockstats"]);
    let is_it = |one: &&Value| one["node-name"] == "a";
    stats.as_array().unwrap().iter().find(is_it).unwrap()["stats"]["wr_operations"].as_u64().unwrap()
}

/// Asserts that the guest writes, but no more than `limit` sectors a second, however fast the host is.
#[track_caller]
fn check_rate(home: &TestHome, limit: u32) {
    let limit = f64::from(limit);
    // The first writes are those of the burst.
    wait::until(Duration::from_secs(30), "the guest writes", || (writes(home) >= 5).then_some(()));
    let since = Instant::now();
    let first = writes(home);
    let wanted = first + 15;
    let last = wait::until(Duration::from_mins(1), "15 writes", || Some(writes(home)).filter(|last| *last >= wanted));

    let seconds = since.elapsed().as_secs_f64();

    let written = u32::try_from(last - first).map(f64::from).unwrap();
    assert!(written <= limit * (seconds + BURST) + 1.0, "{written} writes in {seconds} s at {limit} a second");
}

#[test]
fn test_drive_limits_hold_for_the_guest() {
    let home = TestHome::new();
    writing(&home, "iops: {write: 10}");

    home.json(&["start", "web"]);
    check_rate(&home, 10);
    home.json(&["stop", "web", "--force"]);
    // 10 sectors a second.
    home.json(&["apply", "web", "--set", "storage.a.iops=null", "--set", "storage.a.bps=5K"]);
    home.json(&["start", "web"]);
    check_rate(&home, 10);

    assert_eq!(block(&home, "a")["bps"], 5 << 10);
    // Those in effect, and not those of the definition, until the VM stops.
    let shown = || home.json(&["inspect", "web"])["disks"][1].clone();
    assert_eq!((&shown()["bps"], shown().get("iops")), (&json!("5K"), None));
    let other = ["device=maqet-limits-a", "iops=0", "iops_rd=0", "iops_wr=9", "bps=0", "bps_rd=0", "bps_wr=0"];
    home.json(&[&["qmp", "web", "block_set_io_throttle"][..], &other].concat());
    assert_eq!((&shown()["iops"], shown().get("bps")), (&json!("write=9"), None));
    assert_eq!(home.json(&["info", "web"])["storage"][1]["bps"], "5K");
    let text = home.maqet(["info", "web"]).run().ok();
    assert!(text.stdout.contains(", bps 5K"), "{text}");
    home.json(&["stop", "web", "--force"]);
    assert_eq!((&shown()["bps"], shown().get("iops")), (&json!("5K"), None));
}

/// At the limit, each would take minutes.
#[test]
fn test_drive_limits_do_not_delay_snapshots_and_backups() {
    let home = TestHome::new();
    writing(&home, "iops: 10, bps: 5K");
    home.json(&["start", "web"]);
    wait::until(Duration::from_secs(30), "the guest writes", || (writes(&home) >= 3).then_some(()));

    home.json(&["backup", "create", "web"]);
    home.json(&["storage", "resize", "web", "a", "+1M"]);
    home.json(&["snapshot", "create", "web", "all", "saved", "--live"]);
    home.json(&["snapshot", "load", "web", "all", "saved", "--live"]);

    let drive = block(&home, "a");
    let parts = ["iops", "bps", "drv", "node-name"].map(|key| drive[key].clone());
    assert_eq!(parts, [json!(10), json!(5 << 10), json!("qcow2"), json!("a")], "{drive}");
    assert_eq!(drive["image"]["virtual-size"], CountingGuest::DISK_BYTES + (1 << 20), "{drive}");
    // Its other limits make no difference to the memory in the snapshot.
    home.json(&["stop", "web", "--force"]);
    home.json(&["apply", "web", "--set", "storage.a.iops=null", "--set", "storage.a.bps=null"]);
    home.json(&["start", "web"]);
    home.json(&["snapshot", "load", "web", "all", "saved", "--live"]);
    assert_eq!(home.json(&["info", "web"])["definition"]["storage"][1].get("bps"), None);
}

/// Each interface has a device that refers to the drive; the last is a file of the user's without permission to write.
#[test]
fn test_drive_limits_are_on_every_interface() {
    let home = TestHome::new();
    let cd = home.write("cd.iso", vec![0; 1 << 20]);
    home.add(&format!(
        "{}storage:\n  - {{name: a, size: 1M, bps: {{read: 1M, write: 2M}}, cache: none, aio: native}}\n  \
         - {{name: b, size: 1M, iops: {{read: 3, write: 4}}, interface: scsi, discard: true, werror: stop}}\n  \
         - {{name: c, size: 1M, iops: 5, interface: sata, cache: writethrough}}\n  \
         - {{name: d, size: 1M, iops: 6, interface: ide, type: raw, snapshot: true}}\n  \
         - {{name: e, size: 1M, bps: 1T, type: nvme, cache: unsafe, aio: io_uring}}\n  \
         - {{name: f, iops: 7, type: iso, file: {}}}\n",
        guest::paused_yaml("web"),
        cd.display(),
    ));

    home.json(&["start", "web"]);

    let drive_of = |node: &str| {
        let blocks = home.json(&["qmp", "web", "query-block"]);
        let blocks = blocks.as_array().unwrap().iter();
        let of_node = |block: &&Value| block["inserted"]["node-name"] == node;
        blocks.clone().find(of_node).unwrap()["device"].as_str().unwrap().to_owned()
    };
    let limits = |drive: &str| {
        let block = block(&home, drive);
        ["iops", "iops_rd", "iops_wr", "bps", "bps_rd", "bps_wr"].map(|key| block[key].as_u64().unwrap())
    };
    assert_eq!(limits("a"), [0, 0, 0, 0, 1 << 20, 2 << 20]);
    assert_eq!(limits("b"), [0, 3, 4, 0, 0, 0]);
    assert_eq!(["c", "d", "f"].map(|drive| limits(drive)[0]), [5, 6, 7]);
    assert_eq!(limits("e")[3], 1 << 40);
    // The human monitor would split it.
    let odd = home.write("a \"b\",c.raw", vec![0; 1 << 20]);
    let file = odd.to_str().unwrap();
    for (device, bus) in [("scsi-hd", "bus=scsi.0"), ("virtio-blk-pci", "addr=0x10")] {
        let arguments = [device, "--file", file, "--readonly", "--iops", "read=5,write=6", "--bps", "1M", bus];
        let added = home.json(&[&["qmp", "device-add", "web"][..], &arguments].concat());
        let backend = added["backend"].as_str().unwrap();
        assert_eq!(limits(backend), [0, 5, 6, 1 << 20, 0, 0], "{added}");
        // The drive, which the device has had from the beginning.
        assert_eq!(drive_of(backend), format!("maqet-limits-{backend}"));
        home.json_error(&["qmp", "device-add", "web", device, "--iops", "5"], 2);
    }
    home.json_error(&["qmp", "device-add", "web", "scsi-hd", "--file", file, "--bps", "100"], 2);
    // Without its device, nothing of it is left.
    let no_bus = ["scsi-hd", "--file", file, "--readonly", "--bps", "1M", "--id", "lost", "bus=none.0"];
    home.json_error(&[&["qmp", "device-add", "web"][..], &no_bus].concat(), 1);
    assert!(!home.json(&["qmp", "web", "query-block"]).to_string().contains("lost"));
    // Its drive stays when the medium goes.
    home.json(&["qmp", "eject", "web", "f"]);
    home.json(&["qmp", "insert", "web", "f", cd.to_str().unwrap()]);
    let out = home.json(&["qmp", "device-del", "web", "b"]);
    assert_eq!((&out["changed"], out.get("in_use")), (&json!(true), None), "{out}");
    let nodes = home.json(&["qmp", "web", "query-named-block-nodes"]).to_string();
    assert!(!nodes.contains(r#""node-name":"b"#), "{nodes}");
    home.json(&["stop", "web", "--force"]);
}
