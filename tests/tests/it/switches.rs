//! Switches of QEMU beside those of maqet, on real QEMU.

use std::collections::BTreeSet;
use std::process::Command;

use maqet_domain::machine::SWITCHES;
use maqet_testkit::guest::{AfterMarker, BootSector};
use maqet_testkit::{TestHome, guest, qemu};
use serde_json::json;

/// Returns the switches that the QEMU in use lists, without hyphens.
fn listed() -> BTreeSet<String> {
    let help = Command::new(qemu::emulator()).arg("-help").output().unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    // As in `-h or -help`, `-fda/-fdb file`, `--preconfig`.
    let names = text.lines().filter(|line| line.starts_with('-')).flat_map(|line| {
        let line = line.replace(" or ", "/");
        let first = line.split([' ', '\t']).next().unwrap_or_default().to_owned();
        first.split('/').map(|name| name.trim_start_matches('-').to_owned()).collect::<Vec<_>>()
    });
    names.filter(|name| !name.is_empty()).collect()
}

#[test]
fn test_switches_of_this_qemu_are_all_decided() {
    let decided: BTreeSet<String> = SWITCHES.iter().map(|(name, _)| (*name).to_owned()).collect();
    let listed = listed();

    let undecided: Vec<&String> = listed.difference(&decided).collect();

    assert!(listed.len() > 90, "{listed:?}");
    assert_eq!(undecided, Vec::<&String>::new());
}

#[test]
fn test_switches_passed_have_their_effect() {
    let home = TestHome::new();
    let drive = "machine: {type: q35}\nstorage: [{name: hdd, size: 1M}]\n";
    let args = "  - {machine: {usb: on}}\n  - no-reboot\n  - no-shutdown\n  - nodefaults\n  - {monitor: none}\n  \
        - {chardev: {\"null\": null, id: mine}}\n  - {mon: {chardev: mine, mode: control}}\n  \
        - {set: device.hdd.serial=by-set}\n  - {global: ICH9-LPC.disable_s3=1}\n  - {D: /dev/null}\n";
    home.add(&format!("{}{args}{drive}", guest::paused_yaml("web")));

    let started = home.json(&["start", "web"]);

    assert_eq!(started["status"], "paused", "{started}");
    let property = |path: &str, name: &str| {
        home.json(&["qmp", "web", "qom-get", &format!("path={path}"), &format!("property={name}")])
    };
    let machine = property("/machine", "type");
    assert!(machine.as_str().unwrap().starts_with("pc-q35-"), "{machine}");
    assert_eq!(property("/machine", "usb"), json!(true));
    assert_eq!(property("/machine/peripheral/hdd", "serial"), json!("by-set"));
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_nographic_leaves_the_console() {
    let home = TestHome::new();
    let image = BootSector::new("by-nographic", AfterMarker::WaitForByte).write(&home);
    home.add(&format!("{}args: [-nographic]\n", BootSector::yaml("web", &image)));

    home.json(&["start", "web"]);
    home.json(&["wait", "web", "--for", "serial:by-nographic", "--timeout", "1m"]);

    let line = home.json(&["info", "web", "--command-line"]);
    assert!(!line.to_string().contains("-display"), "{line}");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_switch_that_takes_the_vm_away_is_refused() {
    let home = TestHome::new();
    let file = home.write("vm.yaml", "name: web\nargs: [-pidfile, /tmp/x]\narguments:\n  - {readconfig: q35.cfg}\n");

    let refused = home.json_error(&["add", file.to_str().unwrap()], 2);

    let problems = refused["problems"].as_array().unwrap();
    let paths: Vec<_> = problems.iter().map(|one| (one["path"].as_str(), one["line"].as_u64())).collect();
    assert_eq!(paths, [(Some("args[0]"), Some(2)), (Some("arguments[0]"), Some(4))], "{refused}");
}
