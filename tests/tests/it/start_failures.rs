//! Starts that QEMU refuses: the cause in our words, a hint that fits, and the exit code; and what it warns about.
//!
//! Each failure is a real one, on each version of QEMU. No hint of a known failure is only to look at the command line.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use maqet_testkit::{TestHome, qemu};
use serde_json::{Value, json};

/// A start that fails: keys, exit code, error code, a part of the message, and a part of a hint.
type Case<'a> = (&'a str, i32, &'a str, &'a str, &'a str);

#[track_caller]
fn check(home: &TestHome, (keys, exit, code, cause, hint): Case<'_>) {
    home.add(&format!("name: web\naccel: tcg\nmemory: 32M\n{keys}"));

    let error = home.json_error(&["start", "web"], exit);

    assert_eq!(error["code"], code, "{keys}: {error}");
    assert!(error["message"].as_str().unwrap().contains(cause), "{keys}: {error}");
    let hints = error["hints"].as_array().unwrap();
    assert!(hints.iter().any(|one| one.as_str().unwrap().contains(hint)), "{keys}: {error}");
    assert!(!hints.iter().any(|one| one.as_str().unwrap().contains("--command-line")), "{keys}: {error}");
    assert!(!error["causes"].as_array().unwrap().is_empty(), "{keys}: {error}");
    home.json(&["rm", "web"]);
}

#[track_caller]
fn check_all(cases: &[Case<'_>]) {
    let home = TestHome::new();
    for case in cases {
        check(&home, *case);
    }
}

#[test]
fn test_names_unknown_to_qemu_are_refused_with_near_ones() {
    check_all(&[
        ("machine: q53\n", 2, "qemu.machine-not-found", "has no machine type `q53`", "did you mean `q35`"),
        ("arguments: [{machine: \"pc-q35-1.0,usb=on\"}]\n", 2, "qemu.machine-not-found", "`pc-q35-1.0`", "`pc-q35-"),
        (
            "cpu_model: Skylake-Clinet\n",
            2,
            "qemu.cpu-model-not-found",
            "`Skylake-Clinet`",
            "did you mean `Skylake-Client`",
        ),
        ("cpu_model: nothing-like-it\n", 2, "qemu.cpu-model-not-found", "QEMU ", "-cpu help"),
        (
            "arguments: [{device: virtio-ntt-pci}]\n",
            2,
            "device.driver-not-found",
            "`virtio-ntt-pci`",
            "`virtio-net-pci`",
        ),
        ("arguments: [{device: ahcy}]\n", 2, "device.driver-not-found", "`ahcy`", "did you mean `ahci`"),
        ("arguments: [{accel: hvf}]\n", 69, "qemu.accelerator-not-found", "no accelerator `hvf`", "accel: tcg"),
    ]);
}

#[test]
fn test_buses_and_properties_that_do_not_exist_say_what_fits() {
    check_all(&[
        (
            "machine: microvm\narguments: [{device: ide-hd}]\n",
            2,
            "device.bus-not-found",
            "no IDE bus",
            "interface: virtio",
        ),
        ("machine: q35\narguments: [{device: usb-tablet}]\n", 2, "device.bus-not-found", "no USB bus", "qemu-xhci"),
        (
            "machine: microvm\narguments: [{device: e1000}]\n",
            2,
            "device.bus-not-found",
            "`microvm` has no PCI",
            "virtio-net-device",
        ),
        ("arguments: [{device: virtserialport}]\n", 2, "device.bus-not-found", "serial bus", "virtio-serial"),
        ("arguments: [{device: scsi-hd}]\n", 2, "device.bus-not-found", "no SCSI bus", "virtio-scsi-pci"),
        ("arguments: [{device: e1000, bus: pci.9}]\n", 2, "device.bus-not-found", "no bus `pci.9`", "pcie.0"),
        (
            "arguments: [{device: e1000, colour: red}]\n",
            2,
            "device.property-not-found",
            "no property `colour`",
            "e1000,help",
        ),
        ("machine: {type: q35, colour: red}\n", 2, "qemu.option-not-found", "no option `colour`", "-machine pc-q35-"),
        ("cpu_model: qemu64,+colour\n", 2, "qemu.option-not-found", "no feature `colour`", "-cpu help"),
        (
            "arguments: [{device: virtio-net-pci, netdev: nil}]\n",
            2,
            "device.backend-conflict",
            "`nil`, which does not",
            "`nil`",
        ),
        (
            "arguments: [{device: e1000, id: a}, {device: e1000, id: a}]\n",
            2,
            "device.id-conflict",
            "have the ID `a`",
            "id=a",
        ),
        (
            "arguments: [{device: e1000, addr: \"5\"}, {device: e1000, addr: \"5\"}]\n",
            2,
            "device.id-conflict",
            "PCI slot 5",
            "addr",
        ),
    ]);
}

#[test]
fn test_options_that_qemu_refuses_are_named() {
    check_all(&[
        ("arguments: [{colour: red}]\n", 2, "qemu.option-not-found", "has no such switch", "-help"),
        (
            "arguments: [{netdev: user, id: n, colour: red}]\n",
            2,
            "qemu.option-not-found",
            "no option `colour`",
            "-help",
        ),
        ("arguments: [{netdev: user}]\n", 2, "qemu.option-required", "needs `id`", "`id=…`"),
        ("arguments: [{netdev: pigeon, id: n}]\n", 2, "qemu.option-invalid", "value `pigeon`", "-netdev pigeon"),
        ("arguments: [{smp: 999}]\n", 2, "qemu.cpus-too-large", "at most 255 CPUs", "cpu: 255"),
        ("arguments: [{smp: \"4,sockets=1,cores=1,threads=1\"}]\n", 2, "qemu.cpus-invalid", "sockets (1)", "multiply"),
        ("arguments: [{append: quiet}]\n", 2, "qemu.option-conflict", "require a `kernel`", "kernel: FILE"),
        (
            "arguments: [{netdev: \"user,id=n,hostfwd=tcp:nonsense\"}]\n",
            2,
            "qemu.option-invalid",
            "forwarding rule `tcp:nonsense`",
            "`forward` of `network`",
        ),
    ]);
}

#[test]
fn test_files_that_qemu_cannot_use_are_named_with_their_place() {
    let home = TestHome::new();
    home.write("noise.img", [7; 4096]);
    let image = |arguments: &[&str]| {
        let status = Command::new(qemu::image_tool()).args(arguments).current_dir(home.root()).status();
        assert!(status.unwrap().success());
    };
    image(&["create", "-q", "-f", "qcow2", "base.qcow2", "1M"]);
    image(&["create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "overlay.qcow2"]);
    fs::rename(home.path("base.qcow2"), home.path("moved.qcow2")).unwrap();
    let kernel = format!("the kernel `{}` does not exist", home.path("boot/vmlinuz").display());
    let drive = |file: &str, format: &str| format!("arguments: [{{drive: {{file: {file}, format: {format}}}}}]\n");

    for case in [
        // Relative to the YAML file, under `arguments` and `args`.
        ("arguments: [{kernel: boot/vmlinuz}]\n", 3, "qemu.file-not-found", kernel.as_str(), "`kernel`"),
        ("args: [-kernel, boot/vmlinuz]\n", 3, "qemu.file-not-found", kernel.as_str(), "`kernel`"),
        ("arguments: [{kernel: .}]\n", 2, "qemu.file-invalid", "not a kernel", "/boot/vmlinuz"),
        ("arguments: [{bios: none.fd}]\n", 3, "qemu.firmware-not-found", "firmware `none.fd`", "`./none.fd`"),
        (&drive("none.img", "raw"), 3, "qemu.file-not-found", "/none.img` does not exist", "file="),
        (&drive("noise.img", "qcow2"), 2, "storage.format-conflict", "format `qcow2`", "set `format=raw`"),
        (&drive("noise.img", "vmdk"), 2, "storage.format-conflict", "format `vmdk`", "qemu-img info"),
        (&drive("moved.qcow2", "vdi"), 2, "storage.format-conflict", "format `vdi`", "`type: qcow2`"),
        (&drive("overlay.qcow2", "qcow2"), 3, "storage.backing-not-found", "/base.qcow2`", "qemu-img rebase"),
        ("arguments: [{cdrom: none.iso}]\n", 3, "qemu.file-not-found", "/none.iso` does not exist", "path"),
        ("arguments: [{smbios: {file: none}}]\n", 3, "qemu.file-not-found", "/none` does not exist", "path"),
        ("arguments: [{m: \"32M\"}, {mem-path: /none/x}]\n", 3, "qemu.file-not-found", "`/none/x`", "hugetlbfs"),
    ] {
        check(&home, case);
    }
}

#[test]
fn test_kernels_and_firmware_that_qemu_cannot_load_say_why() {
    let home = TestHome::new();
    // The header of a Linux kernel whose setup is longer than the file.
    let mut kernel = vec![0; 2048];
    kernel[0x1f1] = 60;
    kernel[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    kernel[0x202..0x208].copy_from_slice(b"HdrS\x0f\x02");
    home.write("short.krn", kernel);
    home.write("empty.krn", []);
    home.write("empty.rom", []);
    home.write("odd.fd", [0; 100]);

    for case in [
        ("arguments: [{kernel: short.krn}]\n", 2, "qemu.file-invalid", "its header is invalid", "/boot/vmlinuz"),
        ("arguments: [{kernel: empty.krn}]\n", 2, "qemu.file-invalid", "/empty.krn`: it has an invalid size", "ls -l"),
        ("arguments: [{device: loader, file: /none}]\n", 3, "qemu.file-not-found", "`/none` does not exist", "file="),
        (
            "arguments: [{device: loader, file: /etc}]\n",
            2,
            "qemu.file-invalid",
            "`/etc` is a directory",
            "-device loader,",
        ),
        (
            &format!("arguments: [{{device: e1000, romfile: {}}}]\n", home.path("empty.rom").display()),
            2,
            "qemu.file-invalid",
            "/empty.rom` of a device is",
            "rom",
        ),
        ("arguments: [{device: e1000, romfile: /none}]\n", 3, "qemu.file-not-found", "/none` of a device", "romfile="),
        ("args: [-pflash, odd.fd]\n", 2, "firmware.image-invalid", "`pflash0` has an invalid size", "firmware: uefi"),
    ] {
        check(&home, case);
    }
}

#[test]
fn test_objects_addresses_and_devices_that_do_not_exist_are_named() {
    check_all(&[
        (
            "arguments: [{object: secret, id: s, file: /none}]\n",
            3,
            "qemu.file-not-found",
            "`/none` of a secret",
            "object",
        ),
        (
            "arguments: [{object: secret, id: s}]\n",
            2,
            "qemu.option-required",
            "neither `file` nor `data`",
            "file: PATH",
        ),
        (
            "arguments: [{object: tls-creds-x509, id: t, dir: /none, endpoint: server}]\n",
            3,
            "qemu.file-not-found",
            "`/none/ca-cert.pem`, which TLS needs",
            "certificates",
        ),
        (
            "arguments: [{object: rng-egd, id: r, chardev: x}]\n",
            2,
            "device.backend-conflict",
            "there is no `x`",
            "add it",
        ),
        (
            "arguments: [{netdev: user, id: n}, {object: filter-dump, id: f, netdev: n, file: /none/x}]\n",
            3,
            "qemu.file-not-found",
            "directory of `/none/x`",
            "create the directory",
        ),
        ("arguments: [{D: /none/x}, {d: int}]\n", 3, "qemu.file-not-found", "directory of `/none/x`", "create"),
        ("arguments: [{incoming: \"tcp:nonsense\"}]\n", 2, "qemu.option-invalid", "`nonsense`", "tcp:127.0.0.1:4444"),
        ("arguments: [{incoming: \"pigeon:1\"}]\n", 2, "qemu.option-invalid", "`pigeon:1`", "-incoming pigeon:1"),
        ("arguments: [{gdb: \"tcp:no.invalid:1\"}]\n", 2, "qemu.option-invalid", "no.invalid", "127.0.0.1"),
        (
            "arguments: [{netdev: socket, id: n, mcast: \"127.0.0.1:45009\"}]\n",
            2,
            "qemu.option-invalid",
            "`127.0.0.1`",
            "230.0.0.1",
        ),
        (
            "machine: q35\narguments: [{device: qemu-xhci}, {device: usb-host, hostbus: 99, hostaddr: 9}]\n",
            69,
            "host.device-not-found",
            "no USB device `99:9`",
            "lsusb",
        ),
        (
            "arguments: [{device: vfio-pci, host: \"ff:1f.7\"}]\n",
            69,
            "host.device-not-found",
            "no such device",
            "lspci",
        ),
        ("arguments: [{tpmdev: passthrough, id: t}]\n", 69, "host.device-not-found", "`/dev/tpm0`", "tpm: true"),
        (
            "arguments: [{drive: {file: /dev/null, format: qcwo2}}]\n",
            2,
            "qemu.option-invalid",
            "format `qcwo2`",
            "qcow2",
        ),
        (
            "arguments: [{m: \"32M\"}, {object: memory-backend-memfd, id: m, size: 32M, hugetlb: on}, {machine: \"memory-backend=m\"}]\n",
            69,
            "host.huge-pages-unavailable",
            "no huge pages are free",
            "nr_hugepages",
        ),
    ]);
}

/// A line that says why is not hidden by another row's text in a warning, or in a try that QEMU gave up.
#[test]
fn test_last_reason_of_an_exit_is_the_one_reported() {
    check_all(&[
        (
            "cpu_model: Skylake-Client\narguments: [{netdev: user, id: n}, {device: e1000, colour: red}]\n",
            2,
            "device.property-not-found",
            "no property `colour`",
            "e1000,help",
        ),
        ("arguments: [{chardev: \"null,id=Too many open files\"}]\n", 2, "qemu.option-invalid", "id", "correct"),
    ]);
}

#[test]
fn test_missing_servers_of_sockets_say_how_to_start_them() {
    let tpm = "arguments: [{chardev: socket, id: c, path: s.sock}, {tpmdev: emulator, id: t, chardev: c}, {device: tpm-tis, \
               tpmdev: t}]\n";
    check_all(&[
        (tpm, 3, "qemu.socket-not-found", "nothing listens at", "swtpm socket --tpm2"),
        (
            "arguments: [{chardev: socket, id: c, path: /none.sock}, {device: vhost-user-fs-pci, chardev: c, tag: t}]\n",
            3,
            "qemu.socket-not-found",
            "nothing listens at `/none.sock`",
            "virtiofsd --socket-path=/none.sock",
        ),
    ]);
    let home = TestHome::new();
    home.add("name: share\nstorage: [{name: f, type: virtiofs, socket: none.sock}]\n");
    home.add("name: cd\nstorage: [{name: f, type: iso, file: none.iso}]\n");

    let share = home.json_error(&["start", "share"], 3);
    let cd = home.json_error(&["start", "cd"], 3);

    assert_eq!((&share["code"], &cd["code"]), (&json!("storage.socket-not-found"), &json!("storage.not-found")));
    assert!(share["hints"][0].as_str().unwrap().contains("virtiofsd --socket-path="), "{share}");
    for error in [share, cd] {
        assert!(!error["hints"].to_string().contains("size"), "{error}");
    }
}

/// Returns the error of a start with these keys.
pub(crate) fn error_of(keys: &str, exit: i32) -> Value {
    let home = TestHome::new();
    home.add(&format!("name: web\naccel: tcg\nmemory: 32M\n{keys}"));
    home.json_error(&["start", "web"], exit)
}

#[test]
fn test_cpu_of_the_host_without_kvm_offers_max() {
    let error = error_of("cpu_model: host\n", 69);

    assert_eq!(error["code"], "host.kvm-unavailable");
    assert!(error["message"].as_str().unwrap().ends_with("which the VM does not use: `accel` is `tcg`"), "{error}");
    assert!(error["hints"][0].as_str().unwrap().contains("cpu_model: max"), "{error}");
}

#[test]
fn test_image_that_a_vm_uses_twice_is_said_to_be() {
    let error = error_of(
        "storage: [{name: a, size: 1M, file: a.qcow2}]\narguments: [{drive: {file: a.qcow2, format: qcow2}}]\n",
        2,
    );

    assert_eq!(error["code"], "storage.use-conflict");
    assert!(error["message"].as_str().unwrap().ends_with("/a.qcow2` twice"), "{error}");
}

#[test]
fn test_image_that_a_vm_uses_twice_by_another_path_is_said_to_be() {
    let home = TestHome::new();
    std::os::unix::fs::symlink(".", home.path("link")).unwrap();
    home.add(
        "name: web\naccel: tcg\nmemory: 32M\nstorage: [{name: a, size: 1M, file: a.qcow2}]\narguments: [{drive: {file: \
         link/a.qcow2, format: qcow2}}]\n",
    );

    let error = home.json_error(&["start", "web"], 2);

    assert_eq!(error["code"], "storage.use-conflict", "{error}");
}

#[test]
fn test_sandbox_that_ends_qemu_is_named() {
    let home = TestHome::new();
    // Definitions with such switches are refused before.
    let script = format!("#!/bin/sh\nexec {} \"$@\" -netdev bridge,id=n\n", qemu::emulator().display());
    let binary = home.write("qemu", script);
    fs::set_permissions(&binary, Permissions::from_mode(0o700)).unwrap();
    home.add(&format!("name: web\naccel: tcg\nmemory: 32M\nbinary: {}\n", binary.display()));

    let error = home.json_error(&["start", "web"], 4);

    assert_eq!(error["code"], "vm.sandbox-refused");
    assert!(error["hints"][0].as_str().unwrap().contains("sandbox: false"), "{error}");
}

#[test]
fn test_limits_of_memory_and_open_files_are_named() {
    let home = TestHome::new();
    home.write("a.img", [0; 4096]);
    let drive = |number| {
        format!("{{blockdev: {{driver: file, filename: a.img, read-only: on, locking: off, node-name: n{number}}}}}")
    };
    let drives: Vec<String> = (0..80).map(drive).collect();
    home.add(&format!("name: files\naccel: tcg\nmemory: 32M\narguments: [{}]\n", drives.join(", ")));
    home.add("name: memory\naccel: tcg\nmemory: 60T\n");
    let limit = ["prlimit", "--nofile=64"].map(OsString::from);

    let files = home.maqet(["start", "files", "--format", "json"]).through(&limit).run().code(69).json_error();
    let memory = home.json_error(&["start", "memory"], 69);

    assert_eq!(
        (&files["error"]["code"], &memory["code"]),
        (&json!("host.open-files-full"), &json!("host.memory-full"))
    );
    assert!(files["error"]["hints"][0].as_str().unwrap().contains("ulimit -n"), "{files}");
}

#[test]
fn test_warnings_of_a_start_that_works_are_shown() {
    let home = TestHome::new();
    let keys = "cpu_model: Skylake-Client\narguments: [S, {netdev: user, id: lan}]\n";
    home.add(&format!("name: web\naccel: tcg\nmemory: 32M\n{keys}"));

    let started = home.json(&["start", "web"]);
    let restarted = home.maqet(["restart", "web", "--force"]).run().ok();

    let warnings: Vec<&str> = started["warnings"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    assert!(warnings[0].starts_with("TCG doesn't support features of the CPU model: pcid, "), "{warnings:?}");
    assert_eq!(warnings[1..], ["netdev lan has no peer"]);
    assert!(restarted.stderr.contains("warning: `web`: netdev lan has no peer\n"), "{}", restarted.stderr);
}

#[test]
fn test_start_without_warnings_shows_none() {
    let home = TestHome::new();
    home.add("name: web\naccel: tcg\nmemory: 32M\narguments: [S]\n");

    let started = home.json(&["start", "web"]);

    assert_eq!(started.get("warnings"), None);
}

#[test]
fn test_relative_path_of_an_unknown_option_is_warned_of() {
    let home = TestHome::new();
    let name = home.root().file_name().unwrap().to_str().unwrap().to_owned();
    home.add(&format!("name: web\naccel: tcg\nmemory: 32M\narguments: [S, {{debugcon: \"file:tmp/{name}.log\"}}]\n"));

    let started = home.json(&["start", "web"]);

    let warning = started["warnings"][0].as_str().unwrap();
    assert!(warning.contains(&format!("so `tmp/{name}.log` is `/tmp/{name}.log`")), "{warning}");
    fs::remove_file(format!("/tmp/{name}.log")).unwrap();
}
