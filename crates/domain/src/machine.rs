//! The checked description of a machine, and the configuration keys it is read from.

mod boot_order;
mod bus;
mod channels;
#[cfg(test)]
mod combinations;
mod cpus;
pub mod defaults;
mod devices;
mod firmware;
mod flash;
mod handler;
#[cfg(test)]
mod key_limits;
mod keys;
mod memory_backend;
mod numa;
mod ports;
mod ram;
#[cfg(test)]
mod reading;
mod secrets;
mod seed;
mod switch_argument;
mod switches;
mod tap_devices;
mod throw_away;
mod tpm;
mod used_files;
mod user_images;
mod written_files;

pub use self::cpus::Cpus;
pub(crate) use self::devices::GENERATION_ID;
pub use self::devices::{
    AudioBackend, Devices, InvalidUsbDevice, MAX_USB_DEVICES, PanicAction, PanicDevice, Sound, SoundModel,
    USB_CONTROLLER, UsbDevice, Watchdog, WatchdogAction, WatchdogModel, models_of,
};
pub use self::firmware::{Firmware, UefiOptions};
pub use self::flash::{FirmwareImage, LayoutConflict, binary_architecture, is_bios_size, is_uefi_code_size};
pub use self::handler::{ConfigHandler, KeyDoc};
pub use self::keys::{SINGLE_ARGUMENTS, builtin_handlers};
pub(crate) use self::memory_backend::{SHARED_MEMORY, SharedMemory};
pub use self::numa::NumaNode;
pub use self::ports::{MAX_PORTS, PORT_PREFIX};
pub use self::secrets::{HIDDEN, without_secrets, without_secrets_at};
pub use self::switch_argument::SwitchArgument;
pub use self::switches::{
    MACHINE_FLAGS, MachineFlag, RawItem, RawSwitch, SWITCHES, Treatment, raw_items, raw_switches,
};
pub use self::tap_devices::TapUse;
pub use self::tpm::tpm_device;
pub use self::used_files::{FileAccess, UsedFile};
pub use self::user_images::UserImage;
pub use self::written_files::{WrittenAs, WrittenFile, files_used_otherwise};

use std::collections::HashMap;

use strum::VariantArray;

use crate::config::{Diagnostics, KeyPath, Node, Problem};
use crate::first_boot::{Credentials, Seed, SshAccess};
use crate::hook::Hook;
use crate::network::NetworkSpec;
use crate::qemu::{OptionString, Switch, option_parts, option_value};
use crate::registry::Registry;
use crate::size::ByteSize;
use crate::storage::{Interface, StorageSpec};

/// The accelerator of a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum AccelChoice {
    /// KVM if it works, else TCG.
    Auto,
    /// KVM; starting fails without it.
    Kvm,
    /// Software emulation.
    Tcg,
}

/// The first serial port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Serial {
    /// A socket, and a log of all output.
    Console,
    /// Not connected.
    None,
    /// This argument of `-serial`.
    Qemu(String),
}

/// A checked machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// QEMU's binary: a path, or a name to find in PATH; `None` for the one of the architecture.
    pub binary: Option<String>,
    /// The guest's architecture; `None` for that of the host.
    pub arch: Option<&'static str>,
    /// `-machine`, if set.
    pub machine_type: Option<Switch>,
    /// The number of spare ports for hot-plugged devices, if set.
    pub hotplug_ports: Option<u8>,
    /// The accelerator.
    pub accel: AccelChoice,
    /// The argument of `-cpu`, if any.
    pub cpu_model: Option<String>,
    /// The firmware.
    pub firmware: Firmware,
    /// Whether it has a TPM.
    pub tpm: bool,
    /// `-boot`, if set.
    pub boot: Option<Switch>,
    /// RAM.
    pub memory: ByteSize,
    /// The CPUs.
    pub cpu: Cpus,
    /// NUMA nodes; none without the key `numa`.
    pub numa: Vec<NumaNode>,
    /// The argument of `-display`.
    pub display: String,
    /// The argument of `-vga`, if any.
    pub vga: Option<String>,
    /// Drives, in order.
    pub storage: Vec<StorageSpec>,
    /// Network cards, in order; if empty, QEMU adds one with `user`.
    pub network: Vec<NetworkSpec>,
    /// Optional devices.
    pub devices: Devices,
    /// Whether it has channels to its guest; where it has a bus for them if `None`.
    pub agent: Option<bool>,
    /// What its guest is set up with, if anything.
    pub seed: Option<Seed>,
    /// What its services take at its boot.
    pub credentials: Credentials,
    /// How its user logs in by SSH.
    pub ssh: SshAccess,
    /// The first serial port.
    pub serial: Serial,
    /// Whether QEMU runs in its sandbox.
    pub sandbox: bool,
    /// The user's labels.
    pub labels: Vec<(String, String)>,
    /// Programs to run on events of the VM.
    pub hooks: Vec<Hook>,
    /// Switches of keys that are not built in.
    pub switches: Vec<Switch>,
    /// The user's switches under `arguments`, in order.
    pub arguments: Vec<Switch>,
    /// The user's raw arguments under `args`.
    pub args: Vec<String>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            binary: None,
            arch: None,
            machine_type: None,
            hotplug_ports: None,
            accel: AccelChoice::Auto,
            cpu_model: None,
            firmware: Firmware::Default,
            tpm: false,
            boot: None,
            memory: defaults::MEMORY,
            cpu: Cpus::Count(defaults::CPU),
            numa: Vec::new(),
            display: defaults::DISPLAY.to_owned(),
            vga: None,
            storage: Vec::new(),
            network: Vec::new(),
            devices: Devices::default(),
            agent: None,
            seed: None,
            credentials: Credentials::default(),
            ssh: SshAccess::default(),
            serial: Serial::Console,
            sandbox: true,
            labels: Vec::new(),
            hooks: Vec::new(),
            switches: Vec::new(),
            arguments: Vec::new(),
            args: Vec::new(),
        }
    }
}

impl Machine {
    /// Checks a definition and returns the machine, or all problems.
    pub fn check(definition: &Node, handlers: &Registry<dyn ConfigHandler>) -> Result<Self, Vec<Problem>> {
        let (machine, problems) = Self::read(definition, handlers);
        if problems.is_empty() { Ok(machine) } else { Err(problems) }
    }

    /// Reads as much of a definition as possible, and returns the problems with the rest.
    ///
    /// A drive with problems is included with placeholders, so that its path can be checked: unless there are no
    /// problems, the machine is not to be run.
    pub fn read(definition: &Node, handlers: &Registry<dyn ConfigHandler>) -> (Self, Vec<Problem>) {
        let mut machine = Self::default();
        let mut report = Diagnostics::default();

        let entries = report.map(&KeyPath::default(), definition).unwrap_or_default();
        for (key, node) in entries {
            let path = KeyPath::top(key);
            match handlers.get(key) {
                Some(handler) if !node.is_null() => handler.apply(&path, node, &mut machine, &mut report),
                Some(_) => {}
                None => report.unknown_key(&path, node, &handlers.names()),
            }
        }
        machine.leave_out_raw(definition);
        machine.check_slots(definition, &mut report);
        machine.check_ports(definition, &mut report);
        machine.check_devices(definition, &mut report);
        machine.check_boot_order(definition, &mut report);
        machine.check_ram(definition, &mut report);
        machine.check_numa(definition, &mut report);
        machine.check_switches(definition, &mut report);
        machine.check_firmware(definition, &mut report);
        (machine, report.into_problems())
    }

    /// Returns whether QEMU exits when the guest resets: `-no-reboot`, or `-action reboot=shutdown`.
    pub fn exits_on_reset(&self) -> bool {
        let is_shutdown = |action: OptionString| action.get("reboot") == Some("shutdown");
        self.has_switch("no-reboot") || self.user_options("action").any(is_shutdown)
    }

    /// Returns the setting that redirects the first serial port away from the socket and log of the run, if any.
    pub fn serial_redirection(&self) -> Option<String> {
        match &self.serial {
            _ if self.has_switch("serial") => Some("-serial".to_owned()),
            Serial::None => Some("serial: none".to_owned()),
            Serial::Qemu(text) => Some(format!("serial: {text}")),
            Serial::Console => None,
        }
    }

    /// Returns the machine type for this architecture, if it is set or QEMU's default is not used.
    pub fn kind_on(&self, architecture: &str) -> Option<&str> {
        self.kind().or_else(|| defaults::machine_type(architecture))
    }

    /// Returns whether the machine for this architecture has no IDE bus.
    pub fn lacks_ide(&self, architecture: &str) -> bool {
        self.kind_on(architecture)
            .is_some_and(|kind| matches!(kind, "virt" | "microvm" | "sbsa-ref") || kind.starts_with("virt-"))
    }

    /// Returns whether the machine type is a `q35`; QEMU's own default (7.2) is `pc`.
    pub fn is_q35(&self) -> bool {
        self.kind().is_some_and(|kind| kind == "q35" || kind.starts_with("pc-q35"))
    }

    /// Returns the arguments of `-machine`: that of the key unless it has another type, then those of the user. QEMU
    /// merges them.
    fn machine_arguments(&self) -> impl DoubleEndedIterator<Item = &str> {
        let own = self.machine_switch().and_then(Switch::argument);
        own.into_iter().chain(self.user_arguments("machine"))
    }

    /// Returns `-machine` of the key, unless both it and the user's switches set the type.
    pub(crate) fn machine_switch(&self) -> Option<&Switch> {
        self.unreplaced(self.machine_type.as_ref()?)
    }

    /// Returns `-boot` of the key, unless both it and the user's switches set the order.
    pub(crate) fn boot_switch(&self) -> Option<&Switch> {
        self.unreplaced(self.boot.as_ref()?)
    }

    /// Returns a switch that QEMU merges with those of the user, unless both have the value whose key can be left out.
    fn unreplaced<'s>(&self, own: &'s Switch) -> Option<&'s Switch> {
        let has_head = |argument: &str| !OptionString::parse(own.name(), argument).head().is_empty();
        let is_replaced = has_head(own.argument()?) && self.user_arguments(own.name()).any(has_head);
        Some(own).filter(|_| !is_replaced)
    }

    /// Returns whether `-machine` sets the accelerator, which excludes `-accel`.
    pub fn chooses_accelerator(&self) -> bool {
        self.machine_arguments().any(|argument| option_value(argument, "accel").is_some())
    }

    /// Returns the machine type, if set.
    pub fn kind(&self) -> Option<&str> {
        self.machine_arguments().filter_map(machine_type).next_back()
    }

    /// Reports the first drive of each interface that exceeds its limit.
    fn check_slots(&self, definition: &Node, report: &mut Diagnostics) {
        let entries = definition.get("storage").map(Node::items).unwrap_or_default();
        for interface in Interface::VARIANTS {
            let Some(max) = interface.max_drives(self.is_q35()) else {
                continue;
            };
            // Each controller has its own ports.
            let mut counts: HashMap<Option<&str>, usize> = HashMap::new();
            let mut first = None;
            for storage in self.storage.iter().filter(|storage| storage.interface == *interface) {
                let count = counts.entry(storage.controller_id()).or_default();
                *count += 1;
                if *count == max + 1 {
                    first = first.or(Some(storage));
                }
            }
            if let Some(StorageSpec { index, .. }) = first {
                let node = entries.get(*index).unwrap_or(definition);
                let count = counts.values().max().copied().unwrap_or_default();
                let message = format!("too many drives with `interface: {interface}`: {count}, the limit is {max}");
                let help = Some("use `interface: scsi`, which supports 256 drives".to_owned()).filter(|_| max < 256);
                report.error_with_help(&KeyPath::top("storage").index(*index), node, message, help);
            }
        }
    }

    /// Returns the drive with this name.
    pub fn drive(&self, name: &str) -> Option<&StorageSpec> {
        self.storage.iter().find(|storage| storage.name.as_str() == name)
    }
}

/// Returns the type in an argument of `-machine`.
pub fn machine_type(argument: &str) -> Option<&str> {
    let parts = option_parts(argument).enumerate();
    let types = parts.filter(|(index, part)| part.key == Some("type") || (part.key.is_none() && *index == 0));
    types.last().map(|(_, part)| part.as_written())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_serial_redirection_names_the_setting() {
        let console = Machine::default();
        let none = Machine { serial: Serial::None, ..Machine::default() };
        let file = Machine { serial: Serial::Qemu("file:/x".to_owned()), ..Machine::default() };
        let by_switch = Machine { args: vec!["-serial".to_owned(), "pty".to_owned()], ..Machine::default() };

        let redirections = [console, none, file, by_switch].map(|machine| machine.serial_redirection());

        let expected = [None, Some("serial: none"), Some("serial: file:/x"), Some("-serial")];
        assert_eq!(redirections.each_ref().map(Option::as_deref), expected);
    }
}
