//! A running machine, as QEMU itself tells it.

use std::path::PathBuf;

use maqet_domain::qmp::wording::is_disconnected_socket;
use maqet_domain::qmp::{QmpCommand, QmpError};
use maqet_domain::vm::Run;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{App, limits};

/// A machine that runs, in QEMU's own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InspectedMachine {
    /// QEMU's version, with what its packager calls it.
    pub qemu_version: String,
    /// The machine type, as in `pc-i440fx-7.2`.
    pub r#type: String,
    /// The accelerator really in use: `kvm` or `tcg`.
    pub accelerator: &'static str,
    /// How many virtual CPUs it has.
    pub vcpus: usize,
    /// The memory the guest has, what was plugged in later included.
    pub memory_bytes: u64,
}

/// All that a running machine told.
pub(super) struct Told {
    pub(super) machine: InspectedMachine,
    pub(super) drives: Vec<TellingDrive>,
    /// Character devices by name, and whether somebody is connected.
    pub(super) chardevs: Vec<(String, bool)>,
}

/// A drive of a running machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TellingDrive {
    /// The names by which it may be known, the best first.
    pub(super) names: Vec<String>,
    pub(super) file: PathBuf,
    pub(super) format: String,
    pub(super) virtual_bytes: u64,
    pub(super) allocated_bytes: Option<u64>,
    pub(super) readonly: bool,
}

#[derive(Deserialize)]
struct Version {
    qemu: Numbers,
    package: String,
}

#[derive(Deserialize)]
struct Numbers {
    major: u32,
    minor: u32,
    micro: u32,
}

#[derive(Deserialize)]
struct Kvm {
    enabled: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Memory {
    base_memory: u64,
    #[serde(default)]
    plugged_memory: u64,
}

#[derive(Deserialize)]
struct Chardev {
    label: String,
    filename: String,
}

#[derive(Deserialize)]
struct Block {
    device: String,
    qdev: Option<String>,
    inserted: Option<Inserted>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Inserted {
    node_name: Option<String>,
    file: String,
    drv: String,
    ro: bool,
    image: Image,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Image {
    virtual_size: u64,
    actual_size: Option<u64>,
}

impl App {
    /// Asks a running machine what it is; nothing if it does not answer.
    pub(super) async fn machine_of(&self, run: &Run) -> Option<Told> {
        match self.ask_machine(run).await {
            Ok(told) => Some(told),
            Err(error) => {
                tracing::debug!(%error, "the machine does not tell what it is");
                None
            }
        }
    }

    async fn ask_machine(&self, run: &Run) -> Result<Told, QmpError> {
        let version: Version = self.ask(run, QmpCommand::new("query-version")).await?;
        let kvm: Kvm = self.ask(run, QmpCommand::new("query-kvm")).await?;
        let of_machine = QmpCommand::new("qom-get").with("path", "/machine").with("property", "type");
        let kind: String = self.ask(run, of_machine).await?;
        let cpus: Vec<serde_json::Value> = self.ask(run, QmpCommand::new("query-cpus-fast")).await?;
        let memory: Memory = self.ask(run, QmpCommand::new("query-memory-size-summary")).await?;
        let blocks: Vec<Block> = self.ask(run, QmpCommand::new("query-block")).await?;
        let chardevs: Vec<Chardev> = self.ask(run, QmpCommand::new("query-chardev")).await?;
        Ok(Told {
            machine: InspectedMachine {
                qemu_version: version.in_words(),
                r#type: kind.strip_suffix("-machine").unwrap_or(&kind).to_owned(),
                // Of QEMU's accelerators on Linux (7.2) these two run guests of ours.
                accelerator: if kvm.enabled { "kvm" } else { "tcg" },
                vcpus: cpus.len(),
                memory_bytes: memory.base_memory.saturating_add(memory.plugged_memory),
            },
            drives: blocks.into_iter().filter_map(Block::into_drive).collect(),
            chardevs: chardevs.into_iter().map(Chardev::into_connected).collect(),
        })
    }

    async fn ask<T: DeserializeOwned>(&self, run: &Run, command: QmpCommand) -> Result<T, QmpError> {
        let answer = self.ports.monitors.execute(&run.paths, &command, limits::RUN_STATE_TIMEOUT).await?;
        serde_json::from_value(answer)
            .map_err(|why| QmpError::InvalidResponse { detail: format!("to `{}`: {why}", command.execute) })
    }
}

impl Version {
    fn in_words(&self) -> String {
        let Numbers { major, minor, micro } = self.qemu;
        match self.package.trim() {
            "" => format!("{major}.{minor}.{micro}"),
            package => format!("{major}.{minor}.{micro} ({package})"),
        }
    }
}

impl Chardev {
    /// QEMU shows a socket that nobody is connected to with this word before its address (7.2).
    fn into_connected(self) -> (String, bool) {
        (self.label, !is_disconnected_socket(&self.filename))
    }
}

impl Block {
    /// Returns the drive, if there is a medium in it.
    fn into_drive(self) -> Option<TellingDrive> {
        let inserted = self.inserted?;
        let names = [inserted.node_name, self.qdev, Some(self.device)];
        Some(TellingDrive {
            names: names.into_iter().flatten().filter(|name| !name.is_empty()).collect(),
            file: PathBuf::from(inserted.file),
            format: inserted.drv,
            virtual_bytes: inserted.image.virtual_size,
            allocated_bytes: inserted.image.actual_size,
            readonly: inserted.ro,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn test_block_of_7_2_is_known_by_its_node_first() {
        let told = json!({
            "io-status": "ok", "device": "", "locked": false, "removable": false, "qdev": "hdd", "type": "unknown",
            "inserted": {
                "image": {"virtual-size": 1_048_576, "filename": "/d/hdd.qcow2", "format": "qcow2",
                          "actual-size": 200_704, "dirty-flag": false},
                "ro": false, "node-name": "hdd", "drv": "qcow2", "file": "/d/hdd.qcow2", "encrypted": false
            }
        });

        let drive = serde_json::from_value::<Block>(told).unwrap().into_drive().unwrap();

        assert_eq!(drive.names, ["hdd", "hdd"]);
        assert_eq!((drive.virtual_bytes, drive.allocated_bytes), (1_048_576, Some(200_704)));
        assert_eq!((drive.format.as_str(), drive.readonly), ("qcow2", false));
    }

    #[test]
    fn test_block_without_a_medium_is_no_drive() {
        let told = json!({"device": "ide1-cd0", "locked": false, "removable": true, "type": "unknown"});

        assert_eq!(serde_json::from_value::<Block>(told).unwrap().into_drive(), None);
    }

    #[test]
    fn test_chardev_of_7_2_tells_whether_somebody_is_connected() {
        let of = |filename: &str| Chardev { label: "qmp".to_owned(), filename: filename.to_owned() }.into_connected().1;

        assert!(!of("disconnected:unix:/r/qmp.sock,server=on"));
        assert!(of("unix:/r/qmp.sock,server=on"));
    }
}
