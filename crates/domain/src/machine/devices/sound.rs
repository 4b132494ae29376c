//! The sound card.

use super::{OwnDevice, USB_CONTROLLER};
use crate::qemu::Switch;

/// A sound card, and where it is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sound {
    /// The card.
    pub model: SoundModel,
    /// Where it is played.
    pub backend: AudioBackend,
}

/// The device of a sound card.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum SoundModel {
    /// Intel's HD audio, with a speaker and a microphone.
    #[default]
    Hda,
    /// Intel's AC97.
    Ac97,
    /// Ensoniq's PCI card.
    Es1370,
    /// Sound Blaster 16, on the ISA bus.
    Sb16,
    /// A USB sound card.
    Usb,
    /// Virtio (QEMU 8.2).
    Virtio,
}

/// Where sound is played, by QEMU's names (`-audiodev`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[derive(strum::EnumString, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum AudioBackend {
    /// Nowhere.
    #[default]
    None,
    /// ALSA.
    Alsa,
    /// `PulseAudio`, and `PipeWire` in its place.
    Pa,
    /// `PipeWire` (QEMU 8.1).
    Pipewire,
    /// JACK.
    Jack,
    /// OSS.
    Oss,
    /// SDL.
    Sdl,
    /// sndio.
    Sndio,
    /// The client of `-spice`.
    Spice,
}

/// The id of the card, and of its backend.
pub(super) const ID: &str = "maqet-sound";

impl SoundModel {
    /// Returns the device of QEMU.
    pub(super) const fn driver(self, is_q35: bool) -> &'static str {
        match self {
            Self::Hda if is_q35 => "ich9-intel-hda",
            Self::Hda => "intel-hda",
            Self::Ac97 => "AC97",
            Self::Es1370 => "ES1370",
            Self::Sb16 => "sb16",
            Self::Usb => "usb-audio",
            Self::Virtio => "virtio-sound-pci",
        }
    }
}

impl Sound {
    /// Returns whether it is on the USB controller.
    pub(super) fn is_usb(self) -> bool {
        self.model == SoundModel::Usb
    }

    pub(super) fn switches(self, is_q35: bool) -> Vec<Switch> {
        let backend = Switch::new("audiodev").head(self.backend.into()).option("id", ID);
        let card = OwnDevice::new(self.model.driver(is_q35), ID);
        let connected = |card: OwnDevice| card.option("audiodev", ID);
        let mut switches = vec![backend];
        let devices = match self.model {
            SoundModel::Hda => {
                let codec = OwnDevice::new("hda-duplex", "maqet-sound-codec").option("bus", format!("{ID}.0"));
                vec![card, connected(codec)]
            }
            SoundModel::Usb => vec![connected(card.option("bus", format!("{USB_CONTROLLER}.0")))],
            SoundModel::Ac97 | SoundModel::Es1370 | SoundModel::Sb16 | SoundModel::Virtio => vec![connected(card)],
        };
        switches.extend(devices.into_iter().map(OwnDevice::last));
        switches
    }
}
