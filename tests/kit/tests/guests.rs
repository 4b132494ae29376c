//! Each tier of guests, on real QEMU and without maqet: what the other suites build on works by itself.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of a test function")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use maqet_testkit::guest::{AfterMarker, BootSector, Files, READY};
use maqet_testkit::{TestHome, serial, wait};

const DEADLINE: Duration = Duration::from_mins(1);

fn qemu(home: &TestHome, arguments: &[&str]) -> Child {
    let name = home.path("qemu");
    Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg", "-display", "none", "-nodefaults", "-name", &name.display().to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .spawn()
        .expect("QEMU is installed (`cargo xtask test` installs it)")
}

fn monitor(path: &Path) -> BufReader<UnixStream> {
    let mut monitor = BufReader::new(connected(path));
    let mut greeting = String::new();
    monitor.read_line(&mut greeting).unwrap();
    assert!(greeting.contains("QMP"), "{greeting}");
    query(&mut monitor, "qmp_capabilities");
    monitor
}

fn connected(path: &Path) -> UnixStream {
    let stream = wait::until(DEADLINE, "the socket", || UnixStream::connect(path).ok());
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn query(monitor: &mut BufReader<UnixStream>, command: &str) -> String {
    writeln!(monitor.get_mut(), r#"{{"execute": "{command}"}}"#).unwrap();
    loop {
        let mut line = String::new();
        assert!(monitor.read_line(&mut line).unwrap() > 0, "the monitor closed before it answered");
        if !line.contains(r#""event""#) {
            return line;
        }
    }
}

fn ended(mut qemu: Child) -> Option<i32> {
    wait::until(DEADLINE, "the end of QEMU", || qemu.try_wait().unwrap()).code()
}

#[test]
fn test_paused_guest_answers_and_quits() {
    let home = TestHome::new();
    let socket = home.path("q.sock");
    let listen = format!("unix:{},server=on,wait=off", socket.display());

    let qemu = qemu(&home, &["-S", "-m", "32", "-qmp", &listen]);
    let status = query(&mut monitor(&socket), "query-status");
    let seen = home.qemu_pids();
    query(&mut monitor(&socket), "quit");

    assert!(status.contains("prelaunch"), "{status}");
    assert_eq!(seen, [qemu.id().cast_signed()]);
    assert_eq!(ended(qemu), Some(0));
    assert!(home.qemu_pids().is_empty());
}

#[test]
fn test_boot_sector_byte_received_exits_with_its_status() {
    let home = TestHome::new();
    let guest = BootSector::new("maqet-boot", AfterMarker::WaitForByte).leaving_with(21);
    let socket = home.path("serial.sock");
    // QEMU waits for us before the guest runs, so that no byte is missed.
    let listen = format!("unix:{},server=on,wait=on", socket.display());
    let mut qemu = qemu(&home, &sector_arguments(&guest, &home, &listen).each_ref().map(String::as_str));

    let mut line = connected(&socket);
    read_until(&mut line, b"maqet-boot\r\n");
    let waiting = qemu.try_wait().unwrap();
    line.write_all(b"x").unwrap();

    assert_eq!(waiting, None);
    assert_eq!(ended(qemu), Some(guest.status()));
}

#[test]
fn test_boot_sector_set_to_leave_exits() {
    let home = TestHome::new();
    let guest = BootSector::new("short", AfterMarker::Leave).leaving_with(1);
    let log = home.path("serial.log");
    let to_file = format!("file:{}", log.display());

    let qemu = qemu(&home, &sector_arguments(&guest, &home, &to_file).each_ref().map(String::as_str));

    assert_eq!(ended(qemu), Some(3));
    assert!(serial::text(&log).contains("short"));
}

#[test]
fn test_linux_guest_reports_hardware_and_obeys_power_button() {
    let files = Files::built();
    let home = TestHome::new();
    let (socket, log) = (home.path("q.sock"), home.path("serial.log"));
    let disk = home.write("disk.img", vec![0; 1 << 20]);

    let mut qemu = qemu(
        &home,
        &[
            "-m",
            "256",
            "-smp",
            "2",
            "-kernel",
            &files.kernel().display().to_string(),
            "-initrd",
            &files.initramfs().display().to_string(),
            "-append",
            "console=ttyS0 quiet",
            "-serial",
            &format!("file:{}", log.display()),
            "-qmp",
            &format!("unix:{},server=on,wait=off", socket.display()),
            "-drive",
            &format!("file={},format=raw,if=virtio", disk.display()),
        ],
    );
    serial::wait_for(&log, READY, DEADLINE);
    let facts = serial::wait_for(&log, "mem_kib=", DEADLINE);
    let mut qmp = monitor(&socket);
    let status = wait::until(DEADLINE, "the end of QEMU", || {
        // A guest that is hardly up may miss it.
        let _ended_meanwhile = writeln!(qmp.get_mut(), r#"{{"execute": "system_powerdown"}}"#);
        wait::try_until(Duration::from_secs(3), || qemu.try_wait().unwrap())
    });

    assert!(facts.ends_with("cpus=2 disks=vda:1048576 firmware=bios"), "{facts}");
    assert_eq!(status.code(), Some(0));
}

fn sector_arguments(guest: &BootSector, home: &TestHome, serial: &str) -> [String; 8] {
    let image = guest.write(home);
    [
        "-m",
        "16",
        "-serial",
        serial,
        "-device",
        "isa-debug-exit,iobase=0xf4,iosize=0x04",
        "-drive",
        &format!("file={},format=raw,if=ide", image.display()),
    ]
    .map(str::to_owned)
}

fn read_until(source: &mut impl Read, marker: &[u8]) {
    let mut seen = Vec::new();
    while !seen.ends_with(marker) {
        let mut byte = [0];
        source.read_exact(&mut byte).expect("the guest writes in time");
        seen.extend(byte);
    }
}
