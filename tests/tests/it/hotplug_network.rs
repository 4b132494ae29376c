//! Network cards added to running VMs that join networks of the host: taps and bridges.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use maqet_domain::qmp::versions::Difference;
use maqet_testkit::{TestHome, guest, namespaces, serial};
use serde_json::{Value, json};

use crate::versions;

const BOOT: Duration = Duration::from_secs(90);

/// Runs commands on the host.
fn host(script: &str) {
    let status = Command::new("sh").args(["-e", "-c", script]).status().unwrap();
    assert!(status.success(), "{script}");
}

fn device_add(home: &TestHome, netdev: &str, id: &str) -> Value {
    home.json(&["qmp", "device-add", "web", "virtio-net-pci", "--netdev", netdev, "--id", id])
}

#[test]
fn test_device_add_tap_and_bridge_carry_guest_traffic() {
    namespaces::within("hotplug_network::test_device_add_tap_and_bridge_carry_guest_traffic", || {
        let home = TestHome::new();
        let mut shell = boot(&home);
        host("ip tuntap add dev tap0 mode tap; ip addr add 10.77.0.1/24 dev tap0; ip link set tap0 up");
        host("ip link add br0 type bridge; ip addr add 10.77.1.1/24 dev br0; ip link set br0 up");
        allow_bridge(&home, "br0");

        for (number, netdev) in ["tap,ifname=tap0", "bridge,br=br0"].into_iter().enumerate() {
            let added = device_add(&home, netdev, "card");
            assert_eq!(added["backend"], "hotplug-card");
            let output = shell.run(&[
                "load virtio_net; until [ -e /sys/class/net/eth0 ]; do sleep 0.1; done",
                &format!("ip addr add 10.77.{number}.2/24 dev eth0; ip link set eth0 up"),
                &format!("until ping -c 1 -W 5 10.77.{number}.1; do sleep 0.1; done; echo reached"),
            ]);
            assert!(output.contains("reached"), "{netdev}: {output}");

            let out = home.json(&["qmp", "device-del", "web", "card", "--timeout", "60s"]);

            assert_eq!((&out["changed"], &out["backend"]), (&json!(true), &json!("hotplug-card")), "{netdev}");
            shell.run(&["while [ -e /sys/class/net/eth0 ]; do sleep 0.1; done"]);
        }
        // The tap stays; that of the bridge was created by QEMU.
        host("ip link show tap0 >/dev/null; test -z \"$(ip -o link show master br0)\"");
        device_add(&home, "tap,ifname=tap0", "again");
    });
}

#[test]
fn test_device_add_tap_in_use_fails_and_leaves_nothing() {
    namespaces::within("hotplug_network::test_device_add_tap_in_use_fails_and_leaves_nothing", || {
        let home = TestHome::new();
        home.add(&guest::paused_yaml("web"));
        home.json(&["start", "web"]);
        host("ip tuntap add dev tap0 mode tap; ip link set tap0 up");
        device_add(&home, "tap,ifname=tap0", "first");

        let arguments = ["qmp", "device-add", "web", "virtio-net-pci", "--netdev", "tap,ifname=tap0", "--id", "second"];
        let error = home.json_error(&arguments, 1);

        assert!(error["message"].as_str().unwrap().contains("tap0): Device or resource busy"), "{error}");
        let network = home.json(&["qmp", "web", "human-monitor-command", "command-line=info network"]);
        assert!(!network.to_string().contains("second"), "{network}");
    });
}

/// QEMU starts a helper for a bridge; the kernel kills a QEMU whose sandbox forbids that.
#[test]
fn test_device_add_spawning_process_in_sandbox_is_refused() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    let pid = home.json(&["start", "web"])["pid"].clone();
    // Takes effect at the next start only.
    home.json(&["apply", "web", "--set", "sandbox=false"]);

    for arguments in [
        &["qmp", "device-add", "web", "virtio-net-pci", "--netdev", "bridge,br=br0"][..],
        &["qmp", "web", "netdev_add", "type=bridge", "id=n", "br=br0", "--allow-dangerous"],
        // QEMU would be killed when the card is removed.
        &["qmp", "web", "netdev_add", "type=tap", "id=n", "ifname=tap0", "script=no", "--allow-dangerous"],
        &["qmp", "web", "migrate", "uri=exec:cat", "--allow-dangerous"],
    ] {
        let error = home.json_error(arguments, 4);
        assert_eq!(error["code"], "device.sandbox-refused", "{error}");
        assert!(error["hints"][1].as_str().unwrap().contains("--set sandbox=false"), "{error}");
    }

    assert_eq!(home.json(&["status", "web"])["pid"], pid);
}

/// HMP command lines are not checked, and so show what QEMU and the kernel do.
#[test]
fn test_device_add_spawning_process_is_refused_only_if_fatal() {
    const DENIED: [&str; 2] = ["on,spawn=deny", "off"];
    const ALLOWED: [&str; 2] = ["off", "on,spawn=deny,spawn=allow"];
    for (sandboxes, is_ended) in [(DENIED, true), (ALLOWED, false)] {
        let home = TestHome::new();
        let lines = sandboxes.map(|sandbox| format!("  - {{sandbox: \"{sandbox}\"}}\n")).concat();
        home.add(&format!("{}{lines}", guest::paused_yaml("web")));
        home.json(&["start", "web"]);
        let migrate = ["qmp", "web", "migrate", "uri=exec:cat >/dev/null", "--allow-dangerous"];
        let by_hand = "command-line=migrate -d \"exec:cat >/dev/null\"";

        if is_ended {
            assert_eq!(home.json_error(&migrate, 4)["code"], "device.sandbox-refused");
            let arguments = ["qmp", "web", "human-monitor-command", by_hand, "--allow-dangerous"];
            assert_ne!(home.maqet(arguments).run().code, Some(0));
        } else {
            home.json(&migrate);
        }

        // A newer QEMU survives, and maqet refuses what cannot work there either.
        let is_ended = is_ended && !versions::has(Difference::SpawnDenialIsAnError);
        let status = &home.json(&["status", "web"])["status"];
        assert_eq!(status == "stopped", is_ended, "{sandboxes:?}: {status}");
    }
}

/// As on a kernel without bridges: the test passes, and the test runner would capture what it prints.
#[test]
fn test_namespaces_host_without_bridges_reports_skipped() {
    let home = TestHome::new();
    let ip = home.write("bin/ip", "#!/bin/sh\ncase \"$*\" in *bridge*) exit 2 ;; esac\n");
    fs::set_permissions(&ip, Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", home.path("bin").display(), std::env::var("PATH").unwrap());
    let test = "hotplug_network::test_device_add_tap_and_bridge_carry_guest_traffic";

    let mut program = Command::new(std::env::current_exe().unwrap());
    let output = program.args(["--exact", test]).env("PATH", path).output().unwrap();

    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.contains(&format!("{test} is SKIPPED: ")), "{output:?}");
}

#[test]
fn test_namespaces_unknown_test_name_fails() {
    // A test that needs no network.
    let there = namespaces::run("hotplug_network::test_namespaces_network_has_only_loopback");
    let missing = namespaces::run("hotplug_network::test_namespaces_network_of_no_test");

    assert_eq!(there.is_ok(), namespaces::lack().is_none(), "{there:?}");
    assert!(missing.is_err());
}

#[test]
fn test_namespaces_network_has_only_loopback() {
    namespaces::within("hotplug_network::test_namespaces_network_has_only_loopback", || {
        host("test -z \"$(ip -o link | grep -v ' lo:')\"");
    });
}

#[test]
fn test_device_add_bridge_refused_by_helper_hints_at_log() {
    let home = TestHome::new();
    home.add(&format!("{}sandbox: false\n", guest::paused_yaml("web")));
    home.json(&["start", "web"]);

    let arguments = ["qmp", "device-add", "web", "virtio-net-pci", "--netdev", "bridge,br=maqet-none"];
    let error = home.json_error(&arguments, 69);

    assert_eq!(error["code"], "device.bridge-refused", "{error}");
    assert_eq!(error["hints"][0], "read its message with `maqet logs web --qemu`");
}

/// A guest without cards, and without the sandbox, which forbids QEMU to start its helper.
fn boot(home: &TestHome) -> guest::Shell {
    let linux = guest::linux_yaml("web", &guest::Files::built());
    home.add(&format!("{linux}network: none\nsandbox: false\n"));
    let started = home.json(&["start", "web"]);
    serial::wait_for(Path::new(started["serial_log"].as_str().unwrap()), guest::READY, BOOT);
    guest::Shell::of(home)
}

/// Allows a bridge to QEMU's helper, within the mounts of this test.
fn allow_bridge(home: &TestHome, bridge: &str) {
    let layer = home.path("etc");
    fs::create_dir(&layer).unwrap();
    let layer = layer.display();
    host(&format!(
        "mount -t tmpfs none {layer}; mkdir {layer}/up {layer}/work
         mount -t overlay none -o lowerdir=/etc,upperdir={layer}/up,workdir={layer}/work /etc
         umount {layer}
         mkdir -p /etc/qemu; chmod 755 /etc/qemu; echo allow {bridge} >/etc/qemu/bridge.conf
         chmod 644 /etc/qemu/bridge.conf"
    ));
}
