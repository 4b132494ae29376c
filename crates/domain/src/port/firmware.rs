//! UEFI firmware that is installed on the host.

use std::path::PathBuf;

use async_trait::async_trait;

use crate::error::{Explain, Fault};

/// A UEFI firmware in two halves, as its descriptor tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UefiFirmware {
    /// The program.
    pub code: PathBuf,
    /// Its format, by QEMU's name.
    pub code_format: String,
    /// The variables a new VM begins with.
    pub variables: PathBuf,
    /// Their format, by QEMU's name.
    pub variables_format: String,
}

/// Why there is no UEFI firmware for a machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FirmwareError {
    /// No descriptor fits.
    #[error("no UEFI firmware for `{architecture}` is installed")]
    Missing {
        /// The guest's architecture.
        architecture: String,
    },
}

impl Explain for FirmwareError {
    fn code(&self) -> &'static str {
        "host.firmware-missing"
    }

    fn fault(&self) -> Fault {
        Fault::Host
    }

    fn hints(&self) -> Vec<String> {
        let Self::Missing { architecture } = self;
        let package = match architecture.as_str() {
            "x86_64" => "ovmf",
            "i386" => "ovmf-ia32",
            "aarch64" => "qemu-efi-aarch64",
            "arm" => "qemu-efi-arm",
            _ => return vec!["give the path of a firmware image under `firmware`".to_owned()],
        };
        vec![format!("install it (Debian: `apt install {package}`)")]
    }
}

/// Knows the firmware of the host by the descriptors that its packages bring (`docs/interop/firmware.json`, QEMU 7.2).
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait FirmwareCatalog: Send + Sync {
    /// Returns the UEFI firmware for an architecture and machine type (`pc`, `q35`, `virt`), without Secure Boot.
    ///
    /// Descriptors count in the order of the specification: the user's, the host's, the packages', by file name.
    /// Errors: `Missing` when none fits.
    async fn uefi(&self, architecture: &str, machine: &str) -> Result<UefiFirmware, FirmwareError>;
}
