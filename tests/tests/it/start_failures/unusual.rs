//! Values of every kind of switch that QEMU refuses with a message of its own, refuses without one, or crashes on.

use std::path::Path;

use maqet_testkit::{TestHome, qemu};

use super::{assert_explained, check_all};

const INVALID: &str = "qemu.option-invalid";

#[test]
fn test_numbers_out_of_range_name_the_range() {
    let drive = "{drive: \"driver=null-co,if=none,id=d\"}";
    let ide = format!("machine: q35\narguments: [{drive}, {{device: \"ide-hd,drive=d,unit=9\"}}]\n");
    let scsi = format!("arguments: [{drive}, virtio-scsi-pci, {{device: \"scsi-hd,drive=d,lun=99999\"}}]\n");
    let scsi = scsi.replace("virtio-scsi-pci,", "{device: virtio-scsi-pci},");
    check_all(&[
        (
            &ide,
            2,
            INVALID,
            "a bus for IDE has 1 units, from 0 on, and no unit 9",
            "set another `bus`, or a smaller `unit`, in `-device ide-hd,drive=d,unit=9`",
        ),
        (
            &scsi,
            2,
            INVALID,
            "the SCSI controller has no device lun 99999",
            "set a smaller one in `-device scsi-hd,drive=d,lun=99999`, or remove it to have QEMU choose",
        ),
        (
            "arguments: [{device: \"nvme,serial=1,msix_qsize=9999\"}]\n",
            2,
            INVALID,
            "`msix_qsize` in `-device nvme,serial=1,msix_qsize=9999` is not from 1 to 2048",
            "correct it in `-device nvme,serial=1,msix_qsize=9999`",
        ),
        (
            "arguments: [{drive: \"driver=null-co,if=virtio,werror=foo\"}]\n",
            2,
            INVALID,
            "`foo` is not an action for a write error",
            "set `werror` or `rerror` to `report`, `ignore`, `enospc` (only `werror`) or `stop`",
        ),
        (
            "arguments: [{device: qemu-xhci}, {device: \"usb-tablet,port=99\"}]\n",
            2,
            INVALID,
            "USB port 99 of",
            "set another `port` in `-device usb-tablet,port=99`, or remove it",
        ),
        (
            "arguments: [{d: nosuchlog}]\n",
            2,
            INVALID,
            "`d` has an item that QEMU does not know",
            "list the items with `qemu-system-x86_64 -d help`, and correct `d` under `arguments` or `args`",
        ),
    ]);
}

#[test]
fn test_cpus_that_need_more_of_the_cpu_model_say_what() {
    if qemu::is_unpacked() {
        let cause = "more than 255 CPUs need x2APIC";
        check_all(&[
            ("machine: q35\ncpu: 289\n", 2, "qemu.cpus-invalid", cause, "set `cpu: 255` or less"),
            (
                "machine: q35\ncpu: 256\n",
                2,
                "qemu.cpus-invalid",
                cause,
                "set `cpu_model: max`, or another model with `x2apic=on`",
            ),
        ]);
    } else {
        check_all(&[
            ("machine: q35\ncpu: 289\n", 2, "qemu.cpus-too-large", "at most 288 CPUs", "set `cpu: 288` or less"),
            (
                "machine: q35\ncpu: 256\n",
                2,
                "qemu.cpus-invalid",
                "more than 255 CPUs need KVM",
                "set `cpu: 255` or less",
            ),
        ]);
    }
}

#[test]
fn test_parts_that_the_machine_or_the_host_lacks_are_named() {
    let object = |options: &str| format!("arguments: [{{object: \"memory-backend-ram,id=m,size=32M,{options}\"}}]\n");
    check_all(&[
        (
            "machine: microvm\narguments: [{device: sb16}]\n",
            2,
            "device.bus-not-found",
            "has no DMA for ISA devices",
            "set `machine: pc` or `machine: q35`",
        ),
        (
            &object("host-nodes=9"),
            2,
            "qemu.option-conflict",
            "`host-nodes` of a memory object needs a `policy`",
            "add `policy=bind`, or remove `host-nodes`",
        ),
        (
            &object("host-nodes=9,policy=bind"),
            69,
            "host.numa-node-not-found",
            "the host does not have a NUMA node of `host-nodes`",
            "list the nodes of the host: `ls -d /sys/devices/system/node/node*`",
        ),
    ]);
    if qemu::is_unpacked() {
        let hint = "install the package of QEMU's modules that has it, such as `qemu-system-modules-opengl`";
        let keys = "arguments: [{device: virtio-gpu-gl}]\n";
        check_all(&[(keys, 2, "device.driver-not-found", "has no device `virtio-gpu-gl`", hint)]);
    }
    if !Path::new("/dev/vfio/vfio").exists() {
        let keys = "arguments: [{blockdev: \"nvme,device=0000:01:00.0,namespace=1,node-name=n\"}]\n";
        let hint = "load the module with `modprobe vfio-pci`, and bind the device to its driver";
        check_all(&[(keys, 69, "host.device-not-found", "`/dev/vfio/vfio`", hint)]);
    }
    if !Path::new("/dev/vhost-scsi").exists() {
        let keys = "arguments: [{device: \"vhost-scsi-pci,wwpn=naa.5000\"}]\n";
        check_all(&[(keys, 69, "host.device-not-found", "the kernel's vhost", "remove `vhost=on`")]);
    }
}

/// No table has these messages.
#[test]
fn test_other_messages_name_the_switch_and_list_its_options() {
    check_all(&[
        (
            "arguments: [{device: \"virtio-rng-pci,period=0\"}]\n",
            2,
            INVALID,
            "QEMU refuses `-device virtio-rng-pci,period=0`",
            "list its options with `qemu-system-x86_64 -device virtio-rng-pci,help`",
        ),
        (
            "arguments: [{netdev: \"l2tpv3,id=n,src=127.0.0.1,dst=127.0.0.1,udp=on,txsession=1\"}]\n",
            2,
            INVALID,
            "QEMU refuses `-netdev l2tpv3,",
            "correct it in `-netdev l2tpv3,id=n,src=127.0.0.1,dst=127.0.0.1,udp=on,txsession=1`",
        ),
        (
            "arguments: [{numa: \"node,nodeid=999\"}]\n",
            2,
            INVALID,
            "QEMU refuses `-numa node,nodeid=999`",
            "read about its options in `qemu-system-x86_64 -help`",
        ),
        (
            "arguments: [{object: \"iothread,id=i,thread-pool-min=9,thread-pool-max=3\"}]\n",
            2,
            INVALID,
            "most likely one of `-object iothread,id=i,thread-pool-min=9,thread-pool-max=3`",
            "list its options with `qemu-system-x86_64 -object iothread,help`",
        ),
    ]);
}

#[test]
fn test_qemu_that_crashes_names_the_numbers_that_it_was_given() {
    let drive = "{drive: \"driver=null-co,if=none,id=d\"}";
    check_all(&[
        (
            &format!("arguments: [{drive}, {{device: \"virtio-blk-pci,drive=d,num-queues=9999\"}}]\n"),
            1,
            "qemu.process-failed",
            "QEMU crashed",
            "set smaller numbers, as for `num-queues=9999` of `-device`",
        ),
        (
            "arguments: [{chardev: \"null,id=c\"}, {device: \"isa-serial,chardev=c,irq=99\"}]\n",
            1,
            "qemu.process-failed",
            "QEMU crashed",
            "set smaller numbers, as for `irq=99` of `-device`",
        ),
    ]);
}

/// One of each family of options; what each says is not compared.
#[test]
fn test_wrong_value_of_any_family_is_explained() {
    let home = TestHome::new();
    for switch in [
        "chardev: \"socket,id=c,host=127.0.0.1\"",
        "chardev: \"udp,id=c\"",
        "chardev: \"ringbuf,id=c,size=3\"",
        "chardev: \"pipe,id=c\"",
        "netdev: \"user,id=n,net=foo\"",
        "netdev: \"user,id=n,guestfwd=foo\"",
        "netdev: \"user,id=n,ipv6-net=foo\"",
        "netdev: \"socket,id=n\"",
        "netdev: \"socket,id=n,mcast=foo\"",
        "netdev: \"dgram,id=n\"",
        "netdev: \"hubport,id=n,hubid=1,netdev=nil\"",
        "nic: \"user,mac=foo\"",
        "device: \"virtio-net-pci,duplex=foo\"",
        "device: \"virtio-net-pci,rx_queue_size=3\"",
        "device: \"virtio-scsi-pci,num_queues=9999\"",
        "device: \"virtio-serial-pci,max_ports=999\"",
        "device: \"cirrus-vga,vgamem_mb=3\"",
        "device: \"bochs-display,vgamem=3\"",
        "device: \"pxb,bus_nr=10\"",
        "device: \"pci-ohci,num-ports=99\"",
        "device: \"intel-iommu,aw-bits=5\"",
        "device: \"vhost-user-blk-pci\"",
        "device: \"loader,addr=0x100\"",
        "fsdev: \"local,id=f,path=/tmp,security_model=foo\"",
        "smbios: \"type=1,uuid=foo\"",
        "fw_cfg: \"name=opt/x,gen_id=nil\"",
        "icount: \"rr=replay\"",
        "boot: \"splash-time=99999\"",
        "object: \"secret,id=s,data=!!,format=base64\"",
        "object: \"memory-backend-ram,id=m,size=0\"",
        "object: \"throttle-group,id=g,limits.iops-total=1,limits.iops-read=1\"",
        "numa: \"dist,src=0,dst=1,val=5\"",
        "drive: \"driver=null-co,if=none,id=d,detect-zeroes=foo\"",
        "drive: \"driver=null-co,if=none,id=d,throttling.bps-total-max=1\"",
        "blockdev: \"null-co,node-name=9x\"",
        "audiodev: \"none,id=a,out.format=foo\"",
        "dfilter: foo",
    ] {
        home.add(&format!("name: web\naccel: tcg\nmemory: 32M\narguments: [{{{switch}}}]\n"));

        let error = home.json_error(&["start", "web"], 2);

        assert_explained(&error);
        home.json(&["rm", "web"]);
    }
}
