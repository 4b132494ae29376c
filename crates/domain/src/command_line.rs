//! QEMU's command line, computed from a machine.

mod credentials;
mod firmware;
mod guest;
mod hardware;
mod image_server;
mod resuming;
mod seed;
mod setup_commands;
mod storage;
#[cfg(test)]
mod tests;
mod tpm;

pub use self::firmware::{UefiFiles, uefi_variables_nodes};
pub use self::resuming::{MappedMemory, without_resuming};
pub use self::setup_commands::{copy_setup_commands, image_setup_commands, overlay_setup_commands, run_setup_commands};
pub use self::tpm::{TPM_CHARDEV, TPM_LOCK_FILE, TPM_STATE_FILE, Tpm};

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Explain, Explanation, Fault};
use crate::first_boot::PassedCredential;
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
    /// The credentials of the guest.
    pub credentials: Vec<PassedCredential>,
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
        switches.extend(credentials::switches(context)?);
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
        let mut last = machine.device_switches(&context.architecture, &context.binary);
        last.extend(guest::switches(machine, context)?);
        last.extend(seed::switches(machine, context)?);

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

    /// Returns this command line for a QEMU that takes a running guest over from another one, once its state was loaded.
    #[must_use]
    pub fn taking_over(mut self, machine_type: &str) -> Self {
        self.args.extend(Self::takeover(machine_type));
        self
    }

    /// Returns the arguments of a QEMU without those by which it took a running guest over.
    pub fn without_takeover<'a>(args: &'a [String], machine_type: &str) -> &'a [String] {
        args.strip_suffix(Self::takeover(machine_type).as_slice()).unwrap_or(args)
    }

    /// The machine type is that of the other QEMU, whatever the definition stands for in this one.
    fn takeover(machine_type: &str) -> Vec<String> {
        // QEMU merges it with the others.
        let machine = Switch::new("machine").option("type", machine_type);
        let incoming = Switch::new("incoming").head("defer");
        [machine, incoming].iter().flat_map(Switch::args).chain(["-S".to_owned()]).collect()
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
