//! The port [`FirmwareCatalog`]: UEFI firmware by the descriptors that its packages bring.
//!
//! The form of the descriptors and their order is QEMU's (`docs/interop/firmware.json`, 7.2). A descriptor that is
//! broken is passed over with a warning: one bad package is no reason not to start a machine.

mod glob;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use maqet_domain::port::{FirmwareCatalog, FirmwareError, UefiFirmware};
use rustix::fs::OFlags;
use serde::Deserialize;

use crate::limits::{DESCRIPTOR_BYTES, DESCRIPTORS};

/// Knows the firmware that the descriptors in its folders name.
#[derive(Debug, Clone)]
pub struct DescriptorCatalog {
    folders: Vec<PathBuf>,
}

impl DescriptorCatalog {
    /// Makes one for the `*.json` in `folders`; a file hides those of the same name in later folders, also if it is
    /// empty or broken.
    pub const fn new(folders: Vec<PathBuf>) -> Self {
        Self { folders }
    }

    /// Returns where the descriptors that count are, in the order of their file names.
    fn files(&self) -> BTreeMap<OsString, PathBuf> {
        let mut files = BTreeMap::new();
        for folder in &self.folders {
            let entries = fs::read_dir(folder).into_iter().flatten().take(DESCRIPTORS).flatten();
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
    async fn uefi(&self, architecture: &str, machine: &str) -> Result<UefiFirmware, FirmwareError> {
        let mut second_best = None;
        for path in self.files().into_values() {
            let Some(descriptor) = read(&path).filter(|descriptor| descriptor.fits(architecture, machine)) else {
                continue;
            };
            let preferred = !descriptor.has("enrolled-keys");
            match descriptor.mapping.firmware() {
                Ok(firmware) if preferred => return Ok(firmware),
                Ok(firmware) => second_best = second_best.or(Some(firmware)),
                Err(why) => tracing::warn!(path = %path.display(), why, "a firmware descriptor is passed over"),
            }
        }
        second_best.ok_or_else(|| FirmwareError::Missing { architecture: architecture.to_owned() })
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

/// How the firmware gets into the machine; those that are not for flash have other keys, which do not matter.
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

    /// Returns whether this is a UEFI in two halves for the machine, without Secure Boot and what that needs.
    fn fits(&self, architecture: &str, machine: &str) -> bool {
        let is_uefi = self.interface_types.iter().any(|kind| kind == "uefi");
        let is_plain = !self.has("secure-boot") && !self.has("requires-smm");
        let mut targets = self.targets.iter().filter(|target| target.architecture == architecture);
        is_uefi && is_plain && self.mapping.is_split_flash() && targets.any(|target| target.has(machine))
    }
}

impl Target {
    /// Returns whether one of the patterns is for the machine type.
    fn has(&self, machine: &str) -> bool {
        // Patterns are of whole types (`pc-q35-7.2`). A short name means any version, so that it takes a pattern for
        // all of them, and none for a few.
        let family = match machine {
            "pc" => "pc-i440fx-",
            "q35" => "pc-q35-",
            "virt" => "virt-",
            whole => whole,
        };
        self.machines.iter().any(|pattern| glob::matches(pattern, machine) || glob::matches(pattern, family))
    }
}

impl Mapping {
    /// Returns whether program and variables are for two chips; newer QEMU know `stateless` and `combined` too.
    fn is_split_flash(&self) -> bool {
        self.device == "flash" && self.mode.as_deref().is_none_or(|mode| mode == "split")
    }

    /// Returns the files, if they are there; else why not.
    fn firmware(self) -> Result<UefiFirmware, &'static str> {
        let (Some(code), Some(variables)) = (self.executable, self.nvram_template) else {
            return Err("it does not name both a program and a template of its variables");
        };
        for file in [&code.filename, &variables.filename] {
            if !file.is_absolute() {
                return Err("it names a file by a relative path");
            }
            if !file.is_file() {
                return Err("a file that it names is missing");
            }
        }
        Ok(UefiFirmware {
            code: code.filename,
            code_format: code.format,
            variables: variables.filename,
            variables_format: variables.format,
        })
    }
}

/// Reads a descriptor; an empty file is none, on purpose, and a broken one is passed over.
fn read(path: &Path) -> Option<Descriptor> {
    let warn = |why: &dyn std::error::Error| {
        tracing::warn!(path = %path.display(), why = %why, "a firmware descriptor cannot be read");
    };
    let content = content(path).inspect_err(|why| warn(why)).ok()?;
    if content.is_empty() {
        return None;
    }
    serde_json::from_slice(&content).inspect_err(|why| warn(why)).ok()
}

fn content(path: &Path) -> io::Result<Vec<u8>> {
    // Without NONBLOCK a FIFO in the folder would hold us for ever.
    let flags = (OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let mut content = Vec::new();
    file.take(DESCRIPTOR_BYTES + 1).read_to_end(&mut content)?;
    if u64::try_from(content.len()).is_ok_and(|read| read > DESCRIPTOR_BYTES) {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large for a firmware descriptor"));
    }
    Ok(content)
}
