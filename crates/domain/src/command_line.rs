//! QEMU's command line, computed from a machine.

mod firmware;
mod hardware;
mod image_server;
mod setup_commands;
mod storage;
mod tpm;

pub use self::firmware::{UefiFiles, uefi_variables_nodes};
pub use self::setup_commands::{copy_setup_commands, image_setup_commands, overlay_setup_commands, run_setup_commands};
pub use self::tpm::{TPM_LOCK_FILE, TPM_STATE_FILE, Tpm};

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Explain, Explanation, Fault};
use crate::machine::defaults::{self, EVENTS_CHARDEV, SERIAL_CHARDEV};
use crate::machine::{Machine, Serial};
use crate::network::NetworkMode;
use crate::qemu::{Helper, QemuVersion, Switch};
use crate::qmp::versions::Difference;
use crate::storage::FileKinds;
use crate::text::quote;
use crate::vm::{MonitorRole, RunPaths, VmId, VmName};

/// The accelerator in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub enum Accelerator {
    /// Hardware virtualisation.
    Kvm,
    /// Software emulation.
    Tcg,
}

/// What a command line needs besides the machine.
#[derive(Debug, Clone)]
pub struct LaunchContext {
    /// The VM's name.
    pub name: VmName,
    /// The VM's id, also the UUID of the guest.
    pub id: VmId,
    /// The path of the binary.
    pub binary: PathBuf,
    /// The architecture of the guest.
    pub architecture: String,
    /// The accelerator.
    pub accelerator: Accelerator,
    /// The folder of disks without a path in the definition.
    pub vm_storage: PathBuf,
    /// The paths of the run.
    pub paths: RunPaths,
    /// The UEFI firmware, for machines that use it.
    pub uefi: Option<UefiFiles>,
    /// The TPM, for machines that have one.
    pub tpm: Option<Tpm>,
    /// The files of drives that are not regular.
    pub file_kinds: FileKinds,
    /// The version of the binary.
    pub version: QemuVersion,
    /// Whether QEMU runs as root.
    pub is_root: bool,
}

/// A path that cannot be part of a command line or of the database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("path `{}` is not valid UTF-8", path.display())]
#[expect(missing_docs, reason = "the message names the field")]
pub struct PathNotUtf8 {
    pub path: PathBuf,
}

impl Explain for PathNotUtf8 {
    fn explain(&self) -> Explanation {
        Explanation::new("host.path-invalid", Fault::Host).hint("use directories with valid UTF-8 names")
    }
}

/// A complete command line of QEMU.
///
/// Its `Display` is one shell command, with its helpers before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    binary: PathBuf,
    args: Vec<String>,
    helpers: Vec<Helper>,
}

impl CommandLine {
    /// Computes the command line of `machine` in `context`.
    ///
    /// Switches of the user under `arguments` or `args` replace those of maqet.
    pub fn new(machine: &Machine, context: &LaunchContext) -> Result<Self, PathNotUtf8> {
        let mut switches = identity(machine, context);
        switches.extend(channels(machine, &context.paths)?);
        switches.extend(reset_log(machine, context)?);
        switches.extend(hardware::switches(machine, context));
        switches.extend(firmware::firmware(machine, context.uefi.as_ref())?);
        switches.extend(machine.port_switches());
        switches.extend(storage::switches(machine, context)?);
        let (cards, mut helpers) = network(machine, context)?;
        switches.extend(cards);
        if let Some(tpm) = &context.tpm {
            let (device, helper) = tpm.command_line(&context.paths.tpm_socket())?;
            switches.extend(device);
            helpers.push(helper);
        }
        switches.extend(machine.usb_switches());
        switches.extend(machine.switches.iter().cloned());
        let last = machine.device_switches(&context.binary);

        // The Python maqet put `args` before `arguments`, and the order of devices matters to guests.
        let raw = machine.args.iter().cloned();
        let args = switches.iter().flat_map(Switch::args);
        let args = args.chain(raw).chain(machine.arguments.iter().chain(&last).flat_map(Switch::args)).collect();
        Ok(Self { binary: context.binary.clone(), args, helpers })
    }

    /// Returns this command line for a guest that does not run until it is resumed.
    #[must_use]
    pub fn paused(mut self) -> Self {
        if !self.args.iter().any(|arg| arg == "-S") {
            self.args.push("-S".to_owned());
        }
        self
    }

    /// Returns the binary.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Returns the arguments.
    pub fn args(&self) -> &[String] {
        &self.args
    }

    /// Returns the programs to start before it.
    pub fn helpers(&self) -> &[Helper] {
        &self.helpers
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.helpers.iter().try_for_each(|helper| write!(f, "{helper} && "))?;
        f.write_str(&quote(&self.binary.to_string_lossy()))?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", quote(arg)))
    }
}

/// Name, UUID and sandbox.
fn identity(machine: &Machine, context: &LaunchContext) -> Vec<Switch> {
    let confined = Switch::new("sandbox").head("on");
    let confined = defaults::SANDBOX.iter().fold(confined, |switch, (key, value)| switch.option(key, value));
    // The sandbox forbids the set-uid helper that attaches to a bridge.
    let needs_helper = machine.network.iter().any(|card| card.mode == NetworkMode::Bridge);
    let sandbox = if machine.sandbox && !needs_helper { confined } else { Switch::new("sandbox").head("off") };
    let ours = [
        Switch::new("name").option("guest", context.name.as_str()),
        Switch::new("uuid").head(&context.id.to_string()),
        sandbox,
    ];
    ours.into_iter().filter(|switch| !machine.has_switch(switch.name())).collect()
}

/// The monitors, the QMP log, the serial console and the pid file.
fn channels(machine: &Machine, paths: &RunPaths) -> Result<Vec<Switch>, PathNotUtf8> {
    let mut switches = Vec::new();
    for role in MonitorRole::ALL {
        switches.push(socket(role.name(), &paths.monitor(role))?);
        switches.push(monitor(role.name()));
    }
    let qmp_log = Switch::new("chardev").head("pipe").option("id", EVENTS_CHARDEV);
    switches.push(qmp_log.option("path", utf8(&paths.qmp_log_pipe())?));
    switches.push(monitor(EVENTS_CHARDEV));
    switches.push(Switch::verbatim("pidfile", utf8(&paths.pid_file())?));
    // Beside a `-serial`, `-nographic` leaves the serial port alone (7.2, 10.0).
    if !machine.has_switch("serial") {
        switches.extend(serial(&machine.serial, paths)?);
    }
    Ok(switches)
}

/// The log of the processors' resets, for a machine that exits on the first reset of its guest.
///
/// Nothing else tells a triple fault from another reset (7.2, 10.0; only emulated processors log it). Of a machine that
/// goes on after a reset, the log would grow for ever.
fn reset_log(machine: &Machine, context: &LaunchContext) -> Result<Vec<Switch>, PathNotUtf8> {
    let has_log = machine.has_switch("d") || machine.has_switch("D");
    if has_log || !machine.exits_on_reset() || context.accelerator != Accelerator::Tcg {
        return Ok(Vec::new());
    }
    let path = context.paths.cpu_log();
    Ok(vec![Switch::verbatim("d", "cpu_reset"), Switch::verbatim("D", utf8(&path)?)])
}

fn serial(serial: &Serial, paths: &RunPaths) -> Result<Vec<Switch>, PathNotUtf8> {
    Ok(match serial {
        Serial::None => vec![Switch::new("serial").head("none")],
        Serial::Qemu(text) => vec![Switch::verbatim("serial", text)],
        Serial::Console => {
            // Not a socket: a client that does not read would stop the guest's output, and the log with it.
            let pipe = Switch::new("chardev").head("pipe").option("id", SERIAL_CHARDEV);
            let pipe = pipe.option("path", utf8(&paths.serial_pipe())?);
            let pipe = pipe.option("logfile", utf8(&paths.serial_log())?).flag("logappend", true);
            vec![pipe, Switch::new("serial").head(&format!("chardev:{SERIAL_CHARDEV}"))]
        }
    })
}

fn socket(id: &str, path: &Path) -> Result<Switch, PathNotUtf8> {
    let switch = Switch::new("chardev").head("socket").option("id", id).option("path", utf8(path)?);
    Ok(switch.flag("server", true).flag("wait", false))
}

fn monitor(chardev: &str) -> Switch {
    Switch::new("mon").option("chardev", chardev).option("mode", "control")
}

/// Without a network in the definition, QEMU adds its default card.
fn network(machine: &Machine, context: &LaunchContext) -> Result<(Vec<Switch>, Vec<Helper>), PathNotUtf8> {
    let mut switches = Vec::new();
    let mut helpers = Vec::new();
    let reconnects = Difference::StreamReconnects.is_in(context.version);
    for (card, index) in machine.network.iter().zip(0_u8..) {
        let socket = context.paths.card_socket(index);
        let socket = utf8(&socket)?;
        switches.extend(card.switches(&context.id.bytes(), index, socket, reconnects));
        helpers.extend(card.helper(socket, context.is_root));
    }
    Ok((switches, helpers))
}

fn utf8(path: &Path) -> Result<&str, PathNotUtf8> {
    path.to_str().ok_or_else(|| PathNotUtf8 { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Node;
    use crate::machine::builtin_handlers;
    use crate::qmp::versions::TESTED;
    use crate::storage::builtin_drivers;
    use crate::vm::BootNumber;

    fn command_line(definition: &str) -> CommandLine {
        command_line_for(definition, TESTED[0])
    }

    fn command_line_for(definition: &str, version: QemuVersion) -> CommandLine {
        let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
        let definition: Node = serde_json::from_str(definition).unwrap();
        let machine = Machine::check(&definition, &handlers).unwrap();
        let context = LaunchContext {
            name: VmName::parse("web").unwrap(),
            id: "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11".parse().unwrap(),
            binary: PathBuf::from("/usr/bin/qemu-system-x86_64"),
            architecture: machine.arch.unwrap_or("x86_64").to_owned(),
            accelerator: Accelerator::Tcg,
            vm_storage: PathBuf::from("/d/storage/web"),
            paths: RunPaths::new(Path::new("/r/web"), Path::new("/s/web"), BootNumber(1)),
            uefi: Some(UefiFiles {
                code: PathBuf::from("/fw/code.fd"),
                code_format: "raw".to_owned(),
                variables: PathBuf::from("/d/storage/web/uefi-vars.qcow2"),
                requires_smm: machine.firmware.uefi().is_some_and(|uefi| uefi.secure_boot),
            }),
            file_kinds: FileKinds::default(),
            tpm: machine.tpm.then(|| Tpm { device: "tpm-crb", directory: PathBuf::from("/d/storage/web") }),
            version,
            is_root: false,
        };
        CommandLine::new(&machine, &context).unwrap()
    }

    /// Returns the argument of each `-name`.
    fn arguments_of<'a>(line: &'a CommandLine, name: &str) -> Vec<&'a str> {
        let switch = format!("-{name}");
        line.args().windows(2).filter(|pair| pair[0] == switch).map(|pair| pair[1].as_str()).collect()
    }

    #[test]
    fn test_command_line_empty_definition_gets_the_defaults() {
        let line = command_line("{}");

        assert_eq!(arguments_of(&line, "m"), ["2G"]);
        assert_eq!(arguments_of(&line, "smp"), ["1"]);
        assert_eq!(arguments_of(&line, "display"), ["none"]);
        assert_eq!(arguments_of(&line, "accel"), ["tcg"]);
        assert_eq!(arguments_of(&line, "name"), ["guest=web"]);
        assert_eq!(arguments_of(&line, "sandbox").len(), 1);
        assert_eq!(arguments_of(&line, "mon").len(), 5);
    }

    #[test]
    fn test_command_line_user_argument_replaces_the_default() {
        let line = command_line(r#"{"memory": "1G", "cpu": 4, "arguments": [{"m": 512}, {"smp": 2}]}"#);

        assert_eq!(arguments_of(&line, "m"), ["512"]);
        assert_eq!(arguments_of(&line, "smp"), ["2"]);
    }

    #[test]
    fn test_command_line_paused_has_the_switch_once() {
        let paused = |definition| command_line(definition).paused();
        let count = |line: &CommandLine| line.args().iter().filter(|arg| *arg == "-S").count();

        assert_eq!((count(&command_line("{}")), count(&paused("{}"))), (0, 1));
        assert_eq!(count(&paused(r#"{"args": ["-S"]}"#)), 1);
    }

    /// The order of the Python maqet 0.0.15; guests number devices in this order.
    #[test]
    fn test_command_line_args_are_before_arguments() {
        let line =
            command_line(r#"{"arguments": [{"device": "b"}], "args": ["-device", "a"], "storage": [{"name": "hdd"}]}"#);

        assert_eq!(
            arguments_of(&line, "device"),
            ["virtio-blk-pci,drive=hdd,id=hdd", "a", "b", "virtio-rng-pci,id=maqet-rng"]
        );
    }

    #[test]
    fn test_command_line_exit_on_reset_logs_resets() {
        for exits in [
            r#""arguments": ["no-reboot"]"#,
            r#""args": ["-no-reboot"]"#,
            r#""arguments": [{"action": {"reboot": "shutdown"}}]"#,
            r#""args": ["-action", "panic=pause,reboot=shutdown"]"#,
        ] {
            let line = command_line(&format!("{{{exits}}}"));
            assert_eq!(
                (arguments_of(&line, "d"), arguments_of(&line, "D")),
                (vec!["cpu_reset"], vec!["/s/web/boot-1/cpu.log"]),
                "{exits}"
            );
        }
        for other in
            [r#""memory": "1G""#, r#""args": ["-no-reboot", "-d", "int"]"#, r#""args": ["-action", "reboot=reset"]"#]
        {
            assert!(arguments_of(&command_line(&format!("{{{other}}}")), "D").is_empty(), "{other}");
        }
    }

    #[test]
    fn test_command_line_raw_serial_stays_the_first_one() {
        let line = command_line(r#"{"args": ["-serial", "file:/tmp/x"]}"#);

        assert_eq!(arguments_of(&line, "serial"), ["file:/tmp/x"]);
    }

    /// QEMU refuses RAM whose size differs from that of its backend.
    #[test]
    fn test_command_line_shared_memory_has_the_size_of_ram() {
        for (rest, size) in [
            (r#""memory": "1G""#, "1G"),
            (r#""memory": "1G", "arguments": [{"m": 512}]"#, "512M"),
            (r#""arguments": [{"m": {"size": "0.3G", "slots": 2}}]"#, "314576K"),
            (r#""args": ["-m", "slots=2,maxmem=8G,size=768M"]"#, "768M"),
            (r#""memory": "1G", "args": ["--m", "slots=2,maxmem=8G"]"#, "1G"),
        ] {
            let share = r#"{"name": "s", "type": "virtiofs", "socket": "/r/s"}"#;
            let line = command_line(&format!(r#"{{"storage": [{share}], {rest}}}"#));

            let expected = format!("memory-backend-memfd,id=shared-memory,size={size},share=on");
            assert_eq!(arguments_of(&line, "object"), [expected], "{rest}");
        }
    }

    /// `-m` reads a bare number as MiB; QEMU rounds up to 8 KiB.
    #[test]
    fn test_command_line_memory_of_odd_size_has_a_unit() {
        assert_eq!(arguments_of(&command_line(r#"{"memory": "1048577B"}"#), "m"), ["1032K"]);
    }

    #[test]
    fn test_command_line_disk_without_path_is_in_the_vm_folder() {
        let line = command_line(r#"{"storage": [{"name": "hdd"}]}"#);

        assert!(arguments_of(&line, "blockdev")[0].contains("filename=/d/storage/web/hdd.qcow2"));
        assert_eq!(arguments_of(&line, "device")[0], "virtio-blk-pci,drive=hdd,id=hdd");
    }

    #[test]
    fn test_command_line_snapshot_drive_is_an_overlay() {
        let line =
            command_line(r#"{"storage": [{"name": "hdd", "type": "raw", "file": "/d/a.raw", "snapshot": true}]}"#);

        let overlay = "driver=file,node-name=hdd-file,filename=/s/web/boot-1/overlays/hdd.qcow2";
        assert_eq!(arguments_of(&line, "blockdev"), [overlay, "driver=qcow2,node-name=hdd,file=hdd-file"]);
        assert!(!line.to_string().contains("/d/a.raw"), "{line}");
    }

    #[test]
    fn test_command_line_two_scsi_disks_share_one_controller() {
        let line =
            command_line(r#"{"storage": [{"name": "a", "interface": "scsi"}, {"name": "b", "interface": "scsi"}]}"#);

        let controllers =
            arguments_of(&line, "device").into_iter().filter(|d| d.starts_with("virtio-scsi-pci")).count();
        assert_eq!(controllers, 1);
    }

    #[test]
    fn test_command_line_keys_become_their_switches() {
        let line = command_line(
            r#"{"machine": {"type": "q35", "usb": true}, "cpu_model": "max,+aes", "boot": "c", "serial": "none",
                "sandbox": false, "network": {"forward": ["2222:22", "0:80"]}, "hotplug_ports": 0}"#,
        );

        assert_eq!(arguments_of(&line, "machine"), ["type=q35,usb=on"]);
        assert_eq!(arguments_of(&line, "cpu"), ["max,+aes"]);
        assert_eq!(arguments_of(&line, "boot"), ["c"]);
        assert_eq!(arguments_of(&line, "serial"), ["none"]);
        assert_eq!(arguments_of(&line, "sandbox"), ["off"]);
        let expected = "user,id=net0,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=tcp:127.0.0.1:0-:80";
        assert_eq!(arguments_of(&line, "netdev"), [expected]);
        assert_eq!(arguments_of(&line, "device")[0], "virtio-net-pci,netdev=net0,id=net0-card,mac=52:54:00:0d:9f:2a");
    }

    #[test]
    fn test_command_line_network_none_has_no_card() {
        let line = command_line(r#"{"network": "none"}"#);

        assert_eq!(arguments_of(&line, "nic"), ["none"]);
    }

    #[test]
    fn test_command_line_passt_is_a_helper_and_a_stream() {
        let line =
            command_line(r#"{"network": [{}, {"mode": "passt", "forward": ["2222:22", "udp:0.0.0.0:53:5353"]}]}"#);

        let helper = "passt --one-off --quiet --socket /r/web/b1/card-1.sock --tcp-ports 127.0.0.1/2222:22 \
                      --udp-ports 0.0.0.0/53:5353";
        let netdevs = arguments_of(&line, "netdev");
        assert_eq!(netdevs[1], "stream,id=net1,server=off,addr.type=unix,addr.path=/r/web/b1/card-1.sock");
        assert_eq!(line.helpers().iter().map(ToString::to_string).collect::<Vec<_>>(), [helper]);
        assert!(line.to_string().starts_with(&format!("{helper} && /usr/bin/qemu-system-x86_64 ")), "{line}");
    }

    #[test]
    fn test_command_line_links_between_vms_are_netdevs() {
        let definition = r#"{"network": [
            {"mode": "stream", "listen": "/run/lab,1.sock", "bootindex": 1},
            {"mode": "stream", "connect": "[::1]:4000"},
            {"mode": "dgram", "remote": "230.0.0.1:1234"},
            {"mode": "dgram", "local": "/run/a", "remote": "/run/b"},
            {"restrict": true, "subnet": "192.168.76.0/24", "forward": ["2222:22"]}
        ]}"#;
        let line = command_line(definition);

        let reconnected = "stream,id=net1,server=off,addr.type=inet,addr.host=::1,addr.port=4000";
        let expected = [
            "stream,id=net0,server=on,addr.type=unix,addr.path=/run/lab,,1.sock",
            reconnected,
            "dgram,id=net2,remote.type=inet,remote.host=230.0.0.1,remote.port=1234",
            "dgram,id=net3,remote.type=unix,remote.path=/run/b,local.type=unix,local.path=/run/a",
            "user,id=net4,net=192.168.76.0/24,restrict=on,hostfwd=tcp:127.0.0.1:2222-:22",
        ];
        assert_eq!(arguments_of(&line, "netdev"), expected);
        assert!(arguments_of(&line, "device")[0].ends_with("id=net0-card,mac=52:54:00:0d:9f:2a,bootindex=1"));
        let newer = command_line_for(definition, TESTED[1]);
        assert_eq!(arguments_of(&newer, "netdev")[1], format!("{reconnected},reconnect-ms=1000"));
    }

    #[test]
    fn test_command_line_uefi_is_two_flash_nodes() {
        let line = command_line(r#"{"firmware": "uefi"}"#);

        assert_eq!(arguments_of(&line, "machine"), ["pflash0=uefi-code,pflash1=uefi-vars"]);
        assert!(arguments_of(&line, "blockdev").contains(&"driver=qcow2,node-name=uefi-vars,file=uefi-vars-file"));
        assert!(arguments_of(&line, "global").is_empty());
    }

    #[test]
    fn test_command_line_secure_boot_protects_the_variables() {
        let line = command_line(r#"{"machine": "q35", "firmware": {"type": "uefi", "secure_boot": true}}"#);

        assert_eq!(arguments_of(&line, "machine"), ["q35", "pflash0=uefi-code,pflash1=uefi-vars,smm=on"]);
        assert_eq!(arguments_of(&line, "global"), ["driver=cfi.pflash01,property=secure,value=on"]);
    }

    #[test]
    fn test_command_line_cpu_map_is_a_topology() {
        let line = command_line(r#"{"cpu": {"cores": 2, "threads": 2}}"#);

        assert_eq!(arguments_of(&line, "smp"), ["4,sockets=1,cores=2,threads=2"]);
    }

    #[test]
    fn test_command_line_arm_and_riscv_have_defaults_that_work() {
        let cd = r#""storage": [{"name": "cd", "type": "iso", "file": "/cd.iso"}]"#;
        let line = |rest: &str| command_line(&format!("{{{rest}, {cd}}}"));
        let of = |rest: &str| {
            let line = line(rest);
            let all = |name| arguments_of(&line, name).join(" ");
            (all("machine"), all("cpu"), all("device"))
        };
        let scsi = "virtio-scsi-pci,id=scsi scsi-cd,bus=scsi.0,drive=cd,id=cd";
        let expected = |machine: &str, cpu: &str, device: &str| (machine.to_owned(), cpu.to_owned(), device.to_owned());

        assert_eq!(of(r#""arch": "aarch64""#), expected("virt", "max", scsi));
        assert_eq!(of(r#""arch": "riscv64""#), expected("virt", "", scsi));
        assert_eq!(
            of(r#""arch": "aarch64", "machine": {"gic-version": 3}, "cpu_model": "cortex-a72""#),
            expected("virt gic-version=3", "cortex-a72", scsi)
        );
        assert_eq!(of(r#""arch": "aarch64", "machine": "virt-7.2""#), expected("virt-7.2", "max", scsi));
        let ide = "ide-cd,bus=ide.0,unit=0,drive=cd,id=cd";
        assert_eq!(of(r#""machine": "pc""#), expected("pc", "", ide));
        assert_eq!(of(r#""machine": "microvm""#).2, scsi);
    }

    #[test]
    fn test_command_line_tpm_is_a_helper_and_a_device() {
        let line = command_line(r#"{"tpm": true}"#);

        let helper = "mkdir -p -m 700 /d/storage/web && swtpm socket --tpm2 --tpmstate dir=/d/storage/web,mode=0600 \
                      --ctrl type=unixio,path=/r/web/b1/tpm.sock,mode=0600 --terminate --daemon";
        assert_eq!(line.helpers().iter().map(ToString::to_string).collect::<Vec<_>>(), [helper]);
        assert_eq!(arguments_of(&line, "tpmdev"), ["emulator,id=tpm,chardev=tpm"]);
        assert_eq!(arguments_of(&line, "device")[0], "tpm-crb,tpmdev=tpm");
        assert!(arguments_of(&line, "chardev").contains(&"socket,id=tpm,path=/r/web/b1/tpm.sock"));
    }

    #[test]
    fn test_command_line_display_is_a_shell_command() {
        let line = command_line(r#"{"arguments": [{"append": "a b 'c'"}], "rng": false}"#);

        assert!(line.to_string().ends_with(r"-append 'a b '\''c'\'''"), "{line}");
    }
}
