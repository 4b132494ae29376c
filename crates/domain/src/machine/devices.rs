//! Optional devices of a machine: random numbers, memory balloon, watchdog, panics, USB and sound.

mod sound;
#[cfg(test)]
mod tests;
mod usb;

pub use self::sound::{AudioBackend, Sound, SoundModel};
pub use self::usb::{InvalidUsbDevice, MAX_USB_DEVICES, UsbDevice};

use std::borrow::Cow;
use std::path::Path;

use super::Machine;
use super::bus::Bus;
use crate::config::{Diagnostics, KeyPath, Node};
use crate::qemu::{Switch, option_value};

/// The id of the USB controller; that of a device follows from it by its position.
pub const USB_CONTROLLER: &str = "maqet-usb";

/// With more devices than this, the default device is left out (the bus has 28 free slots on `pc` and `q35`, 7.2).
const MAX_DEVICES: usize = 24;

/// The optional devices of a definition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices {
    /// Whether the guest has a source of random numbers; where the machine has a bus for it if `None`.
    pub rng: Option<bool>,
    /// Whether the guest can give memory back.
    pub balloon: bool,
    /// The watchdog, if any.
    pub watchdog: Option<Watchdog>,
    /// Whether the guest can report a panic, and what then happens.
    pub panic: Option<PanicDevice>,
    /// USB devices of the host and of QEMU.
    pub usb: Vec<UsbDevice>,
    /// The sound card, if any.
    pub sound: Option<Sound>,
}

/// A watchdog.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Watchdog {
    /// Its model; that of the machine's bus if `None`.
    pub model: Option<WatchdogModel>,
    /// What happens when it expires; a reset if `None`, QEMU's default.
    pub action: Option<WatchdogAction>,
}

/// The device that waits for a sign of life from the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum WatchdogModel {
    /// A PCI device of Intel.
    I6300esb,
    /// A device of PCs with an ISA bus.
    Ib700,
    /// The one in the chipset of `q35`.
    Itco,
    /// The one of IBM mainframes.
    Diag288,
}

/// What happens when a watchdog expires, by QEMU's names (`-action watchdog=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum WatchdogAction {
    /// The VM is reset.
    Reset,
    /// The guest is asked to power off.
    Shutdown,
    /// The VM is powered off.
    Poweroff,
    /// The VM is paused.
    Pause,
    /// The guest gets an NMI.
    InjectNmi,
    /// Only an event.
    None,
}

/// The device by which a guest reports a panic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PanicDevice {
    /// What happens then; QEMU's default, a shutdown, if `None`.
    pub action: Option<PanicAction>,
}

/// What happens when a guest panics, by QEMU's names (`-action panic=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum PanicAction {
    /// QEMU exits.
    Shutdown,
    /// The VM is paused.
    Pause,
    /// QEMU exits with an error.
    ExitFailure,
    /// Only an event.
    None,
}

impl Machine {
    /// Returns the switches of USB devices; before those of the user, who may add devices to the controller.
    pub(crate) fn usb_switches(&self) -> Vec<Switch> {
        let needs_controller = !self.devices.usb.is_empty() || self.devices.sound.is_some_and(Sound::is_usb);
        // Each port takes a device of either speed.
        let ports = usb::MAX_PORTS.to_string();
        let controller = device("qemu-xhci", USB_CONTROLLER).option("p2", &ports).option("p3", &ports);
        let devices = self.devices.usb.iter().zip(0..).map(|(one, index)| one.switch(index));
        needs_controller.then_some(controller).into_iter().chain(devices).collect()
    }

    /// Returns the switches of the other devices.
    ///
    /// They come after those of the user: a device that is added does not change the addresses of those before it.
    pub(crate) fn device_switches(&self, architecture: &str, binary: &Path) -> Vec<Switch> {
        let bus = self.bus(architecture, binary);
        let devices = &self.devices;
        let mut switches = devices.sound.map(|sound| sound.switches(self.is_q35())).unwrap_or_default();
        switches.extend(devices.watchdog.map(|watchdog| watchdog.switches(bus)).unwrap_or_default());
        if let Some(panic) = devices.panic {
            switches.push(device(if self.is_pc(architecture) { "pvpanic" } else { "pvpanic-pci" }, "maqet-panic"));
            switches.extend(panic.action.map(|action| action_of("panic", action.into())));
        }
        if devices.balloon {
            switches.push(device(&bus.unwrap_or(Bus::Pci).virtio("balloon"), "maqet-balloon"));
        }
        switches.extend(self.rng_bus(bus).map(|bus| device(&bus.virtio("rng"), "maqet-rng")));
        switches
    }

    /// Returns the ids of the optional devices that the machine has, or may have.
    pub(super) fn device_ids(&self) -> Vec<String> {
        let switches = self.usb_switches().into_iter().chain(self.device_switches("x86_64", Path::new("qemu")));
        let id = |switch: Switch| {
            let argument = switch.argument().filter(|_| switch.name() == "device")?;
            option_value(argument, "id").map(Cow::into_owned)
        };
        switches.filter_map(id).collect()
    }

    /// Returns the bus of the source of random numbers, if there is one.
    ///
    /// Its backend is QEMU's own, which needs no file and follows `-seed`.
    fn rng_bus(&self, bus: Option<Bus>) -> Option<Bus> {
        match self.devices.rng {
            Some(true) => Some(bus.unwrap_or(Bus::Pci)),
            Some(false) => None,
            None if self.has_switch("nodefaults") || self.has_rng() || self.bus_devices() > MAX_DEVICES => None,
            None => bus,
        }
    }

    /// Returns whether the user has added a source of random numbers.
    fn has_rng(&self) -> bool {
        self.device_texts().any(|text| text.contains("virtio-rng"))
    }

    /// Returns the number of devices that may be on the root bus.
    fn bus_devices(&self) -> usize {
        let shares = self.storage.iter().filter(|storage| storage.driver.image_format().is_none()).count();
        let Devices { rng: _, balloon, watchdog, panic, usb, sound } = &self.devices;
        let own = [*balloon, watchdog.is_some(), panic.is_some(), !usb.is_empty(), sound.is_some()];
        // Two are the controllers of drives.
        self.devices() + shares + own.into_iter().filter(|has| *has).count() + 2
    }

    /// Reports a watchdog that the machine type does not have.
    pub(super) fn check_devices(&self, definition: &Node, report: &mut Diagnostics) {
        let model = self.devices.watchdog.and_then(|watchdog| watchdog.model);
        if model == Some(WatchdogModel::Itco)
            && !self.is_q35()
            && let Some(node) = definition.get("watchdog")
        {
            let help = Some("set `machine: q35`, or `model: i6300esb`".to_owned());
            let at = KeyPath::top("watchdog").key("model");
            report.error_with_help(&at, node.get("model").unwrap_or(node), "only `q35` machines have `itco`", help);
        }
    }
}

impl Watchdog {
    fn switches(self, bus: Option<Bus>) -> Vec<Switch> {
        let model = self.model.unwrap_or(match bus {
            Some(Bus::Pci) | None => WatchdogModel::I6300esb,
            Some(Bus::Mmio) => WatchdogModel::Ib700,
            Some(Bus::Ccw) => WatchdogModel::Diag288,
        });
        let switch = match model {
            // It is there, and without an effect on the VM (machine types before 8.0).
            WatchdogModel::Itco => Switch::verbatim("global", "ICH9-LPC.noreboot=off"),
            model => device(model.into(), "maqet-watchdog"),
        };
        let action = self.action.map(|action| action_of("watchdog", action.into()));
        std::iter::once(switch).chain(action).collect()
    }
}

/// Returns `-device` with an id of maqet.
fn device(driver: &str, id: &str) -> Switch {
    Switch::new("device").head(driver).option("id", id)
}

/// Returns `-action`, of which QEMU takes several.
fn action_of(event: &str, action: &str) -> Switch {
    Switch::new("action").option(event, action)
}
