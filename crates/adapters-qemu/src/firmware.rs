//! The port [`FirmwareCatalog`]: UEFI firmware, found by the descriptors in its packages.
//!
//! QEMU defines the format and the order of descriptors (`docs/interop/firmware.json`, 7.2). An invalid descriptor is
//! skipped with a warning: a bad package must not prevent a VM from starting.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use maqet_domain::port::{FirmwareCatalog, FirmwareError, FirmwareRequest, SecureBoot, UefiFirmware};
use maqet_domain::text::glob_matches;
use rustix::fs::OFlags;
use serde::Deserialize;

use crate::limits::{MAX_DESCRIPTOR_BYTES, MAX_DESCRIPTORS};

/// The firmware in the descriptors of some folders.
#[derive(Debug, Clone)]
pub struct DescriptorCatalog {
    folders: Vec<PathBuf>,
}

impl DescriptorCatalog {
    /// Reads the `*.json` in `folders`; a file hides those with the same name in later folders, even if it is empty or
    /// invalid.
    pub const fn new(folders: Vec<PathBuf>) -> Self {
        Self { folders }
    }

    /// Returns the descriptors that are not hidden, ordered by file name.
    fn files(&self) -> BTreeMap<OsString, PathBuf> {
        let mut files = BTreeMap::new();
        for folder in &self.folders {
            let entries = fs::read_dir(folder).into_iter().flatten().take(MAX_DESCRIPTORS).flatten();
            for path in entries.map(|entry| entry.path()) {
                if let (Some(name), Some("json")) = (path.file_name(), path.extension().and_then(|end| end.to_str())) {
                    files.entry(name.to_owned()).or_insert(path);
                }
            }
        }
        files
    }
}

#[async_trait]
impl FirmwareCatalog for DescriptorCatalog {
    async fn uefi(&self, request: &FirmwareRequest) -> Result<UefiFirmware, FirmwareError> {
        let mut alternative = None;
        let mut known = BTreeSet::new();
        for path in self.files().into_values() {
            let Some(descriptor) = read(&path).filter(Descriptor::is_uefi_flash) else { continue };
            known.extend(descriptor.machines(&request.architecture).cloned());
            if !descriptor.fits(request) {
                continue;
            }
            let preferred = descriptor.has("enrolled-keys") == (request.secure_boot == SecureBoot::Enrolled);
            match descriptor.firmware() {
                Ok(firmware) if preferred => return Ok(firmware),
                Ok(firmware) => alternative = alternative.or(Some(firmware)),
                Err(reason) => tracing::warn!(path = %path.display(), reason, "skipped a firmware descriptor"),
            }
        }
        let architecture = request.architecture.clone();
        alternative.ok_or_else(|| match request.secure_boot {
            SecureBoot::Off if known.is_empty() => FirmwareError::NotFound { architecture },
            SecureBoot::Off => {
                let (machine, known) = (request.machine.clone(), known.into_iter().collect());
                FirmwareError::MachineNotFound { architecture, machine, known }
            }
            SecureBoot::Supported | SecureBoot::Enrolled => {
                FirmwareError::SecureBootNotFound { architecture, machine: request.machine.clone() }
            }
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Descriptor {
    interface_types: Vec<String>,
    mapping: Mapping,
    targets: Vec<Target>,
    #[serde(default)]
    features: Vec<String>,
}

/// How the firmware is loaded; only the keys for flash are parsed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mapping {
    device: String,
    mode: Option<String>,
    executable: Option<FlashFile>,
    nvram_template: Option<FlashFile>,
}

#[derive(Debug, Deserialize)]
struct FlashFile {
    filename: PathBuf,
    format: String,
}

#[derive(Debug, Deserialize)]
struct Target {
    architecture: String,
    machines: Vec<String>,
}

impl Descriptor {
    fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|known| known == feature)
    }

    /// Returns whether this is UEFI firmware with separate code and variables.
    fn is_uefi_flash(&self) -> bool {
        self.interface_types.iter().any(|kind| kind == "uefi") && self.mapping.is_split_flash()
    }

    /// Returns the patterns of machine types of an architecture that it supports.
    fn machines<'d>(&'d self, architecture: &'d str) -> impl Iterator<Item = &'d String> {
        self.targets
            .iter()
            .filter(move |target| target.architecture == architecture)
            .flat_map(|target| &target.machines)
    }

    /// Returns whether this is for the machine type, with Secure Boot or, as SMM, without.
    fn fits(&self, request: &FirmwareRequest) -> bool {
        let fits_boot = match request.secure_boot {
            SecureBoot::Off => !self.has("secure-boot") && !self.has("requires-smm"),
            SecureBoot::Supported => self.has("secure-boot"),
            SecureBoot::Enrolled => self.has("secure-boot") && self.has("enrolled-keys"),
        };
        let mut targets = self.targets.iter().filter(|target| target.architecture == request.architecture);
        fits_boot && targets.any(|target| target.has(&request.machine))
    }

    /// Returns the files, or why they cannot be used.
    fn firmware(self) -> Result<UefiFirmware, &'static str> {
        let requires_smm = self.has("requires-smm");
        let (Some(code), Some(variables)) = (self.mapping.executable, self.mapping.nvram_template) else {
            return Err("it lacks the code or the template of the variables");
        };
        for file in [&code.filename, &variables.filename] {
            if !file.is_absolute() {
                return Err("it has a relative path");
            }
            if !file.is_file() {
                return Err("a file is missing");
            }
        }
        Ok(UefiFirmware {
            code: code.filename,
            code_format: code.format,
            variables: variables.filename,
            variables_format: variables.format,
            requires_smm,
        })
    }
}

impl Target {
    /// Returns whether a pattern matches the machine type.
    fn has(&self, machine: &str) -> bool {
        // Patterns match complete types (`pc-q35-7.2`). A short name means any version, and so needs a pattern that
        // matches all of them.
        let family = match machine {
            "pc" => "pc-i440fx-",
            "q35" => "pc-q35-",
            "virt" => "virt-",
            whole => whole,
        };
        self.machines.iter().any(|pattern| glob_matches(pattern, machine) || glob_matches(pattern, family))
    }
}

impl Mapping {
    /// Returns whether code and variables are separate; newer versions of QEMU have `stateless` and `combined` as well.
    fn is_split_flash(&self) -> bool {
        self.device == "flash" && self.mode.as_deref().is_none_or(|mode| mode == "split")
    }
}

/// Reads a descriptor; `None` for an empty file, which hides others on purpose, and for an invalid one.
fn read(path: &Path) -> Option<Descriptor> {
    let warn = |error: &dyn std::error::Error| {
        tracing::warn!(path = %path.display(), %error, "cannot read a firmware descriptor");
    };
    let content = content(path).inspect_err(|error| warn(error)).ok()?;
    if content.is_empty() {
        return None;
    }
    serde_json::from_slice(&content).inspect_err(|error| warn(error)).ok()
}

fn content(path: &Path) -> io::Result<Vec<u8>> {
    // Without NONBLOCK, a FIFO in the folder would block forever.
    let flags = (OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let mut content = Vec::new();
    file.take(MAX_DESCRIPTOR_BYTES + 1).read_to_end(&mut content)?;
    if u64::try_from(content.len()).is_ok_and(|read| read > MAX_DESCRIPTOR_BYTES) {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "too large for a firmware descriptor"));
    }
    Ok(content)
}
