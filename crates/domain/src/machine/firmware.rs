//! The firmware of a machine.

use std::path::PathBuf;

/// The firmware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firmware {
    /// QEMU's default for the machine type.
    Default,
    /// UEFI, with a variable store per VM.
    Uefi(UefiOptions),
    /// This image.
    File(PathBuf),
}

/// How a machine uses UEFI.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UefiOptions {
    /// Whether the firmware runs only signed code.
    pub secure_boot: bool,
    /// The code; that of an installed firmware if `None`.
    pub code: Option<PathBuf>,
    /// What the variable store of the VM is created from; that of the firmware's package if `None`. Set if `code` is.
    pub variables: Option<PathBuf>,
}

impl Firmware {
    /// Returns whether this is UEFI with a variable store per VM.
    pub const fn is_uefi(&self) -> bool {
        matches!(self, Self::Uefi(_))
    }

    /// Returns how the machine uses UEFI, if it does.
    pub const fn uefi(&self) -> Option<&UefiOptions> {
        match self {
            Self::Uefi(options) => Some(options),
            Self::Default | Self::File(_) => None,
        }
    }
}
