//! Formats of other programs, controllers and ports, and how files are accessed, on real QEMU.

use std::path::PathBuf;
use std::process::Command;

use maqet_testkit::guest::{AfterMarker, BootSector};
use maqet_testkit::{TestHome, guest};
use serde_json::json;

/// Returns a copy of an image in another format.
fn converted(home: &TestHome, from: &PathBuf, format: &str) -> PathBuf {
    let to = home.path(format!("disk.{format}"));
    let status =
        Command::new("qemu-img").args(["convert", "-q", "-f", "raw", "-O", format]).arg(from).arg(&to).status();
    assert!(status.unwrap().success(), "{format}");
    to
}

#[test]
fn test_drive_in_a_format_of_another_program_boots() {
    let home = TestHome::new();
    let mut boot = BootSector::new("from-a-vmdk", AfterMarker::WaitForByte).image();
    // Firmware boots no disk of one sector.
    boot.resize(1 << 20, 0);
    let boot = home.write("boot.img", boot);
    let drives: Vec<String> = ["vmdk", "vdi", "vhdx", "vpc"]
        .iter()
        .zip(0..)
        .map(|(format, index)| {
            let file = converted(&home, &boot, format);
            format!("  - {{name: {format}, type: {format}, file: {}, bootindex: {index}}}\n", file.display())
        })
        .collect();
    home.add(&format!("name: web\naccel: tcg\nmemory: 16M\nstorage:\n{}", drives.concat()));

    home.json(&["start", "web"]);
    home.json(&["wait", "web", "--for", "serial:from-a-vmdk", "--timeout", "1m"]);

    let blocks = home.json(&["qmp", "web", "query-block"]);
    let blocks = blocks.as_array().unwrap().iter().map(|block| &block["inserted"]);
    let formats: Vec<_> = blocks.filter_map(|one| Some((one["node-name"].as_str()?, one["drv"].as_str()?))).collect();
    for format in ["vmdk", "vdi", "vhdx", "vpc"] {
        assert!(formats.contains(&(format, format)), "{formats:?}");
    }
    home.json(&["stop", "web", "--force"]);
    home.json(&["storage", "convert", "web", "vmdk", "qcow2"]);
    let definition = home.json(&["info", "web"]);
    assert!(definition.to_string().contains("disk.qcow2"), "{definition}");
    home.json(&["start", "web"]);
    home.json(&["wait", "web", "--for", "serial:from-a-vmdk", "--timeout", "1m"]);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_drive_with_the_header_of_another_format_is_refused() {
    let home = TestHome::new();
    let boot = BootSector::new("x", AfterMarker::Sleep).write(&home);
    let file = converted(&home, &boot, "vdi");
    home.add(&format!("{}storage: [{{name: a, type: vmdk, file: {}}}]\n", guest::paused_yaml("web"), file.display()));

    let refused = home.json_error(&["start", "web"], 2);

    assert_eq!(refused["code"], "storage.format-conflict", "{refused}");
    assert_eq!(refused["hints"][0], "set `type: vdi` for the drive", "{refused}");
}

#[test]
fn test_drives_are_on_their_controllers_and_ports() {
    let home = TestHome::new();
    let drives = "storage:\n  - {name: a, size: 1M, interface: scsi}\n  \
        - {name: b, size: 1M, interface: scsi, controller: slow, port: 7, aio: io_uring}\n  \
        - {name: c, size: 1M, interface: scsi, controller: slow}\n  \
        - {name: d, size: 1M, interface: sata, port: 3, cache: none, aio: native}\n  \
        - {name: e, size: 1M, interface: sata, controller: second, port: 3}\n";
    home.add(&format!("{}{drives}", guest::paused_yaml("web")));

    home.json(&["start", "web"]);

    let property = |drive: &str, name: &str| {
        let path = format!("path=/machine/peripheral/{drive}");
        home.json(&["qmp", "web", "qom-get", &path, &format!("property={name}")])
    };
    assert_eq!(["a", "b", "c"].map(|drive| property(drive, "scsi-id")), [json!(0), json!(7), json!(0)]);
    let bus =
        |drive: &str| property(drive, "parent_bus").as_str().unwrap_or_default().rsplit('/').next().map(str::to_owned);
    let buses = ["a", "b", "c", "d", "e"].map(|drive| bus(drive).unwrap_or_default());
    assert_eq!(buses, ["scsi.0", "slow.0", "slow.0", "sata.3", "second.3"]);
    home.json(&["stop", "web", "--force"]);
}
