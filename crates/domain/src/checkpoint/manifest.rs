//! What is recorded of a checkpoint, in its directory.

use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CheckpointName, TemplateRecord};
use crate::config::Node;
use crate::qemu::QemuVersion;
use crate::vm::{RunPaths, VmId, VmName};

/// The file in the directory of a checkpoint that records what it has; it is written last.
pub const MANIFEST_FILE: &str = "manifest.json";

/// The version of the format of the manifest.
pub const MANIFEST_FORMAT: u32 = 1;

/// The file with the memory: its pages at their offsets, those of zeros as holes.
pub const RAM_FILE: &str = "ram";

/// The file with the state of the devices: the migration stream without the pages of the memory.
pub const STATE_FILE: &str = "state";

/// The file that QEMU saves the machine to; it is removed once it was taken apart.
pub const STREAM_FILE: &str = "stream";

/// The ending of the directory of an unfinished checkpoint.
pub const UNFINISHED_SUFFIX: &str = ".partial";

/// What a checkpoint has; the content of [`MANIFEST_FILE`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointManifest {
    /// The version of this format.
    pub format: u32,
    /// The name of the checkpoint.
    pub name: CheckpointName,
    /// What the user said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// When the guest stood still for it: memory and disks are of that moment.
    pub taken_at: Timestamp,
    /// The VM.
    pub vm: CheckpointVm,
    /// The definition of the VM, as it was when its run began.
    pub definition: Node,
    /// The QEMU.
    pub qemu: CheckpointQemu,
    /// The memory.
    pub ram: MemoryFile,
    /// The state of the devices.
    pub state: StateFile,
    /// The writable disks, in the order of the definition.
    pub disks: Vec<FrozenDisk>,
    /// The UEFI variables, which are copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uefi_variables: Option<CopiedFile>,
    /// How it was made.
    pub method: CheckpointMethod,
    /// Why so, in words.
    pub reason: String,
    /// How long the guest stood still, in milliseconds.
    pub pause_ms: u64,
    /// Whether the machine has a generation ID (`vmgenid`), by which a guest draws new random numbers after a fork.
    pub has_generation_id: bool,
    /// The IDs of devices that were added while it ran, which its command line lacks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added_devices: Vec<String>,
    /// Whether it was taken for forks, and goes with the last of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_temporary: bool,
    /// What is recorded of a template, if it is that of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Box<TemplateRecord>>,
    /// The checkpoint whose layers those of this one are on top of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<CheckpointName>,
}

/// The VM of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointVm {
    /// Its ID.
    pub id: VmId,
    /// Its name at that time.
    pub name: VmName,
}

/// The QEMU that a checkpoint is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointQemu {
    /// Its binary.
    pub binary: PathBuf,
    /// Its version.
    pub version: QemuVersion,
    /// Its build, as it says itself (`package` of `query-version`); empty if it does not.
    #[serde(default)]
    pub package: String,
    /// The arguments that it was started with, without those of a paused start.
    pub arguments: Vec<String>,
    /// The paths of that run, which occur in the arguments.
    pub paths: RunPaths,
    /// Its accelerator, as in `kvm`.
    pub accelerator: String,
    /// The machine type with its version, as in `pc-q35-7.2`.
    pub machine_type: String,
    /// The flags of the host's CPU, if the guest has them (`-cpu host`, `-cpu max` with KVM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_cpu_flags: Option<Vec<String>>,
}

/// The file with the memory of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryFile {
    /// The name of the RAM block, as in `pc.ram`.
    pub block: String,
    /// The length of the file: the memory of the machine, in bytes.
    pub bytes: u64,
    /// How many bytes of it are not zeros.
    pub used_bytes: u64,
    /// The CRC-32 (ISO-HDLC) of a list: for each page of 4096 bytes that has another byte than zero, in ascending order,
    /// its offset in 8 bytes and the CRC-32 of its content in 4, both little-endian.
    pub crc32: u32,
    /// When the file was last modified: one that has this length and time is not read again before it is used.
    pub modified_at: Timestamp,
}

/// The file with the state of the devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFile {
    /// Its length.
    pub bytes: u64,
    /// Its CRC-32 (ISO-HDLC).
    pub crc32: u32,
}

/// A disk of a checkpoint: an image that nothing writes to any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrozenDisk {
    /// The name of the drive.
    pub drive: String,
    /// The image.
    pub file: PathBuf,
    /// Its format, as QEMU names it.
    pub format: String,
    /// The size the guest sees, in bytes.
    pub virtual_bytes: u64,
}

/// A file that was copied into the directory of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedFile {
    /// Its name in the directory.
    pub file: String,
    /// What it is a copy of.
    pub original: PathBuf,
    /// Its format, as QEMU names it.
    pub format: String,
    /// Its length.
    pub bytes: u64,
    /// Its CRC-32 (ISO-HDLC).
    pub crc32: u32,
}

/// How the state of a machine is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum CheckpointMethod {
    /// While the guest runs: each page is saved before it changes.
    BackgroundSnapshot,
    /// While the guest runs, except for the last of what changes.
    Precopy,
    /// While the guest is paused.
    StopAndSave,
    /// A newer maqet knows it.
    #[serde(other)]
    Other,
}

/// Why a manifest cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum CheckpointProblem {
    #[error("`{MANIFEST_FILE}` is missing: the checkpoint is not complete")]
    Unfinished,
    #[error("cannot read `{MANIFEST_FILE}`: {reason}")]
    Unreadable { reason: String },
    #[error("a newer maqet made it (format {format})")]
    Newer { format: u64 },
    #[error("`{MANIFEST_FILE}` is damaged: {reason}")]
    Damaged { reason: String },
}

impl CheckpointManifest {
    /// Reads the manifest of the checkpoint `name`.
    pub fn parse(text: &[u8], name: &CheckpointName) -> Result<Self, CheckpointProblem> {
        let damaged = |reason: String| CheckpointProblem::Damaged { reason };
        let value: serde_json::Value = serde_json::from_slice(text).map_err(|error| damaged(error.to_string()))?;
        match value["format"].as_u64() {
            Some(format) if format > u64::from(MANIFEST_FORMAT) => return Err(CheckpointProblem::Newer { format }),
            Some(0) | None => return Err(damaged("it has no format".to_owned())),
            Some(_) => {}
        }
        let manifest: Self = serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
        match manifest.inconsistency(name) {
            Some(reason) => Err(damaged(reason)),
            None => Ok(manifest),
        }
    }

    fn inconsistency(&self, name: &CheckpointName) -> Option<String> {
        let is_page = |bytes: u64| bytes.is_multiple_of(super::PAGE_BYTES as u64);
        if self.name != *name {
            return Some(format!("it is that of checkpoint `{}`", self.name));
        }
        if self.ram.bytes == 0 || !is_page(self.ram.bytes) || self.ram.used_bytes > self.ram.bytes {
            return Some(format!("the memory has {} bytes", self.ram.bytes));
        }
        if let Some(copy) = self.uefi_variables.as_ref().filter(|copy| !is_plain(&copy.file)) {
            return Some(format!("it names the file `{}`", copy.file.escape_debug()));
        }
        let relative = self.disks.iter().find(|disk| !disk.file.is_absolute());
        relative.map(|disk| format!("the image of drive `{}` is not absolute", disk.drive.escape_debug()))
    }
}

/// Returns whether a file is one of the checkpoint's own, beside those with fixed names.
fn is_plain(file: &str) -> bool {
    let path = Path::new(file);
    let is_name =
        matches!(path.components().collect::<Vec<_>>().as_slice(), [Component::Normal(name)] if *name == file);
    is_name && ![MANIFEST_FILE, RAM_FILE, STATE_FILE, STREAM_FILE].contains(&file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> CheckpointName {
        CheckpointName::parse("booted").unwrap()
    }

    fn manifest() -> CheckpointManifest {
        let paths = RunPaths { sockets: "/run/web/b1".into(), records: "/s/web/boot-1".into() };
        CheckpointManifest {
            format: MANIFEST_FORMAT,
            name: name(),
            description: None,
            taken_at: Timestamp::UNIX_EPOCH,
            vm: CheckpointVm {
                id: "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11".parse().unwrap(),
                name: "web".parse().unwrap(),
            },
            definition: Node::empty_map(),
            qemu: CheckpointQemu {
                binary: "/usr/bin/qemu-system-x86_64".into(),
                version: "7.2.22".parse().unwrap(),
                package: "Debian 1:7.2".to_owned(),
                arguments: vec!["-m".to_owned(), "64M".to_owned()],
                paths,
                accelerator: "tcg".to_owned(),
                machine_type: "pc-i440fx-7.2".to_owned(),
                host_cpu_flags: None,
            },
            ram: MemoryFile {
                block: "pc.ram".to_owned(),
                bytes: 64 << 20,
                used_bytes: 8192,
                crc32: 7,
                modified_at: Timestamp::UNIX_EPOCH,
            },
            state: StateFile { bytes: 300_000, crc32: 8 },
            disks: vec![FrozenDisk {
                drive: "hdd".to_owned(),
                file: "/d/hdd.qcow2".into(),
                format: "qcow2".to_owned(),
                virtual_bytes: 1 << 30,
            }],
            uefi_variables: None,
            method: CheckpointMethod::BackgroundSnapshot,
            reason: "QEMU can".to_owned(),
            pause_ms: 12,
            has_generation_id: true,
            added_devices: Vec::new(),
            is_temporary: false,
            template: None,
            parent: None,
        }
    }

    fn parse(manifest: &CheckpointManifest) -> Result<CheckpointManifest, CheckpointProblem> {
        CheckpointManifest::parse(&serde_json::to_vec(manifest).unwrap(), &name())
    }

    #[test]
    fn test_manifest_is_read_as_it_was_written() {
        let manifest = manifest();

        assert_eq!(parse(&manifest), Ok(manifest));
    }

    #[test]
    fn test_manifest_of_newer_maqet_is_refused_even_with_other_fields() {
        let text = format!(r#"{{"format": {}, "name": 5}}"#, MANIFEST_FORMAT + 1);

        let problem = CheckpointManifest::parse(text.as_bytes(), &name());

        assert_eq!(problem, Err(CheckpointProblem::Newer { format: 2 }));
    }

    #[test]
    fn test_manifest_that_does_not_fit_is_damaged() {
        let copy = |file: &str| CopiedFile {
            file: file.to_owned(),
            original: "/d/vars".into(),
            format: "raw".to_owned(),
            bytes: 1,
            crc32: 1,
        };
        let with_copy = |file: &str| CheckpointManifest { uefi_variables: Some(copy(file)), ..manifest() };
        let mut relative = manifest();
        relative.disks[0].file = "hdd.qcow2".into();
        let mut uneven = manifest();
        uneven.ram.bytes += 1;
        let other = CheckpointManifest { name: CheckpointName::parse("other").unwrap(), ..manifest() };
        let none = CheckpointManifest { format: 0, ..manifest() };

        assert!(parse(&with_copy("uefi-vars")).is_ok());
        for wrong in [with_copy("../vars"), with_copy("/vars"), with_copy("ram"), relative, uneven, other, none] {
            assert!(matches!(parse(&wrong), Err(CheckpointProblem::Damaged { .. })), "{wrong:?}");
        }
        let cut = CheckpointManifest::parse(b"{\"format\": 1", &name());
        assert!(matches!(cut, Err(CheckpointProblem::Damaged { .. })));
    }

    #[test]
    fn test_method_of_newer_maqet_is_other() {
        assert_eq!(serde_json::from_str::<CheckpointMethod>(r#""magic""#).unwrap(), CheckpointMethod::Other);
    }
}
