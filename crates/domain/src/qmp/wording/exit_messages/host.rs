//! What the host lacks, or another process uses.

use super::super::super::versions::TESTED;
use super::{ExitMessage, Lookup, Role};
use crate::error::Fault;

const ACCELERATOR: &str = "set `accel: tcg` for software emulation, or `accel: auto` to use KVM where it works";

/// The rows.
pub(super) const ROWS: &[ExitMessage] = &[
    // Ports: libslirp (`net/slirp.c`), passt, QEMU's own sockets (`util/qemu-sockets.c`), SPICE.
    port("Could not set up host forwarding rule '{}'", Lookup::ForwardedPort),
    port("Failed to bind any port for '{}'", Lookup::ForwardedPort),
    port("Failed to find an available port: Address already in use", Lookup::ListeningPort),
    port("Failed to bind socket: {}", Lookup::ListeningPort),
    port("can't bind ip={} to socket: {}", Lookup::ListeningPort),
    port("reds_init_socket: binding socket to {} failed", Lookup::ListeningAddress).seen_in(&[TESTED[0]]),
    // KVM (`accel/kvm/kvm-all.c`, `target/i386`).
    kvm("Could not access KVM kernel module: No such file or directory", "KVM is missing: `/dev/kvm` does not exist")
        .hints(&[
            "load the module with `modprobe kvm_intel` or `modprobe kvm_amd`, and enable virtualization in the host's \
             firmware; in a container, pass the device",
            ACCELERATOR,
        ]),
    kvm("Could not access KVM kernel module: Permission denied", "you are not permitted to use KVM: `/dev/kvm`")
        .hints(&["join the group of the device with `sudo usermod -aG kvm $USER`, then log in again", ACCELERATOR]),
    kvm("failed to initialize kvm: {}", "KVM does not work: <1>").hints(&[ACCELERATOR]).role(Role::Summary),
    kvm("CPU model 'host' requires KVM or HVF", "CPU model `host` requires KVM, which the VM does not use: <kvm>")
        .hints(&["set `cpu_model: max` for all features that TCG emulates"])
        .lookup(Lookup::Kvm),
    // As QEMU for Arm says it.
    kvm("unable to find CPU model 'host'", "CPU model `host` requires KVM, which the VM does not use: <kvm>")
        .hints(&["set `cpu_model: max` for all features that TCG emulates"])
        .lookup(Lookup::Kvm)
        .seen_in(&[TESTED[0]]),
    host("invalid accelerator {}", "<qemu> has no accelerator `<1>`", "qemu.accelerator-not-found")
        .hints(&[ACCELERATOR]),
    // Memory and files (`util/oslib-posix.c`, `softmmu/physmem.c`, `accel/tcg`).
    host("Too many open files", "QEMU may not open more files", "host.open-files-full")
        .hints(&["raise the limit with `ulimit -n 4096` in the shell that runs maqet", "use fewer drives"]),
    host(
        "unable to map backing store for guest RAM: Cannot allocate memory",
        "no huge pages are free for the guest's RAM",
        HUGE_PAGES,
    )
    .hints(&[RESERVE, ORDINARY_MEMORY]),
    memory_file("unable to map backing store for guest RAM: {}", "the guest's RAM cannot be in its file: <1>"),
    ExitMessage::new(
        "can't open backing store {} for guest RAM: No such file or directory",
        "`<1>`, which is to hold the guest's RAM, does not exist",
        "qemu.file-not-found",
        Fault::NotFound,
    )
    .hints(&[
        "correct the path, or create its directory",
        "for huge pages, mount them: `sudo mkdir -p <1> && sudo mount -t hugetlbfs none <1>`",
    ]),
    host(
        "can't open backing store {} for guest RAM: Permission denied",
        "you may not create the guest's RAM in `<1>`",
        "qemu.file-refused",
    )
    .lookup(Lookup::MemoryPath),
    memory_file("can't open backing store {} for guest RAM: {}", "`<1>` cannot hold the guest's RAM: <2>"),
    memory_file(
        "backing store size {} does not match 'size' option {}",
        "the file of the guest's RAM has <1> bytes, not <2>",
    )
    .seen_in(&[TESTED[0]]),
    memory_file(
        "backing store size {} is too small for 'size' option {} plus",
        "the file of the guest's RAM has <1> bytes, and needs <2>",
    )
    .seen_in(&[TESTED[1]]),
    host(
        "locking memory failed",
        "the host does not let QEMU lock the guest's RAM in memory",
        "host.locked-memory-refused",
    )
    .hints(&[
        "raise the limit of locked memory for your user: `memlock` in `/etc/security/limits.conf`, or `ulimit -l`",
        "remove `mem-lock` from `overcommit`",
    ]),
    host(
        "cannot set up guest memory '{}': Cannot allocate memory",
        "the host has too little memory for the guest's RAM",
        "host.memory-full",
    )
    .hints(&["set less `memory`", "stop other VMs; `free -h` shows what is available"]),
    host(
        ": Cannot allocate memory",
        "the host, or a limit such as `ulimit -v`, leaves too little memory",
        "host.memory-full",
    )
    .hints(&["set less `memory`, or raise the limit"]),
    ExitMessage::new(
        "signal 9 (SIGKILL)",
        "another process killed QEMU, or the kernel did for want of memory",
        "vm.start-failed",
        Fault::Failed,
    )
    .hints(&["see whether the kernel was out of memory: `sudo dmesg | grep -i 'out of memory'`", "set less `memory`"]),
    // Bridges and taps (`qemu-bridge-helper.c`, `net/tap-linux.c`).
    bridge("failed to parse default acl file `{}'", "bridge `<bridge>` is not allowed, as `<1>` does not exist")
        .hints(&["allow it: `sudo mkdir -p /etc/qemu && echo allow <bridge> | sudo tee -a <1>`", BRIDGE_ELSE]),
    bridge("access denied by acl file", "QEMU's bridge helper does not allow bridge `<bridge>`")
        .hints(&["allow it: `echo allow <bridge> | sudo tee -a /etc/qemu/bridge.conf`", BRIDGE_ELSE]),
    bridge("failed to create tun device: Operation not permitted", "the bridge helper does not run as root")
        .hints(&["permit it: `sudo chmod u+s /usr/lib/qemu/qemu-bridge-helper`", BRIDGE_ELSE]),
    bridge("failed to open /dev/net/tun: {}", "the bridge helper cannot use the host's tap devices: <1>").hints(&[
        "permit it: `sudo chmod u+s /usr/lib/qemu/qemu-bridge-helper`",
        TUN,
        BRIDGE_ELSE,
    ]),
    bridge("failed to get mtu of bridge `{}': {}", "bridge `<1>` cannot be used: <2>")
        .hints(&["create it: `sudo ip link add <1> type bridge`", BRIDGE_ELSE]),
    bridge("name `{}' too long: {}", "the name `<1>` of a bridge or a tap device has more than 15 characters")
        .hints(&["correct the name", BRIDGE_ELSE]),
    bridge("bridge helper failed", "QEMU's bridge helper failed for bridge `<bridge>`")
        .hints(&["check that the helper and the bridge exist: `ip link show <bridge>`", BRIDGE_ELSE])
        .role(Role::Summary),
    tap("could not open /dev/net/tun: No such file or directory", "the host has no tap devices: `/dev/net/tun`")
        .hints(&[TUN, BRIDGE_ELSE]),
    tap("could not open /dev/net/tun: Permission denied", "you may not use tap devices: `/dev/net/tun`")
        .hints(&["permit it: `sudo chmod a+rw /dev/net/tun`, as most hosts have it", BRIDGE_ELSE]),
    tap("could not open /dev/net/tun: {}", "the host's tap devices cannot be used: <1>").hints(&[TUN, BRIDGE_ELSE]),
    tap(
        "could not configure /dev/net/tun ({}): Device or resource busy",
        "another program, or another VM, uses tap device `<1>`",
    )
    .hints(&["create another: `sudo ip tuntap add NAME mode tap user $USER`", BRIDGE_ELSE]),
    tap("could not configure /dev/net/tun ({}): {}", "tap device `<1>` cannot be used: <2>")
        .hints(&["create it for your user: `sudo ip tuntap add <1> mode tap user $USER`", BRIDGE_ELSE]),
    tap("network script {} failed with status {}", "the script `<1>` of a tap device failed").hints(&[
        "run it by hand to see why: `sudo <1> NAME`",
        "set `script: no` for a tap device that is set up before",
    ]),
    // Programs beside QEMU (`net/slirp.c`, `net/vde.c`), and files that it would inherit (`net/util.c`).
    host("Could not find '{}', please install it", "the host has no `<1>`", "host.program-not-found")
        .hints(&["install it: `apt install samba` for `smb`", "share the directory with `type: virtfs` under `storage`"]),
    ExitMessage::new(
        "Could not open vde: {}",
        "the switch of VDE cannot be reached: <1>",
        "qemu.socket-not-found",
        Fault::NotFound,
    )
    .hints(&["start it first: `vde_switch -d -s DIRECTORY` (Debian: `apt install vde2`), and set `sock=DIRECTORY` in `<switch>`"]),
    host(
        "cannot bind memory to host NUMA nodes: {}",
        "the host does not have a NUMA node of `host-nodes`: <1>",
        "host.numa-node-not-found",
    )
    .hints(&["list the nodes of the host: `ls -d /sys/devices/system/node/node*`", "remove `host-nodes` and `policy`"]),
    host("socket creation failed, errno = {}", "`<switch>` needs rights that you do not have", "host.socket-refused")
        .hints(&["add `udp=on`, `srcport` and `dstport` to `l2tpv3`", RIGHTS]),
    host("failed to create CAN_RAW socket: {}", "the host has no CAN bus: <1>", "host.device-not-found")
        .hints(&["load the module with `modprobe can_raw`"]),
    inherited("Can't use file descriptor {}: {}"),
    inherited("can't get socket option SO_TYPE").seen_in(&[TESTED[1]]),
    inherited("File descriptor '{}' is not a socket"),
    inherited("fd is not valid or already in use"),
    // Devices of the host (`hw/usb/host-libusb.c`, `hw/virtio/vhost-vsock.c`, `backends/tpm/tpm_passthrough.c`).
    device("failed to find host usb device {}", "the host has no USB device `<1>`")
        .hints(&["list the devices with `lsusb`, and plug it in"]),
    device("Failed to open /dev/vfio/vfio: {}", "the host cannot pass devices through: `/dev/vfio/vfio`: <1>")
        .hints(&["load the module with `modprobe vfio-pci`, and bind the device to its driver", RIGHTS]),
    device("open vhost char device failed: {}", "the kernel's vhost, which `<switch>` uses, is not available: <1>").hints(&[
        "load its module, as `modprobe vhost_net` or `modprobe vhost_scsi`, and permit its file in `/dev`",
        "remove `vhost=on`",
    ]),
    device("is not an evdev device", "`<switch>` names a file that is not an input device")
        .hints(&["list the devices with `ls /dev/input`"]),
    device("vhost-vsock: failed to open vhost device: {}", "the host's vsock cannot be used: <1>")
        .hints(&["load the module with `modprobe vhost_vsock`, and permit it: `sudo chmod a+rw /dev/vhost-vsock`"]),
    device("Cannot access TPM device using '{}': {}", "the TPM `<1>` of the host cannot be used: <2>")
        .hints(&["set `tpm: true` for a TPM that is emulated"]),
    // Displays (`ui/spice-app.c`, `ui/egl-helpers.c`, `ui/dbus.c`); in 10.0, they are in packages.
    display("Failed to launch {} URI: {}", "no program of the host shows `<1>`: <2>")
        .hints(&[
            "install one: `apt install virt-viewer`",
            "set `display: none`, and use `spice` or `vnc` under `arguments`",
        ])
        .seen_in(&[TESTED[0]]),
    display("egl: no drm render node available", "the host has no GPU that renders: no `/dev/dri/renderD128`")
        .hints(&["set `display: none`, and use `vnc` under `arguments`"])
        .seen_in(&[TESTED[0]]),
    display("failed to connect to DBus: {}", "there is no session of D-Bus: <1>")
        .hints(&[
            "set `display: \"dbus,p2p=on\"`, which needs none",
            "set `display: none`, and use `vnc` under `arguments`",
        ])
        .seen_in(&[TESTED[0]]),
    // Sound (`audio/audio.c`, `audio/ossaudio.c`).
    sound("Could not init `{}' audio driver").seen_in(&[TESTED[0]]),
    sound("{} not accessible: No such file or directory").seen_in(&[TESTED[1]]),
    // The sandbox (`softmmu/qemu-seccomp.c`): 7.2 is killed, 10.0 is refused.
    sandbox("signal 31 (SIGSYS)").seen_in(&[TESTED[0]]),
    sandbox("Can't fork bridge helper: Operation not permitted").seen_in(&[TESTED[1]]),
    sandbox("could not launch network script {}: Operation not permitted").seen_in(&[TESTED[1]]),
];

const HUGE_PAGES: &str = "host.huge-pages-unavailable";

const RESERVE: &str = "reserve huge pages for the RAM: `sudo sysctl vm.nr_hugepages=N`, where each has 2 MiB";

const ORDINARY_MEMORY: &str = "use ordinary memory: remove the huge pages from `arguments`";

const TUN: &str = "load the module with `modprobe tun`; in a container, pass `/dev/net/tun`";

const RIGHTS: &str = "run maqet as a user who has these rights";

const BRIDGE_ELSE: &str = "use `mode: user` or `mode: passt`, which need no permissions";

const fn host(text: &'static str, cause: &'static str, code: &'static str) -> ExitMessage {
    ExitMessage::new(text, cause, code, Fault::Host)
}

/// The cause and the hint are those of what keeps QEMU from the port, if it can be found out.
const fn port(text: &'static str, lookup: Lookup) -> ExitMessage {
    ExitMessage::new(text, "a port of the host cannot be used", "host.port-unavailable", Fault::Host).lookup(lookup)
}

const fn kvm(text: &'static str, cause: &'static str) -> ExitMessage {
    host(text, cause, "host.kvm-unavailable")
}

const fn tap(text: &'static str, cause: &'static str) -> ExitMessage {
    host(text, cause, "host.tap-unavailable")
}

const fn device(text: &'static str, cause: &'static str) -> ExitMessage {
    host(text, cause, "host.device-not-found")
}

const fn display(text: &'static str, cause: &'static str) -> ExitMessage {
    host(text, cause, "host.display-unavailable")
}

const fn sound(text: &'static str) -> ExitMessage {
    host(text, "the host has no sound by `<1>`", "host.sound-unavailable").hints(&[
        "set `backend: none` under `sound` for a card without sound",
        "set another backend, such as `pa` or `alsa`",
    ])
}

const fn inherited(text: &'static str) -> ExitMessage {
    let cause = "`<switch>` refers to a file that another program would have opened: maqet passes none to QEMU";
    ExitMessage::new(text, cause, "qemu.option-invalid", Fault::Usage)
        .hints(&["name a path, an address or a tap device in place of `fd`"])
}

const fn memory_file(text: &'static str, cause: &'static str) -> ExitMessage {
    ExitMessage::new(text, cause, "qemu.file-invalid", Fault::Usage)
        .hints(&["name another file or directory for the RAM", ORDINARY_MEMORY])
}

const fn bridge(text: &'static str, cause: &'static str) -> ExitMessage {
    host(text, cause, "device.bridge-refused")
}

const fn sandbox(text: &'static str) -> ExitMessage {
    let cause = "QEMU's sandbox ended it: the VM has a device or an option that starts a program, or needs root";
    ExitMessage::new(text, cause, "vm.sandbox-refused", Fault::State)
        .hints(&["set `sandbox: false` if you trust the guest", "remove such options, as a tap `script` or `runas`"])
}
