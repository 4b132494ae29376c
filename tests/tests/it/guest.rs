//! A real guest sees what the configuration says: the documented examples, booted.
//!
//! The examples are those of the documentation, unchanged; a second file, merged over them, adds a kernel and
//! `accel: tcg`. Each boots once, for all assertions about it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use maqet_domain::qmp::versions::Difference;
use maqet_testkit::{TestHome, guest, serial, wait};
use serde_json::{Value, json};

use crate::versions;

const BOOT: Duration = Duration::from_secs(90);

/// A guest that has booted.
struct Booted {
    home: TestHome,
    name: &'static str,
    /// Its serial output until it was ready.
    reported: String,
}

/// Returns a documented example.
fn example(name: &str) -> String {
    fs::read_to_string(Path::new("../docs/examples").join(name).with_extension("yaml")).unwrap()
}

/// Boots an example, with the YAML `over` merged over it, in a home that has the files it names.
fn boot(home: TestHome, name: &'static str, example: &str, over: &str) -> Booted {
    let example = home.write("example.yaml", example);
    let over = home.write("over.yaml", over);
    home.maqet(["add"]).arg(example).arg(over).run().ok();
    let started = home.json(&["start", name]);
    let log = Path::new(started["serial_log"].as_str().unwrap());
    serial::wait_for(log, guest::READY, BOOT);
    Booted { reported: serial::text(log), home, name }
}

impl Booted {
    /// Returns the number after `key=` in the guest's output.
    fn fact(&self, key: &str) -> u64 {
        let (_, value) =
            self.reported.split_once(&format!("{key}=")).unwrap_or_else(|| panic!("no {key}: {}", self.reported));
        value.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Types lines at the guest's serial shell.
    fn types(&self, lines: &[&str]) -> serial::Line {
        let mut console = serial::Line::of(&self.home);
        console.write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
        console
    }

    /// Types lines, and returns the console output until the last one is done.
    fn shell(&self, lines: &[&str]) -> String {
        let mut console = self.types(&[lines, &["echo; echo all-do'ne'"]].concat());
        let until = Instant::now() + BOOT;
        let mut output = Vec::new();
        let mut some = [0; 4096];
        while Instant::now() < until {
            if let Ok(length) = console.read(&mut some) {
                output.extend_from_slice(&some[..length]);
            }
            let text = String::from_utf8_lossy(&output);
            if text.lines().any(|line| line.trim() == "all-done") {
                return text.into_owned();
            }
        }
        panic!("the guest did not finish: {}", String::from_utf8_lossy(&output));
    }

    /// Returns the block node of this name from QEMU.
    fn node(&self, node: &str) -> Value {
        let nodes = self.home.json(&["qmp", self.name, "query-named-block-nodes"]);
        nodes.as_array().unwrap().iter().find(|one| one["node-name"] == node).unwrap().clone()
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        // Nothing here may panic while a test panics; the home kills its processes anyway.
        if !std::thread::panicking() {
            self.home.json(&["stop", self.name, "--force"]);
        }
    }
}

/// Returns all installed firmware descriptors.
fn descriptors() -> Vec<Value> {
    let entries = fs::read_dir("/usr/share/qemu/firmware").expect("UEFI firmware is installed (`apt install ovmf`)");
    entries.map(|entry| serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap()).collect()
}

#[test]
fn test_example_uefi_boots_with_its_own_variables() {
    let linux = guest::linux_boot_yaml(&guest::Files::built());

    let booted = boot(TestHome::new(), "uefi", &example("uefi"), &linux);

    let path = if versions::has(Difference::NvmeMultipath) { "nvme0c0n1:21474836480," } else { "" };
    let expected = format!("disks={path}nvme0n1:21474836480 firmware=uefi");
    assert!(booted.reported.contains(&expected), "{}", booted.reported);
    let output = booted.shell(&["dmesg | grep 'efi: EFI'"]);
    assert!(output.lines().any(|line| line.contains("] efi: EFI v2") && line.contains("EDK II")), "{output}");

    let code = booted.node("uefi-code-file")["file"].clone();
    let is_described = |one: &Value| one["mapping"]["executable"]["filename"] == code;
    assert!(descriptors().iter().any(is_described), "{code}");
    let variables = booted.node("uefi-vars");
    let own = booted.home.data().join("storage/uefi/uefi-vars.qcow2");
    assert_eq!((&variables["drv"], &variables["file"]), (&json!("qcow2"), &json!(own)));
    assert_eq!((&variables["ro"], &fs::read(&own).unwrap()[..4]), (&json!(false), b"QFI\xfb".as_slice()));
}

#[test]
fn test_example_shared_directory_is_writable_unless_read_only() {
    let home = TestHome::new();
    home.write("src/from-host", "of the host");
    home.write("docs/manual", "to be read");
    let linux = guest::linux_boot_yaml(&guest::Files::built_with_9p());

    let booted = boot(home, "shared-directory", &example("shared-directory"), &linux);
    let output = booted.shell(&[
        "load 9p 9pnet_virtio; mkdir /mnt/src /mnt/docs",
        "for tag in src docs; do mount -t 9p -o trans=virtio,version=9p2000.L $tag /mnt/$tag; done",
        "cat /mnt/src/from-host; cat /mnt/docs/manual",
        "echo 'of the guest' >/mnt/src/from-guest",
        "echo 'of the guest' >/mnt/docs/from-guest",
        "rm /mnt/docs/manual",
    ]);

    assert!(output.contains("of the host") && output.contains("to be read"), "{output}");
    assert_eq!(fs::read_to_string(booted.home.path("src/from-guest")).unwrap(), "of the guest\n");
    let made = fs::metadata(booted.home.path("src/from-guest")).unwrap();
    assert_eq!(made.permissions().mode() & 0o777, 0o600, "as the documentation of `mapped-xattr` says");
    assert_eq!(output.matches(": Read-only file system").count(), 2, "{output}");
    let docs: Vec<PathBuf> = fs::read_dir(booted.home.path("docs")).unwrap().map(|one| one.unwrap().path()).collect();
    assert_eq!(docs, [booted.home.path("docs/manual")]);
}

#[test]
fn test_example_two_disks_has_sizes_serials_and_forward() {
    let home = TestHome::new();
    let base = ["create", "-q", "-f", "qcow2", "base.qcow2", "48M"];
    let made = std::process::Command::new("qemu-img").args(base).current_dir(home.root()).status().unwrap();
    assert!(made.success());
    let linux = guest::linux_boot_yaml(&guest::Files::built());
    let more = "cpu: 2\nstorage: [{name: root, serial: ROOT-1}]\nnetwork: {forward: [\"0:80\"]}\n";

    let booted = boot(home, "two-disks", &example("two-disks"), &format!("{linux}{more}"));
    let output = booted.shell(&[
        "load virtio_scsi sd_mod",
        "until [ -e /sys/block/sda/size ]; do sleep 0.1; done; cat /sys/block/*da/size",
        "cat /sys/block/vda/serial; cat -v /sys/block/sda/device/vpd_pg80",
        "load virtio_net; ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up",
    ]);
    let too_early = booted.home.json_error(&["wait", booted.name, "--for", "port:80", "--timeout", "1s"], 124);
    assert_eq!(too_early["code"], "wait.timed-out", "QEMU takes the connection, and the guest does not");
    booted.shell(&["mkdir /www; echo 'the guest answers' >/www/index.html; httpd -h /www"]);
    booted.home.json(&["wait", booted.name, "--for", "port:80"]);

    assert!((900_000..1_048_576).contains(&booted.fact("mem_kib")), "{}", booted.reported);
    assert_eq!(booted.fact("cpus"), 2);
    let lines: Vec<&str> = output.lines().map(str::trim).collect();
    assert!(lines.contains(&"10485760") && lines.contains(&"98304"), "sectors of the 5G and the 48M disk: {output}");
    assert!(output.contains("ROOT-1") && output.contains("DATA-1"), "{output}");

    let forwards = booted.home.json(&["status", booted.name])["forwards"].clone();
    let port = u16::try_from(forwards[0]["host_port"].as_u64().unwrap()).unwrap();
    wait::until(BOOT, "the answer of the guest's web server", || {
        fetched(port).ok().filter(|answer| answer.ends_with("the guest answers\n"))
    });
}

/// Fetches the first page of a web server.
fn fetched(port: u16) -> std::io::Result<String> {
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    std::io::read_to_string(connection)
}

#[test]
fn test_example_ci_has_no_network_and_exits_on_reboot() {
    let files = guest::Files::built();
    let path = |path: PathBuf| path.to_str().unwrap().to_owned();
    let example = example("ci-guest")
        .replace("/srv/ci/vmlinuz", &path(files.kernel()))
        .replace("/srv/ci/initramfs.cpio", &path(files.initramfs()));

    let booted = boot(TestHome::new(), "ci-guest", &example, "accel: tcg\n");
    let output = booted.shell(&["echo cards: /sys/class/net/*; cat /proc/cmdline"]);
    assert!(output.contains("cards: /sys/class/net/lo\r\n"), "{output}");
    assert!(output.contains("console=ttyS0 quiet panic=-1\r\n"), "{output}");

    // A shell that is about to prompt drops earlier input, so the command is repeated.
    let mut consoles = Vec::new();
    let stopped = wait::until(BOOT, "the VM to be stopped", || {
        consoles.push(booted.types(&["reboot -f"]));
        let waited =
            booted.home.maqet(["--format", "json", "wait", booted.name, "--for", "stopped", "--timeout", "5s"]);
        waited.run().code.filter(|code| *code == 0).map(|_| booted.home.json(&["status", booted.name]))
    });

    assert_eq!(stopped["reason"], "guest-reset");
}
