//! Values beyond the limits of QEMU or of huge pages, and backends that are not what a device needs.

use std::fs;
use std::io::{Write, stderr};
use std::process::Command;

use maqet_testkit::{TestHome, namespaces, qemu};

use super::{assert_explained, check, check_all, without_places};

#[test]
fn test_memory_that_huge_pages_do_not_allow_says_why() {
    let memfd = |options: &str| format!("arguments: [{{object: \"memory-backend-memfd,id=m,size=32M,{options}\"}}]\n");
    check_all(&[
        (
            &memfd("hugetlb=on,hugetlbsize=64K"),
            69,
            "host.huge-pages-unavailable",
            "no huge pages of the size",
            "set one of the sizes of the host, which `ls /sys/kernel/mm/hugepages` lists, or remove `hugetlbsize`",
        ),
        (
            &memfd("hugetlb=on,hugetlbsize=2M,prealloc=on,reserve=off"),
            2,
            "qemu.option-conflict",
            "`prealloc=on` and `reserve=off` of an object exclude each other",
            "remove one of the two in `arguments`",
        ),
        (
            "arguments: [{object: \"memory-backend-file,id=m,size=32M,mem-path=/dev/shm,align=3M\"}]\n",
            2,
            "qemu.option-invalid",
            "the `align` of a memory object is 0x300000, and not a power of 2",
            "set a power of 2, as `align=2M`, or remove it",
        ),
        (
            &memfd("hugetlb=on,hugetlbsize=1G"),
            2,
            "qemu.option-invalid",
            "memory of 33554432 bytes is not a multiple of its huge pages",
            "set a multiple of `hugetlbsize` as `memory` and `size`, or a smaller `hugetlbsize`",
        ),
        (
            "arguments: [{object: \"memory-backend-ram,id=mm,size=64M\"}, {device: virtio-mem-pci, memdev: mm}]\n",
            2,
            "qemu.option-required",
            "a memory device needs `maxmem`",
            "set `- {m: {size: 1G, slots: 2, maxmem: 4G}}` under `arguments` for `memory`, with your sizes",
        ),
    ]);
}

/// A mount of huge pages of which none is reserved, as on a host without `vm.nr_hugepages`.
#[test]
fn test_memory_in_a_mount_without_free_huge_pages_is_refused() {
    namespaces::within_mounts(
        "start_failures::limits::test_memory_in_a_mount_without_free_huge_pages_is_refused",
        || {
            let home = TestHome::new();
            let pages = home.path("hugepages");
            fs::create_dir(&pages).unwrap();
            let options = ["-t", "hugetlbfs", "-o", "pagesize=2M,size=0", "none"];
            let mounted = Command::new("mount").args(options).arg(&pages).output().unwrap();
            if !mounted.status.success() {
                let why = String::from_utf8_lossy(&mounted.stderr);
                writeln!(stderr(), "a mount without free huge pages is SKIPPED: {}", why.trim()).unwrap();
                return;
            }
            let file = |path: &str, size: &str| {
                format!(
                    "arguments: [{{object: \"memory-backend-file,id=m,size={size},mem-path={path},share=on\"}}, \
                 {{machine: \"memory-backend=m\"}}]\n"
                )
            };
            let (unavailable, free) = ("host.huge-pages-unavailable", "no huge pages are free for the guest's RAM");
            let reserve = "reserve huge pages for the RAM: `sudo sysctl vm.nr_hugepages=N`, where each has 2 MiB";

            check(&home, ("arguments: [{mem-path: hugepages}]\n", 69, unavailable, free, reserve));
            check(&home, ("arguments: [{mem-path: hugepages}, mem-prealloc]\n", 69, unavailable, free, reserve));
            check(&home, (&file("hugepages", "32M"), 69, unavailable, free, reserve));
            // A file that is not there yet, too.
            check(&home, (&file("hugepages/ram", "32M"), 69, unavailable, free, reserve));
            home.add(&format!("name: web\naccel: tcg\nmemory: 1M\n{}", file("hugepages", "1M")));
            let small = home.json_error(&["start", "web"], 2);

            assert_eq!(small["code"], "qemu.option-invalid", "{small}");
            assert!(
                without_places(&home, small["message"].as_str().unwrap()).contains("smaller than a page"),
                "{small}"
            );
            assert_explained(&small);
        },
    );
}

#[test]
fn test_numbers_beyond_a_limit_name_the_limit() {
    let invalid = "qemu.option-invalid";
    let drive = |options: &str| format!("arguments: [{{drive: \"file=null-co://,format=raw,if=virtio,{options}\"}}]\n");
    check_all(&[
        (
            "machine: q35\narguments: [{device: intel-iommu, aw-bits: 13}]\n",
            2,
            invalid,
            "`aw-bits` in `-device intel-iommu,aw-bits=13` is not one of 39, 48",
            "set `aw-bits` to one of 39, 48",
        ),
        (
            "arguments: [{device: virtio-serial-pci, max_ports: 99999}]\n",
            2,
            invalid,
            "has more ports than 511",
            "set `max_ports` to 511 or less",
        ),
        (
            "arguments: [{device: isa-serial, index: 9}]\n",
            2,
            invalid,
            "more than 4 of these: ISA serial ports",
            "remove `-device isa-serial,index=9`, or set a smaller `index` in it",
        ),
        (
            "arguments: [{blockdev: \"driver=null-co,node-name=d\"}, {device: virtio-blk-pci, drive: d, logical_block_size: 100}]\n",
            2,
            invalid,
            "from 512 to 2097152",
            "set 256, 512, 1024 or another power of 2 within the limits, in `-device virtio-blk-pci,drive=d,logical_block_size=100`",
        ),
        (
            &drive("throttling.iops-total=-4"),
            2,
            invalid,
            "is not from 0 to 1000000000000000",
            "correct it, or use the keys `iops` and `bps` of a drive under `storage`",
        ),
        (
            &drive("bps=1,bps_rd=2"),
            2,
            "qemu.option-conflict",
            "limits both all transfers and those of one kind",
            "remove one of the two, as `bps` or `bps_rd`",
        ),
        (
            "arguments: [{drive: \"file.driver=null-co,file.size=1M,format=raw,offset=5000000,if=virtio\"}]\n",
            2,
            invalid,
            "begins at byte 5000000 of a file of 1048576 bytes",
            "set a smaller `offset`",
        ),
        (
            "arguments: [{numa: \"cpu,node-id=9\"}]\n",
            2,
            "device.backend-conflict",
            "refers to NUMA node 9, which does not exist",
            "add `- {numa: node, nodeid: 9}` before it under `arguments`",
        ),
        (
            "arguments: [{blockdev: \"driver=null-co,node-name=bad name\"}]\n",
            2,
            invalid,
            "`bad name` is not a name for a block node",
            "begin it with a letter, followed by at most 30 letters, digits and `-._`",
        ),
    ]);
}

#[test]
fn test_backends_that_are_not_what_is_needed_say_what_is() {
    let vhost_user = "use `- {chardev: socket, id: ID, path: /PATH}`, at which a program for vhost-user listens";
    let required = "qemu.option-required";
    let home = TestHome::new();
    home.write("short.qcow2", [b"QFI\xfb\0\0\0\x03".as_slice(), &[0; 504]].concat());
    for case in [
        (
            "arguments: [{chardev: \"null,id=c\"}, {device: vhost-user-blk-pci, chardev: c}]\n",
            2,
            "device.backend-invalid",
            "does not speak vhost-user",
            vhost_user,
        ),
        (
            "arguments: [{chardev: \"null,id=c\"}, {netdev: vhost-user, id: n, chardev: c}]\n",
            2,
            "device.backend-invalid",
            "character device `c` is not a socket",
            vhost_user,
        ),
        (
            "arguments: [{chardev: \"null,id=c\"}, {device: isa-serial, chardev: c}, {device: isa-serial, chardev: c}]\n",
            2,
            "device.backend-conflict",
            "two devices use `c`",
            "give each device a backend of its own; correct the name in `-device isa-serial,chardev=c`",
        ),
        (
            "arguments: [{chardev: udp, id: c}]\n",
            2,
            required,
            "needs the port of the other end",
            "add `port=4444` to it",
        ),
        (
            "arguments: [{netdev: \"socket,id=n,connect=nohost.invalid:1\"}]\n",
            2,
            "qemu.option-invalid",
            "no address for `nohost.invalid`",
            "correct the name, or write the address as a number, in `-netdev socket,id=n,connect=nohost.invalid:1`",
        ),
        (
            "arguments: [{netdev: \"socket,id=n,udp=127.0.0.1:1\"}]\n",
            2,
            required,
            "needs the address that it receives at",
            "add `localaddr=127.0.0.1:PORT` to it",
        ),
        (
            "arguments: [{icount: \"shift=1,rr=record\"}]\n",
            2,
            required,
            "`rr` of `-icount shift=1,rr=record` needs a file",
            "add `rrfile=FILE` to it",
        ),
        (
            "arguments: [{object: \"secret,id=s,data=%,format=base64\"}]\n",
            2,
            "qemu.option-invalid",
            "the `data` of a secret is not Base64",
            "use `file=PATH` instead of `data`",
        ),
        (
            "arguments: [{gdb: \"tcp:127.0.0.1:0\"}, s]\n",
            2,
            "qemu.option-conflict",
            "two switches are for one thing",
            "remove `-s`",
        ),
        (
            "arguments: [{drive: {file: short.qcow2, format: qcow2, if: virtio}}]\n",
            2,
            "qemu.file-invalid",
            "is damaged: its header is invalid",
            "restore it from a backup, or set `format=raw` if it is not a qcow2 image",
        ),
        (
            "arguments: [{drive: \"file=null-co://,format=raw,if=virtio,backing.file=/x\"}]\n",
            2,
            "qemu.file-invalid",
            "has no backing file",
            "remove the options of `backing`, or use `format=qcow2`",
        ),
    ] {
        check(&home, case);
    }
    if !qemu::is_unpacked() {
        let names = "set one of vdagent, smartcard, usbredir";
        let case =
            ("arguments: [{chardev: spicevmc, id: c, name: x}]\n", 2, "qemu.option-invalid", "does not know", names);
        check(&home, case);
    }
}

/// As of an object, for which QEMU names no switch.
#[test]
fn test_message_that_names_no_switch_lists_those_of_the_user() {
    let home = TestHome::new();
    home.add(
        "name: web\naccel: tcg\nmemory: 32M\narguments: [{rtc: base=utc}, {object: iothread, id: i}, {object: \
         \"throttle-group,id=t,x-bps-total=-1\"}]\n",
    );

    let error = home.json_error(&["start", "web"], 1);

    assert_eq!(error["code"], "vm.start-failed");
    assert!(error["message"].as_str().unwrap().ends_with("QEMU refuses an option, and does not say which"), "{error}");
    let suspects = "`-object iothread,id=i`, `-object throttle-group,id=t,x-bps-total=-1`";
    let hint = format!("leave these out one after the other to find the one that it is: {suspects}");
    assert_eq!(error["hints"][0], hint.as_str(), "{error}");
    assert!(error["causes"][0].as_str().unwrap().ends_with("Property values cannot be negative"), "{error}");
}
