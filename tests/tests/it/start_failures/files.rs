//! Files and sockets that QEMU cannot use.

use std::fs;
use std::process::Command;

use maqet_testkit::{TestHome, qemu};
use serde_json::json;

use super::{check, check_all};

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
        (
            "arguments: [{kernel: boot/vmlinuz}]\n",
            3,
            "qemu.file-not-found",
            kernel.as_str(),
            "correct the path of `kernel`",
        ),
        ("args: [-kernel, boot/vmlinuz]\n", 3, "qemu.file-not-found", kernel.as_str(), "correct the path of `kernel`"),
        (
            "arguments: [{kernel: .}]\n",
            2,
            "qemu.file-invalid",
            "not a kernel",
            "name the kernel's file, as `/boot/vmlinuz-…`, and not a directory or another image",
        ),
        (
            "arguments: [{bios: none.fd}]\n",
            3,
            "qemu.firmware-not-found",
            "firmware `none.fd`",
            "write `./none.fd` for a file beside the YAML file: QEMU runs in `/`, and looks for names among its own files",
        ),
        (
            &drive("none.img", "raw"),
            3,
            "qemu.file-not-found",
            "/none.img` does not exist",
            "correct the path in `-drive file=HOME/none.img,format=raw`",
        ),
        (
            &drive("noise.img", "qcow2"),
            2,
            "storage.format-conflict",
            "format `qcow2`",
            "set `format=raw`, the format that `HOME/noise.img` has, or `type: raw` for a drive under `storage`",
        ),
        (
            &drive("noise.img", "vmdk"),
            2,
            "storage.format-conflict",
            "format `vmdk`",
            "name the format that the image has (`qemu-img info IMAGE`) in `-drive file=HOME/noise.img,format=vmdk`",
        ),
        (
            &drive("moved.qcow2", "vdi"),
            2,
            "storage.format-conflict",
            "format `vdi`",
            "set `format=qcow2`, the format that `HOME/moved.qcow2` has, or `type: qcow2` for a drive under `storage`",
        ),
        (
            &drive("overlay.qcow2", "qcow2"),
            3,
            "storage.backing-not-found",
            "/base.qcow2`",
            "move it back or mount its volume; if it has moved, run `qemu-img rebase -u -b NEW_PATH -F FORMAT IMAGE` on the image in `-drive file=HOME/overlay.qcow2,format=qcow2`",
        ),
        (
            "arguments: [{cdrom: none.iso}]\n",
            3,
            "qemu.file-not-found",
            "/none.iso` does not exist",
            "correct the path in `-cdrom HOME/none.iso`",
        ),
        (
            "arguments: [{smbios: {file: none}}]\n",
            3,
            "qemu.file-not-found",
            "/none` does not exist",
            "correct the path in `-smbios file=HOME/none`",
        ),
        (
            "arguments: [{object: \"memory-backend-file,id=m,size=32M,mem-path=/none/x,share=on\"}]\n",
            3,
            "qemu.file-not-found",
            "`/none/x`",
            "for huge pages, mount them: `sudo mkdir -p /none/x && sudo mount -t hugetlbfs none /none/x`",
        ),
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
        (
            "arguments: [{kernel: short.krn}]\n",
            2,
            "qemu.file-invalid",
            "its header is invalid",
            "name the kernel's file, as `/boot/vmlinuz-…`, and not a directory or another image",
        ),
        (
            "arguments: [{kernel: empty.krn}]\n",
            2,
            "qemu.file-invalid",
            "/empty.krn`: it has an invalid size",
            "check its kind and size: `file HOME/empty.krn; ls -l HOME/empty.krn`",
        ),
        (
            "arguments: [{device: loader, file: /none}]\n",
            3,
            "qemu.file-not-found",
            "`/none` does not exist",
            "correct the path in `-device loader,file=/none`",
        ),
        (
            "arguments: [{device: loader, file: /etc}]\n",
            2,
            "qemu.file-invalid",
            "`/etc` is a directory",
            "name a file in `-device loader,file=/etc`",
        ),
        (
            &format!("arguments: [{{device: e1000, romfile: {}}}]\n", home.path("empty.rom").display()),
            2,
            "qemu.file-invalid",
            "/empty.rom` of a device is",
            "correct the path in `-device e1000,romfile=HOME/empty.rom`",
        ),
        (
            "arguments: [{device: e1000, romfile: /none}]\n",
            3,
            "qemu.file-not-found",
            "/none` of a device",
            "correct the path in `-device e1000,romfile=/none`",
        ),
        (
            "args: [-pflash, odd.fd]\n",
            2,
            "firmware.image-invalid",
            "`pflash0` has an invalid size",
            "set `firmware: uefi` to have one found",
        ),
    ] {
        check(&home, case);
    }
}
#[test]
fn test_missing_servers_of_sockets_say_how_to_start_them() {
    let tpm = "arguments: [{chardev: socket, id: c, path: s.sock}, {tpmdev: emulator, id: t, chardev: c}, {device: tpm-tis, \
               tpmdev: t}]\n";
    check_all(&[
        (
            tpm,
            3,
            "qemu.socket-not-found",
            "nothing listens at",
            "start it first: `swtpm socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,path=HOME/s.sock --daemon` (Debian: `apt install swtpm`)",
        ),
        (
            "arguments: [{chardev: socket, id: c, path: /none.sock}, {device: vhost-user-fs-pci, chardev: c, tag: t}]\n",
            3,
            "qemu.socket-not-found",
            "nothing listens at `/none.sock`",
            "start it first: `/usr/libexec/virtiofsd --socket-path=/none.sock --shared-dir=DIR` (Debian: `apt install virtiofsd`)…",
        ),
    ]);
    let home = TestHome::new();
    home.add("name: share\nstorage: [{name: f, type: virtiofs, socket: none.sock}]\n");
    home.add("name: cd\nstorage: [{name: f, type: iso, file: none.iso}]\n");

    let share = home.json_error(&["start", "share"], 3);
    let cd = home.json_error(&["start", "cd"], 3);

    assert_eq!((&share["code"], &cd["code"]), (&json!("storage.socket-not-found"), &json!("storage.not-found")));
    let server = format!("--socket-path={} --shared-dir=DIR", home.path("none.sock").display());
    assert!(share["hints"][0].as_str().unwrap().contains(&server), "{share}");
    for error in [share, cd] {
        assert!(!error["hints"].to_string().contains("size"), "{error}");
    }
}
