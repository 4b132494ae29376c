//! Everyday mistakes that QEMU refuses at a start: each has its own cause and hint, on each version of QEMU.

use maqet_testkit::qemu;

use super::check_all;

#[test]
fn test_devices_without_what_they_need_name_it() {
    let need = "qemu.option-required";
    check_all(&[
        (
            "arguments: [{device: virtio-blk-pci}]\n",
            2,
            need,
            "needs a drive",
            "add the drive under `storage`, which adds its device too",
        ),
        (
            "arguments: [{device: ide-hd}]\n",
            2,
            need,
            "needs a drive",
            "add `- {drive: {file: FILE, if: none, id: ID}}` under `arguments`, and `drive=ID` to it",
        ),
        ("arguments: [{device: nvme}]\n", 2, need, "`-device nvme` needs `serial`", "add `serial=…` to it"),
        ("arguments: [{device: ivshmem-plain}]\n", 2, need, "needs `memdev`", "add `memdev=…` to it"),
        ("arguments: [{device: tpm-tis}]\n", 2, need, "needs `tpmdev`", "add `tpmdev=…` to it"),
        (
            "arguments: [{device: isa-debugcon}]\n",
            2,
            need,
            "needs `chardev`",
            "add `- {chardev: …, id: ID}` under `arguments`, and `chardev=ID` to it",
        ),
        (
            "arguments: [{device: pc-dimm}]\n",
            2,
            need,
            "needs slots",
            "set `- {m: {size: 1G, slots: 2, maxmem: 4G}}` under `arguments` for `memory`, with your sizes",
        ),
        (
            "arguments: [{device: vhost-vsock-pci}]\n",
            2,
            "qemu.option-invalid",
            "`guest-cid`",
            "set `guest-cid=3`, or another number that no other VM of the host has, in `-device vhost-vsock-pci`",
        ),
        ("arguments: [{chardev: pty}]\n", 2, need, "needs `id`", "add `id=…` to it"),
        (
            "arguments: [{fw_cfg: {name: opt/x}}]\n",
            2,
            need,
            "has no value, or two",
            "write it as `- {fw_cfg: {name: opt/org.example/key, string: VALUE}}`, or with `file`",
        ),
    ]);
}

#[test]
fn test_references_to_what_does_not_exist_name_it() {
    let conflict = "device.backend-conflict";
    check_all(&[
        (
            "serial: \"chardev:x\"\n",
            2,
            conflict,
            "cannot use `chardev:x`",
            "add `- {chardev: …, id: ID}` under `arguments` for `chardev:ID`, or correct the name in `-serial chardev:x`",
        ),
        (
            "serial: \"file:/none/ser.log\"\n",
            3,
            "qemu.file-not-found",
            "`/none/ser.log` does not exist",
            "correct the path in `serial`",
        ),
        (
            "arguments: [{serial: pigeon}]\n",
            2,
            "qemu.option-invalid",
            "no character device `pigeon`",
            "list them with `qemu-system-x86_64 -chardev help`",
        ),
        (
            "arguments: [{blockdev: {driver: raw, file: f0, node-name: f1}}]\n",
            2,
            conflict,
            "no block node `f0`",
            "add `- {blockdev: …, node-name: f0}` before it, or correct the name in `-blockdev driver=raw,file=f0,node-name=f1`",
        ),
        (
            "arguments: [{device: virtio-9p-pci, fsdev: f, mount_tag: t}]\n",
            2,
            conflict,
            "ID `f`",
            "use `type: virtfs` under `storage`",
        ),
        (
            "arguments: [{numa: \"node,cpus=0-1\"}]\n",
            2,
            "qemu.option-invalid",
            "CPU 1 of a NUMA node",
            "set `numa:` with `cpu:`, or correct `cpus` in `-numa node,cpus=0-1`; CPUs are counted from 0",
        ),
        (
            "arguments: [{plugin: /none.so}]\n",
            3,
            "qemu.file-not-found",
            "plugin `/none.so`",
            "correct the path of `plugin`",
        ),
        (
            "arguments: [{plugin: /etc/hostname}]\n",
            2,
            "qemu.file-invalid",
            "plugin of QEMU: file too short",
            "name a plugin that is built for this version, by its path, in `plugin`",
        ),
        (
            "arguments: [{acpitable: {data: /bin/bash}}]\n",
            2,
            "qemu.file-invalid",
            "at most 65535",
            "correct the file in `-acpitable data=/bin/bash`",
        ),
        (
            "arguments: [{k: xx}, {vnc: \"unix:/tmp/x.maqet\"}]\n",
            2,
            "qemu.option-invalid",
            "layout `xx`",
            "set one of `ls /usr/share/qemu/keymaps`, as `de` or `en-us`, in `k`",
        ),
        (
            "arguments: [{object: pigeon}]\n",
            2,
            "qemu.option-invalid",
            "no object `pigeon`",
            "list the objects with `qemu-system-x86_64 -object help`",
        ),
        (
            "arguments: [{fsdev: local, id: f, path: /none, security_model: none}, {device: virtio-9p-pci, fsdev: f, \
             mount_tag: t}]\n",
            3,
            "qemu.file-not-found",
            "`/none` that is shared",
            "create the directory, or correct the path in `-fsdev local,id=f,path=/none,security_model=none`",
        ),
    ]);
}

#[test]
fn test_values_of_switches_that_qemu_refuses_say_what_fits() {
    let invalid = "qemu.option-invalid";
    check_all(&[
        (
            "arguments: [{uuid: nonsense}]\n",
            2,
            invalid,
            "UUID in `-uuid nonsense`",
            "write it as `550e8400-e29b-41d4-a716-446655440000`; `uuidgen` prints one",
        ),
        (
            "arguments: [{vnc: \"true\"}]\n",
            2,
            invalid,
            "names no address",
            "write it as `- {vnc: \"127.0.0.1:1\"}`, for port 5901, or `- {vnc: \"unix:/PATH\"}`",
        ),
        (
            "display: vnc\n",
            2,
            invalid,
            "names no address",
            "write it as `- {vnc: \"127.0.0.1:1\"}`, for port 5901, or `- {vnc: \"unix:/PATH\"}`",
        ),
        (
            "arguments: [{icount: shift=99}]\n",
            2,
            invalid,
            "`shift`",
            "set a number from 0 to 10, or `auto`, in `-icount shift=99`",
        ),
        (
            "arguments: [{drive: {if: pigeon}}]\n",
            2,
            invalid,
            "`pigeon` is not an interface",
            "set `if=none`, `virtio`, `ide`, `scsi`, `floppy` or `pflash` in `-drive if=pigeon`",
        ),
        (
            "arguments: [{drive: {file: /dev/null, format: raw, cache: x}}]\n",
            2,
            invalid,
            "`cache` of `-drive",
            "set `none`, `writeback`, `writethrough`, `directsync` or `unsafe`",
        ),
        (
            "arguments: [{loadvm: nosuch}]\n",
            2,
            "qemu.option-conflict",
            "`loadvm` needs a drive",
            "add a `qcow2` drive that is not read-only, or remove `loadvm`",
        ),
        (
            "storage: [{name: a, size: 1M, file: a.qcow2}]\narguments: [{loadvm: nosuch}]\n",
            3,
            "snapshot.not-found",
            "no snapshot `nosuch`",
            "list the snapshots with `maqet snapshot ls web`, and start with `maqet snapshot load`",
        ),
        (
            "machine: q35\narguments: [{device: pcie-root-port}, {device: pcie-root-port}]\n",
            2,
            "device.id-conflict",
            "one `slot`",
            "give each port a `slot` or a `chassis` of its own, as `- {device: pcie-root-port, id: port2, slot: 2}`",
        ),
    ]);
}

#[test]
fn test_parts_that_the_host_lacks_name_the_package_or_the_way_out() {
    // Packages that are not installed.
    check_all(&[(
        "sound: {model: hda, backend: pa}\n",
        69,
        "host.module-not-found",
        "is not installed",
        "install the package: `apt install qemu-system-gui`",
    )]);
    let (code, hint) = if qemu::is_unpacked() {
        ("host.module-not-found", "install the package: `apt install qemu-system-modules-opengl`")
    } else {
        ("host.display-unavailable", "set `display: none`, and use `vnc` under `arguments`")
    };
    check_all(&[("display: egl-headless\n", 69, code, "", hint)]);
}
