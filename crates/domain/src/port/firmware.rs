//! UEFI firmware installed on the host.

use std::path::PathBuf;

use async_trait::async_trait;

use crate::error::{Explain, Explanation, Fault};

/// A UEFI firmware as its descriptor describes it: code and variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UefiFirmware {
    /// The code image.
    pub code: PathBuf,
    /// Its format, as QEMU names it.
    pub code_format: String,
    /// The template of the variable store.
    pub variables: PathBuf,
    /// Its format, as QEMU names it.
    pub variables_format: String,
}

/// Why there is no UEFI firmware for a machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum FirmwareError {
    /// No descriptor matches the guest's architecture.
    #[error("no UEFI firmware for `{architecture}` is installed")]
    NotFound { architecture: String },
}

impl Explain for FirmwareError {
    fn explain(&self) -> Explanation {
        let Self::NotFound { architecture } = self;
        let package = match architecture.as_str() {
            "x86_64" => Some("ovmf"),
            "i386" => Some("ovmf-ia32"),
            "aarch64" => Some("qemu-efi-aarch64"),
            "arm" => Some("qemu-efi-arm"),
            _ => None,
        };
        let hint = match package {
            Some(package) => format!("install it (Debian: `apt install {package}`)"),
            None => "set `firmware` to the path of a firmware image".to_owned(),
        };
        Explanation::new("host.firmware-not-found", Fault::Host).hint(hint)
    }
}

/// Finds firmware by the descriptors that distributions install (`docs/interop/firmware.json`, QEMU 7.2).
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait FirmwareCatalog: Send + Sync {
    /// Returns the UEFI firmware for an architecture and machine type (`pc`, `q35`, `virt`), without Secure Boot.
    ///
    /// Descriptors are searched in the order of the specification: the user's, the host's, the packages', by file name.
    /// Errors: `NotFound` if none matches.
    async fn uefi(&self, architecture: &str, machine: &str) -> Result<UefiFirmware, FirmwareError>;
}
