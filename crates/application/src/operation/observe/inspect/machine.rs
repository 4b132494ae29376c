//! A running machine, as QEMU reports it.

use std::fmt;
use std::path::PathBuf;

use maqet_domain::port::Monitors;
use maqet_domain::qmp::wording::is_disconnected_socket;
use maqet_domain::qmp::{QmpCommand, QmpError};
use maqet_domain::storage::DriveLimits;
use maqet_domain::vm::RunPaths;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::limits;

/// A running machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct InspectedMachine {
    /// QEMU's version and package version, as in `7.2.22 (Debian …)`.
    pub qemu_version: String,
    /// The machine type, as in `pc-i440fx-7.2`.
    pub r#type: String,
    /// The accelerator in use: `kvm` or `tcg`.
    pub accelerator: &'static str,
    /// The number of virtual CPUs.
    pub vcpus: usize,
    /// The memory of the guest, including hot-plugged memory.
    pub memory_bytes: u64,
}

/// The machine, its block devices and its character devices.
pub(super) struct MachineDetails {
    pub(super) machine: InspectedMachine,
    pub(super) block_devices: Vec<BlockDevice>,
    pub(super) chardevs: Vec<Chardev>,
}

/// A block device with a medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockDevice {
    /// The name of its node, the ID of its device and the name of its drive, as far as it has them.
    pub(super) names: Vec<String>,
    pub(super) file: PathBuf,
    pub(super) format: String,
    pub(super) virtual_bytes: u64,
    pub(super) allocated_bytes: Option<u64>,
    pub(super) readonly: bool,
    pub(super) limits: DriveLimits,
}

/// A character device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chardev {
    pub(super) name: String,
    /// Whether a client is connected.
    pub(super) connected: bool,
    /// Whether the guest has it open.
    pub(super) open: bool,
}

/// Queries a running machine over QMP.
#[derive(Clone, Copy)]
pub(super) struct MachineQuery<'a> {
    monitors: &'a dyn Monitors,
    paths: &'a RunPaths,
}

impl<'a> MachineQuery<'a> {
    pub(super) fn new(monitors: &'a dyn Monitors, paths: &'a RunPaths) -> Self {
        Self { monitors, paths }
    }

    /// Returns the details of the machine; `None` if a query fails.
    pub(super) async fn details(self) -> Option<MachineDetails> {
        match self.try_details().await {
            Ok(details) => Some(details),
            Err(error) => {
                tracing::debug!(%error, "cannot query the machine");
                None
            }
        }
    }

    async fn try_details(self) -> Result<MachineDetails, QmpError> {
        let version: VersionInfo = self.query(QmpCommand::new("query-version")).await?;
        let kvm: KvmInfo = self.query(QmpCommand::new("query-kvm")).await?;
        let machine_type = QmpCommand::new("qom-get").with("path", "/machine").with("property", "type");
        let machine_type: String = self.query(machine_type).await?;
        let cpus: Vec<serde_json::Value> = self.query(QmpCommand::new("query-cpus-fast")).await?;
        let memory: MemoryInfo = self.query(QmpCommand::new("query-memory-size-summary")).await?;
        let blocks: Vec<BlockInfo> = self.query(QmpCommand::new("query-block")).await?;
        let chardevs: Vec<ChardevInfo> = self.query(QmpCommand::new("query-chardev")).await?;
        Ok(MachineDetails {
            machine: InspectedMachine {
                qemu_version: version.to_string(),
                r#type: machine_type.strip_suffix("-machine").unwrap_or(&machine_type).to_owned(),
                // On Linux, QEMU 7.2 has no other accelerator for the supported machine types.
                accelerator: if kvm.enabled { "kvm" } else { "tcg" },
                vcpus: cpus.len(),
                memory_bytes: memory.base_memory.saturating_add(memory.plugged_memory),
            },
            block_devices: blocks.into_iter().filter_map(BlockInfo::into_device).collect(),
            chardevs: chardevs.into_iter().map(Chardev::from).collect(),
        })
    }

    async fn query<T: DeserializeOwned>(self, command: QmpCommand) -> Result<T, QmpError> {
        let answer = self.monitors.execute(self.paths, &command, limits::QUERY_TIMEOUT).await?;
        serde_json::from_value(answer)
            .map_err(|why| QmpError::InvalidResponse { detail: format!("to `{}`: {why}", command.execute) })
    }
}

// The results of the commands, named as in QEMU's schema; only the members used here.

#[derive(Deserialize)]
struct VersionInfo {
    qemu: VersionTriple,
    package: String,
}

#[derive(Deserialize)]
struct VersionTriple {
    major: u32,
    minor: u32,
    micro: u32,
}

impl fmt::Display for VersionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let VersionTriple { major, minor, micro } = self.qemu;
        write!(f, "{major}.{minor}.{micro}")?;
        match self.package.trim() {
            "" => Ok(()),
            package => write!(f, " ({package})"),
        }
    }
}

#[derive(Deserialize)]
struct KvmInfo {
    enabled: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct MemoryInfo {
    base_memory: u64,
    #[serde(default)]
    plugged_memory: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ChardevInfo {
    label: String,
    filename: String,
    #[serde(default)]
    frontend_open: bool,
}

impl From<ChardevInfo> for Chardev {
    fn from(info: ChardevInfo) -> Self {
        Self { name: info.label, connected: !is_disconnected_socket(&info.filename), open: info.frontend_open }
    }
}

#[derive(Deserialize)]
struct BlockInfo {
    device: String,
    qdev: Option<String>,
    inserted: Option<BlockDeviceInfo>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct BlockDeviceInfo {
    node_name: Option<String>,
    file: String,
    drv: String,
    ro: bool,
    image: ImageInfo,
    #[serde(flatten)]
    limits: LimitInfo,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LimitInfo {
    iops: u64,
    iops_rd: u64,
    iops_wr: u64,
    bps: u64,
    bps_rd: u64,
    bps_wr: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ImageInfo {
    virtual_size: u64,
    actual_size: Option<u64>,
}

impl BlockInfo {
    /// Returns the device, if there is a medium in it.
    fn into_device(self) -> Option<BlockDevice> {
        let inserted = self.inserted?;
        let names = [inserted.node_name, self.qdev, Some(self.device)];
        let LimitInfo { iops, iops_rd, iops_wr, bps, bps_rd, bps_wr } = inserted.limits;
        Some(BlockDevice {
            names: names.into_iter().flatten().filter(|name| !name.is_empty()).collect(),
            file: PathBuf::from(inserted.file),
            format: inserted.drv,
            virtual_bytes: inserted.image.virtual_size,
            allocated_bytes: inserted.image.actual_size,
            readonly: inserted.ro,
            limits: DriveLimits::from_parts([iops, iops_rd, iops_wr], [bps, bps_rd, bps_wr]),
        })
    }
}

#[cfg(test)]
mod tests {
    use maqet_domain::storage::Limit;
    use serde_json::json;

    use super::*;

    #[test]
    fn test_block_device_of_7_2_has_its_node_name_first() {
        let reported = json!({
            "io-status": "ok", "device": "", "locked": false, "removable": false, "qdev": "disk0", "type": "unknown",
            "inserted": {
                "image": {"virtual-size": 1_048_576, "filename": "/d/hdd.qcow2", "format": "qcow2",
                          "actual-size": 200_704, "dirty-flag": false},
                "ro": false, "node-name": "hdd", "drv": "qcow2", "file": "/d/hdd.qcow2", "encrypted": false,
                "iops": 0, "iops_rd": 5, "iops_wr": 0, "bps": 0, "bps_rd": 0, "bps_wr": 0
            }
        });

        let device = serde_json::from_value::<BlockInfo>(reported).unwrap().into_device().unwrap();

        assert_eq!(device.names, ["hdd", "disk0"]);
        assert_eq!((device.virtual_bytes, device.allocated_bytes), (1_048_576, Some(200_704)));
        assert_eq!((device.format.as_str(), device.readonly), ("qcow2", false));
        assert_eq!(device.limits, DriveLimits { iops: Some(Limit::Each { read: Some(5), write: None }), bps: None });
    }

    #[test]
    fn test_block_device_without_medium_is_left_out() {
        let reported = json!({"device": "ide1-cd0", "locked": false, "removable": true, "type": "unknown"});

        assert_eq!(serde_json::from_value::<BlockInfo>(reported).unwrap().into_device(), None);
    }

    #[test]
    fn test_chardev_of_7_2_reports_whether_a_client_is_connected() {
        let is_connected = |filename: &str| {
            let (label, filename) = ("qmp".to_owned(), filename.to_owned());
            Chardev::from(ChardevInfo { label, filename, frontend_open: true }).connected
        };

        assert!(!is_connected("disconnected:unix:/r/qmp.sock,server=on"));
        assert!(is_connected("unix:/r/qmp.sock,server=on"));
    }

    #[test]
    fn test_version_includes_the_package_if_any() {
        let version = |package: &str| {
            let qemu = VersionTriple { major: 7, minor: 2, micro: 22 };
            VersionInfo { qemu, package: package.to_owned() }.to_string()
        };

        assert_eq!(version(""), "7.2.22");
        assert_eq!(version("Debian 1:7.2"), "7.2.22 (Debian 1:7.2)");
    }
}
