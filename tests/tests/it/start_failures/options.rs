//! Names, options, buses, addresses and devices that do not exist.

use super::check_all;

#[test]
fn test_names_unknown_to_qemu_are_refused_with_near_ones() {
    check_all(&[
        ("machine: q53\n", 2, "qemu.machine-not-found", "has no machine type `q53`", "did you mean `q35`?"),
        (
            "arguments: [{machine: \"pc-q35-1.0,usb=on\"}]\n",
            2,
            "qemu.machine-not-found",
            "`pc-q35-1.0`",
            "did you mean `q35` or `pc-q35-…",
        ),
        ("machine: pc-q35\n", 2, "qemu.machine-not-found", "`pc-q35`", "did you mean `q35` or `pc-q35-…"),
        (
            "machine: pc-i440fx-noble\n",
            2,
            "qemu.machine-not-found",
            "`pc-i440fx-noble`",
            "did you mean `pc` or `pc-i440fx-…",
        ),
        (
            "machine: virt\n",
            2,
            "qemu.machine-not-found",
            "`virt`",
            "`virt` is a machine type of `aarch64` and `riscv64`: set `arch: aarch64`",
        ),
        (
            "network: {model: virtio}\n",
            2,
            "device.driver-not-found",
            "no device `virtio`",
            "did you mean `virtio-net`, `virtio-net-pci` or `virtio-net-device`?",
        ),
        (
            "arguments: [{device: ide-hd, bus: ide.9}]\n",
            2,
            "device.bus-not-found",
            "machine type `pc` has no IDE bus `ide.9`",
            "set `interface: virtio` or `interface: scsi` for the drive",
        ),
        (
            "cpu_model: Skylake-Clinet\n",
            2,
            "qemu.cpu-model-not-found",
            "`Skylake-Clinet`",
            "did you mean `Skylake-Client`, `Skylake-Client-v1` or `Skylake-Client-v2`?",
        ),
        (
            "cpu_model: nothing-like-it\n",
            2,
            "qemu.cpu-model-not-found",
            "QEMU ",
            "list the CPU models with `qemu-system-x86_64 -cpu help`",
        ),
        (
            "arguments: [{device: virtio-ntt-pci}]\n",
            2,
            "device.driver-not-found",
            "`virtio-ntt-pci`",
            "did you mean `virtio-net-pci`, `virtio-rng-pci` or `virtio-tablet-pci`?",
        ),
        ("arguments: [{device: ahcy}]\n", 2, "device.driver-not-found", "`ahcy`", "did you mean `ahci`?"),
        (
            "arguments: [{accel: hvf}]\n",
            69,
            "qemu.accelerator-not-found",
            "no accelerator `hvf`",
            "set `accel: tcg` for software emulation, or `accel: auto` to use KVM where it works",
        ),
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
            "set `interface: virtio` or `interface: scsi` for the drive",
        ),
        (
            "machine: q35\narguments: [{device: usb-tablet}]\n",
            2,
            "device.bus-not-found",
            "no USB bus",
            "add `- {device: qemu-xhci}` before it under `arguments`",
        ),
        (
            "machine: microvm\narguments: [{device: e1000}]\n",
            2,
            "device.bus-not-found",
            "`microvm` has no PCI",
            "for `microvm`, set `machine: {type: microvm, pcie: on}`, or use devices for its bus, as `virtio-blk-device`",
        ),
        (
            "arguments: [{device: virtserialport}]\n",
            2,
            "device.bus-not-found",
            "serial bus",
            "add `- {device: virtio-serial}` before it under `arguments`",
        ),
        (
            "arguments: [{device: scsi-hd}]\n",
            2,
            "device.bus-not-found",
            "no SCSI bus",
            "add `- {device: virtio-scsi-pci}` before it, or use `interface: scsi` under `storage`",
        ),
        (
            "arguments: [{device: e1000, bus: pci.9}]\n",
            2,
            "device.bus-not-found",
            "no bus `pci.9`",
            "name a bus of the machine (`pci.0` of `pc`, `pcie.0` of `q35` and `virt`) or of a controller by its `id`",
        ),
        (
            "arguments: [{device: e1000, colour: red}]\n",
            2,
            "device.property-not-found",
            "no property `colour`",
            "list its properties with `qemu-system-x86_64 -device e1000,help`",
        ),
        (
            "machine: {type: q35, colour: red}\n",
            2,
            "qemu.option-not-found",
            "no option `colour`",
            "list its options with `qemu-system-x86_64 -machine pc-q35-…",
        ),
        (
            "cpu_model: qemu64,+colour\n",
            2,
            "qemu.option-not-found",
            "no feature `colour`",
            "list the features with `qemu-system-x86_64 -cpu help`",
        ),
        (
            "arguments: [{device: virtio-net-pci, netdev: nil}]\n",
            2,
            "device.backend-conflict",
            "`nil`, which does not",
            "add the drive, network or character device `nil`, or correct the name in `-device virtio-net-pci,netdev=nil`",
        ),
        (
            "arguments: [{device: e1000, id: a}, {device: e1000, id: a}]\n",
            2,
            "device.id-conflict",
            "have the ID `a`",
            "choose another ID in `-device e1000,id=a`; drives and cards of the definition have their names as IDs",
        ),
        (
            "arguments: [{device: e1000, addr: \"5\"}, {device: e1000, addr: \"5\"}]\n",
            2,
            "device.id-conflict",
            "PCI slot 5",
            "choose another `addr` in `-device e1000,addr=5`, or leave it out",
        ),
    ]);
}

#[test]
fn test_options_that_qemu_refuses_are_named() {
    check_all(&[
        (
            "arguments: [{colour: red}]\n",
            2,
            "qemu.option-not-found",
            "has no such switch",
            "remove it from `arguments` or `args`; `qemu-system-x86_64 -help` lists the switches",
        ),
        (
            "arguments: [{netdev: user, id: n, colour: red}]\n",
            2,
            "qemu.option-not-found",
            "no option `colour`",
            "remove or correct it; `qemu-system-x86_64 -help` lists the options",
        ),
        ("arguments: [{netdev: user}]\n", 2, "qemu.option-required", "needs `id`", "add `id=…` to it"),
        (
            "arguments: [{netdev: pigeon, id: n}]\n",
            2,
            "qemu.option-invalid",
            "value `pigeon`",
            "correct the value in `-netdev pigeon,id=n`; `qemu-system-x86_64 -help` describes its options",
        ),
        ("arguments: [{smp: 999}]\n", 2, "qemu.cpus-too-large", "at most 255 CPUs", "set `cpu: 255` or less"),
        (
            "arguments: [{smp: \"4,sockets=1,cores=1,threads=1\"}]\n",
            2,
            "qemu.cpus-invalid",
            "sockets (1)",
            "make `sockets`, `cores` and `threads` multiply to the number of CPUs",
        ),
        (
            "arguments: [{append: quiet}]\n",
            2,
            "qemu.option-conflict",
            "require a `kernel`",
            "add `- {kernel: FILE}` under `arguments`",
        ),
        (
            "arguments: [{netdev: \"user,id=n,hostfwd=tcp:nonsense\"}]\n",
            2,
            "qemu.option-invalid",
            "forwarding rule `tcp:nonsense`",
            "write it as `tcp:127.0.0.1:2222-:22`, or use `forward` of `network`",
        ),
    ]);
}
#[test]
fn test_objects_without_their_files_are_named() {
    check_all(&[
        (
            "arguments: [{object: secret, id: s, file: /none}]\n",
            3,
            "qemu.file-not-found",
            "`/none` of a secret",
            "correct the path in `-object secret,id=s,file=/none`",
        ),
        (
            "arguments: [{object: secret, id: s}]\n",
            2,
            "qemu.option-required",
            "neither `file` nor `data`",
            "add `file: PATH` to the `object: secret`",
        ),
        (
            "arguments: [{object: tls-creds-x509, id: t, dir: /none, endpoint: server}]\n",
            3,
            "qemu.file-not-found",
            "`/none/ca-cert.pem`, which TLS needs",
            "create the certificates and keys in this directory, or correct `dir` of the object",
        ),
        (
            "arguments: [{object: rng-egd, id: r, chardev: x}]\n",
            2,
            "device.backend-conflict",
            "there is no `x`",
            "add it under `arguments`, or correct the name",
        ),
        (
            "arguments: [{netdev: user, id: n}, {object: filter-dump, id: f, netdev: n, file: /none/x}]\n",
            3,
            "qemu.file-not-found",
            "directory of `/none/x`",
            "create the directory",
        ),
        (
            "arguments: [{D: /none/x}, {d: int}]\n",
            3,
            "qemu.file-not-found",
            "directory of `/none/x`",
            "create the directory",
        ),
    ]);
}

#[test]
fn test_addresses_and_devices_that_do_not_exist_are_named() {
    check_all(&[
        (
            "arguments: [{incoming: \"tcp:nonsense\"}]\n",
            2,
            "qemu.option-invalid",
            "`nonsense`",
            "write it as `tcp:127.0.0.1:4444`, or `unix:/PATH`, in `-incoming tcp:nonsense`",
        ),
        (
            "arguments: [{incoming: \"pigeon:1\"}]\n",
            2,
            "qemu.option-invalid",
            "`pigeon:1`",
            "write it as `tcp:127.0.0.1:4444`, `unix:/PATH` or `defer` in `-incoming pigeon:1`",
        ),
        (
            "arguments: [{gdb: \"tcp:no.invalid:1\"}]\n",
            2,
            "qemu.option-invalid",
            "no.invalid",
            "write the address as a number, as 127.0.0.1, in `-gdb tcp:no.invalid:1`",
        ),
        (
            "arguments: [{netdev: socket, id: n, mcast: \"127.0.0.1:45009\"}]\n",
            2,
            "qemu.option-invalid",
            "`127.0.0.1`",
            "choose one of 224.0.0.0 to 239.255.255.255, as 230.0.0.1",
        ),
        (
            "machine: q35\narguments: [{device: qemu-xhci}, {device: usb-host, hostbus: 99, hostaddr: 9}]\n",
            69,
            "host.device-not-found",
            "no USB device `99:9`",
            "list the devices with `lsusb`, and plug it in",
        ),
        (
            "arguments: [{device: vfio-pci, host: \"ff:1f.7\"}]\n",
            69,
            "host.device-not-found",
            "no such device",
            "list the devices with `lspci -D`",
        ),
        (
            "arguments: [{tpmdev: passthrough, id: t}]\n",
            69,
            "host.device-not-found",
            "`/dev/tpm0`",
            "set `tpm: true` for a TPM that is emulated",
        ),
        (
            "arguments: [{drive: {file: /dev/null, format: qcwo2}}]\n",
            2,
            "qemu.option-invalid",
            "format `qcwo2`",
            "set `raw`, `qcow2`, or another format that `qemu-img --help` lists",
        ),
        (
            "arguments: [{m: \"32M\"}, {object: memory-backend-memfd, id: m, size: 32M, hugetlb: on}, {machine: \"memory-backend=m\"}]\n",
            69,
            "host.huge-pages-unavailable",
            "no huge pages are free",
            "reserve huge pages for the RAM: `sudo sysctl vm.nr_hugepages=N`, where each has 2 MiB",
        ),
    ]);
}
