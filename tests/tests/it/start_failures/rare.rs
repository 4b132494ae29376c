//! Rarer mistakes, one of each kind.

use super::check_all;

#[test]
fn test_images_that_are_not_what_qemu_takes_say_why() {
    check_all(&[
        (
            "arguments: [{drive: {file: \"fat:rw:none\", if: virtio, format: raw}}]\n",
            3,
            "qemu.file-not-found",
            "/none`, which is to be a disk, does not exist",
            "create the directory, or correct the path in `-drive file=fat:rw:HOME/none,if=virtio,format=raw`",
        ),
        (
            "arguments: [{drive: \"file=json:{bad,if=virtio\"}]\n",
            2,
            "qemu.file-invalid",
            "is not valid JSON",
            "correct it, or write the options one by one, as `file.driver` and `file.filename`",
        ),
        (
            "arguments: [{chardev: \"file,id=c,path=/etc\"}]\n",
            2,
            "qemu.file-invalid",
            "`/etc` is a directory",
            "name a file in `-chardev file,id=c,path=/etc`",
        ),
        (
            "arguments: [{trace: \"events=none.txt\"}]\n",
            3,
            "qemu.file-not-found",
            "/none.txt` does not exist",
            "correct the path in `-trace events=HOME/none.txt`",
        ),
        (
            "arguments: [{drive: \"file=fat:/etc,if=virtio,format=raw\"}]\n",
            2,
            "device.backend-invalid",
            "the drive is read-only",
            "for a directory as a disk, write `fat:rw:DIRECTORY`, or add `if: virtio` and `readonly: on`",
        ),
    ]);
}

#[test]
fn test_devices_in_conflict_or_incomplete_say_how() {
    check_all(&[
        (
            "arguments: [{drive: \"file=fat:rw:.,if=virtio,format=raw,index=0\"}, {drive: \"file=null-co://,if=virtio,index=0\"}]\n",
            2,
            "device.id-conflict",
            "two drives are unit 0",
            "choose another `index`, or `bus` and `unit`, in `-drive file=null-co://,if=virtio,index=0`, or leave them out",
        ),
        (
            "arguments: [{device: pci-bridge}]\n",
            2,
            "qemu.option-required",
            "needs `chassis_nr`",
            "add `chassis_nr=1` to it, and another number for each bridge",
        ),
        (
            "arguments: [{fsdev: local}]\n",
            2,
            "qemu.option-required",
            "needs `id`",
            "use `type: virtfs` under `storage`",
        ),
        (
            "watchdog: {model: diag288}\n",
            2,
            "device.driver-not-found",
            "no device `diag288`",
            "set another `model` under `watchdog`; those of this QEMU: `i6300esb`, `ib700`",
        ),
    ]);
}

#[test]
fn test_networks_with_addresses_of_others_say_which() {
    check_all(&[
        (
            "arguments: [{netdev: \"user,id=n,net=10.0.0.0/24,host=192.168.1.1\"}]\n",
            2,
            "qemu.option-invalid",
            "an address of Host that is outside",
            "choose one in `net`, or leave it out: it follows from `net`",
        ),
        (
            "arguments: [{netdev: \"socket,id=n,fd=77\"}]\n",
            2,
            "qemu.option-invalid",
            "refers to a file that another program would have opened",
            "name a path, an address or a tap device in place of `fd`",
        ),
        (
            "arguments: [{netdev: \"vde,id=n\"}]\n",
            3,
            "qemu.socket-not-found",
            "the switch of VDE cannot be reached",
            "start it first: `vde_switch -d -s DIRECTORY`…",
        ),
        (
            "arguments: [{hda: \"nbd:localhost:1\"}]\n",
            3,
            "qemu.socket-not-found",
            "nothing listens at `localhost:1`",
            "start the program that listens at localhost:1 first, or correct the address",
        ),
    ]);
}
