//! Optional devices of a machine: random numbers, generation ID, memory balloon, watchdog, panics, USB and sound.

mod own;
mod sound;
#[cfg(test)]
mod tests;
mod usb;

pub use self::sound::{AudioBackend, Sound, SoundModel};
pub use self::usb::{InvalidUsbDevice, MAX_USB_DEVICES, UsbDevice};

use std::path::Path;

use strum::VariantNames;

use self::own::OwnDevice;
use super::Machine;
use super::bus::Bus;
use crate::config::{Diagnostics, KeyPath, Node};
use crate::qemu::{OptionString, Switch};

/// The id of the USB controller; that of a device follows from it by its position.
pub const USB_CONTROLLER: &str = "maqet-usb";

/// The ID of the device with the generation ID.
pub(crate) const GENERATION_ID: &str = "maqet-vmgenid";

/// The optional devices of a definition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices {
    /// Whether the guest has a source of random numbers; where the machine has a bus for it if `None`.
    pub rng: Option<bool>,
    /// Whether the guest notices that it is a copy; where the machine has a place for it if `None`.
    pub generation_id: Option<bool>,
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

impl Devices {
    /// Returns whether they need a USB controller.
    fn has_usb_controller(&self) -> bool {
        !self.usb.is_empty() || self.sound.is_some_and(Sound::is_usb)
    }

    /// Returns how many of them may have a slot of the machine's bus, without the source of random numbers; a generation ID
    /// has none.
    pub(super) fn slots(&self) -> usize {
        let Self { rng: _, generation_id: _, balloon, watchdog, panic, usb: _, sound } = self;
        let sound = sound.is_some_and(|sound| !sound.is_usb());
        let own = [*balloon, watchdog.is_some(), panic.is_some(), self.has_usb_controller(), sound];
        own.into_iter().filter(|has| *has).count()
    }
}

impl Machine {
    /// Returns the switches of USB devices for the user's own, which come after them; see [`Self::device_switches`].
    pub(crate) fn usb_switches(&self) -> Vec<Switch> {
        if !self.has_usb_device() {
            return Vec::new();
        }
        self.usb_devices().into_iter().map(OwnDevice::before_others).collect()
    }

    /// Returns the switches of the other devices, which QEMU creates after those of the user and all drives.
    ///
    /// A device that is added does not change the addresses of those before it. The USB controller is among them unless
    /// the user adds USB devices, which need one that is there already.
    pub(crate) fn device_switches(&self, architecture: &str, binary: &Path) -> Vec<Switch> {
        let bus = self.bus(architecture, binary);
        let devices = &self.devices;
        let usb = if self.has_usb_device() { Vec::new() } else { self.usb_devices() };
        let mut switches: Vec<Switch> = usb.into_iter().map(OwnDevice::last).collect();
        switches.extend(devices.sound.map(|sound| sound.switches(self.is_q35())).unwrap_or_default());
        switches.extend(devices.watchdog.map(|watchdog| watchdog.switches(bus)).unwrap_or_default());
        if let Some(panic) = devices.panic {
            let driver = if self.is_pc(architecture) { "pvpanic" } else { "pvpanic-pci" };
            switches.push(OwnDevice::new(driver, "maqet-panic").last());
            switches.extend(panic.action.map(|action| action_of("panic", action.into())));
        }
        if devices.balloon {
            switches.push(OwnDevice::new(&bus.unwrap_or(Bus::Pci).virtio("balloon"), "maqet-balloon").last());
        }
        if self.adds_generation_id(architecture) {
            switches.push(OwnDevice::new("vmgenid", GENERATION_ID).option("guid", "auto").last());
        }
        switches.extend(self.rng_bus(bus).map(|bus| OwnDevice::new(&bus.virtio("rng"), "maqet-rng").last()));
        switches
    }

    /// Returns the USB controller, if one is needed, and the USB devices.
    fn usb_devices(&self) -> Vec<OwnDevice> {
        // Each port takes a device of either speed.
        let controller = OwnDevice::new("qemu-xhci", USB_CONTROLLER);
        let controller = controller.option("p2", usb::MAX_PORTS).option("p3", usb::MAX_PORTS);
        let devices = self.devices.usb.iter().zip(0..).map(|(one, index)| one.device(index));
        self.devices.has_usb_controller().then_some(controller).into_iter().chain(devices).collect()
    }

    /// Returns whether the user adds a device that may be on the USB controller.
    fn has_usb_device(&self) -> bool {
        let is_usb = |driver: &str| ["usb", "u2f-", "canokey"].iter().any(|part| driver.contains(part));
        self.device_texts()
            .map(|text| OptionString::parse("device", text))
            .any(|device| is_usb(device.head()) || device.get("bus").is_some_and(|bus| bus.starts_with(USB_CONTROLLER)))
    }

    /// Returns the bus of the source of random numbers, if there is one.
    ///
    /// Its backend is QEMU's own, which needs no file and follows `-seed`.
    fn rng_bus(&self, bus: Option<Bus>) -> Option<Bus> {
        match self.devices.rng {
            Some(true) => Some(bus.unwrap_or(Bus::Pci)),
            Some(false) => None,
            None if self.has_switch("nodefaults") || self.has_rng() => None,
            None => bus.filter(|bus| self.has_free_slot(*bus)),
        }
    }

    /// Returns whether the user has added a source of random numbers.
    fn has_rng(&self) -> bool {
        self.device_texts().any(|text| OptionString::parse("device", text).head().contains("virtio-rng"))
    }

    /// Returns whether a generation ID is added; QEMU refuses a second one.
    fn adds_generation_id(&self, architecture: &str) -> bool {
        let is_own = |text: &str| OptionString::parse("device", text).head() == "vmgenid";
        self.devices.generation_id.unwrap_or_else(|| {
            let is_taken = self.has_switch("nodefaults") || self.device_texts().any(is_own);
            self.has_generation_id(architecture) && !is_taken
        })
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
            model => OwnDevice::new(model.into(), WATCHDOG_ID).last(),
        };
        let action = self.action.map(|action| action_of("watchdog", action.into()));
        std::iter::once(switch).chain(action).collect()
    }
}

/// The ID of the watchdog.
const WATCHDOG_ID: &str = "maqet-watchdog";

/// Returns the key that adds the device with this ID, and its models whose drivers `has_driver` has.
pub fn models_of(id: &str, has_driver: impl Fn(&str) -> bool) -> Option<(&'static str, Vec<&'static str>)> {
    match id {
        WATCHDOG_ID => {
            // That of a chipset is not a device of its own.
            let models = WatchdogModel::VARIANTS.iter().copied();
            Some(("watchdog", models.filter(|model| has_driver(model)).collect()))
        }
        id if id.starts_with(sound::ID) => {
            let models = SoundModel::VARIANTS.iter().copied();
            let has_model = |name: &&str| name.parse().is_ok_and(|model: SoundModel| has_driver(model.driver(false)));
            Some(("sound", models.filter(has_model).collect()))
        }
        _ => None,
    }
}

/// Returns `-action`, of which QEMU takes several.
fn action_of(event: &str, action: &str) -> Switch {
    Switch::new("action").option(event, action)
}
