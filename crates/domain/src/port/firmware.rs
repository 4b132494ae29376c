//! UEFI firmware installed on the host.

use std::path::PathBuf;

use async_trait::async_trait;

use crate::error::{Explain, Explanation, Fault};
use crate::qmp::wording::architectures_of;
use crate::text::quoted_list;

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
    /// Whether it runs in system management mode, so that only it can write the variables.
    pub requires_smm: bool,
}

/// What UEFI firmware is needed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareRequest {
    /// The architecture of the guest.
    pub architecture: String,
    /// The machine type, as in `pc`, `q35` or `virt`.
    pub machine: String,
    /// Whether it runs only signed code.
    pub secure_boot: SecureBoot,
}

/// Whether firmware runs only signed code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecureBoot {
    /// It runs any code.
    Off,
    /// It can check signatures, by the keys in a variable store that is not its own.
    Supported,
    /// It checks signatures by the keys in its own template of the variables: without keys, it would run any code.
    Enrolled,
}

/// Why there is no UEFI firmware for a machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum FirmwareError {
    /// No descriptor matches the guest's architecture.
    #[error("no UEFI firmware for `{architecture}` is installed")]
    NotFound { architecture: String },
    /// Descriptors match the guest's architecture, but none its machine type.
    #[error("no UEFI firmware for the machine type `{machine}` of `{architecture}` is installed")]
    MachineNotFound { architecture: String, machine: String, known: Vec<String> },
    /// No descriptor of firmware with Secure Boot matches the machine type.
    #[error("no UEFI firmware with Secure Boot for the machine type `{machine}` of `{architecture}` is installed")]
    SecureBootNotFound { architecture: String, machine: String },
}

impl Explain for FirmwareError {
    fn explain(&self) -> Explanation {
        let (Self::NotFound { architecture }
        | Self::MachineNotFound { architecture, .. }
        | Self::SecureBootNotFound { architecture, .. }) = self;
        let package = match architecture.as_str() {
            "x86_64" => Some("ovmf"),
            "i386" => Some("ovmf-ia32"),
            "aarch64" => Some("qemu-efi-aarch64"),
            "arm" => Some("qemu-efi-arm"),
            "riscv64" => Some("qemu-efi-riscv64"),
            _ => None,
        };
        let hint = match (self, package) {
            (Self::SecureBootNotFound { machine, .. }, _) if machine == "pc" || machine.starts_with("pc-i440fx") => {
                "set `machine: q35`: Secure Boot needs its system management mode".to_owned()
            }
            (Self::MachineNotFound { machine, architecture, .. }, _) if is_of_another(machine, architecture) => {
                format!("set `arch: {}`, which the name of the `binary` does not say", architectures_of(machine)[0])
            }
            (Self::MachineNotFound { known, .. }, _) => {
                format!("set `machine` to a type that installed firmware supports: {}", quoted_list(known))
            }
            (_, Some(package)) => format!("install it (Debian: `apt install {package}`)"),
            (_, None) => "set `firmware` to the path of a firmware image".to_owned(),
        };
        Explanation::new("host.firmware-not-found", Fault::Host).hint(hint)
    }
}

/// Returns whether a well-known machine type is not one of an architecture, as with a `binary` of another one.
fn is_of_another(machine: &str, architecture: &str) -> bool {
    let architectures = architectures_of(machine);
    !architectures.is_empty() && !architectures.contains(&architecture)
}

/// Finds firmware by the descriptors that distributions install (`docs/interop/firmware.json`, QEMU 7.2).
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait FirmwareCatalog: Send + Sync {
    /// Returns the UEFI firmware for an architecture and machine type.
    ///
    /// Descriptors are searched in the order of the specification: the user's, the host's, the packages', by file name.
    /// Errors: `NotFound`, `MachineNotFound` or `SecureBootNotFound` if none matches.
    async fn uefi(&self, request: &FirmwareRequest) -> Result<UefiFirmware, FirmwareError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_missing_firmware_of_another_architecture_says_which() {
        let hint = |machine: &str| {
            let (architecture, known) = ("x86_64".to_owned(), vec!["q35".to_owned()]);
            FirmwareError::MachineNotFound { architecture, machine: machine.to_owned(), known }.explain().hints
        };

        assert_eq!(hint("virt-7.2"), ["set `arch: aarch64`, which the name of the `binary` does not say"]);
        assert_eq!(hint("microvm"), ["set `machine` to a type that installed firmware supports: `q35`"]);
    }
}
