//! Files that QEMU, as root, would create among the devices of the host, in place of one that is not there, such as the
//! port of an adapter that is not plugged in.

use std::path::{Path, PathBuf};

use maqet_domain::machine::{Machine, WrittenAs, WrittenFile};
use maqet_domain::port::PathKind;

use super::disk_error::DiskError;
use super::preflight::Preflight;
use crate::Error;

impl Preflight<'_> {
    /// Refuses files directly in `/dev` that do not exist.
    pub(super) async fn check_device_files(&self, machine: &Machine) -> Result<(), Error> {
        let missing = self.missing_devices(machine).await.into_iter().next();
        missing.map_or(Ok(()), |path| Err(DiskError::DeviceNotFound { path }.into()))
    }

    /// Returns the files directly in `/dev` that do not exist, and that QEMU would create.
    pub(crate) async fn missing_devices(&self, machine: &Machine) -> Vec<PathBuf> {
        let mut missing = Vec::new();
        for WrittenFile { path, written_as, .. } in machine.written_files() {
            let is_of_devices = written_as == WrittenAs::Output && path.parent() == Some(Path::new("/dev"));
            if is_of_devices && self.paths.kind(&path).await == PathKind::NotFound {
                missing.push(path);
            }
        }
        missing
    }
}
