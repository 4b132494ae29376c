//! The port [`StaleFiles`]: stale files, and the QEMU processes of this user that use the runtime directory.

mod instance;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use async_trait::async_trait;
use maqet_adapters_linux::{LocalStaleFiles, created_at};
use maqet_domain::port::{QemuInstance, RemoveError, StaleFile, StaleFileKind, StaleFiles};
use maqet_domain::vm::{RunPaths, VmId};

use crate::hypervisor::run_lock::{RunLocks, are_sockets_used};
use crate::hypervisor::run_paths;

/// Finds stale files, and QEMU processes without a VM.
#[derive(Debug, Clone)]
pub struct QemuStaleFiles {
    files: LocalStaleFiles,
}

impl QemuStaleFiles {
    /// Adds the processes of QEMU and their sockets to `files`.
    pub const fn new(files: LocalStaleFiles) -> Self {
        Self { files }
    }
}

#[async_trait]
impl StaleFiles for QemuStaleFiles {
    async fn orphans(&self, known: &[VmId]) -> Vec<QemuInstance> {
        let mut unknown: HashSet<String> = self.short_ids().await.into_iter().collect();
        if unknown.is_empty() {
            return Vec::new();
        }
        // Numbers instead of strings, since `ls` must be fast with ten thousand VMs.
        let numbers: HashMap<u64, String> =
            unknown.iter().filter_map(|short| Some((u64::from_str_radix(short, 16).ok()?, short.clone()))).collect();
        for short in known.iter().filter_map(|id| numbers.get(&short_number(id))) {
            unknown.remove(short);
        }
        unknown.retain(|short| self.files.has_sockets(short));
        if unknown.is_empty() {
            return Vec::new();
        }
        let mut instances = self.instances().await;
        instances.retain(|instance| !instance.is_foreign && unknown.contains(&instance.short));
        instances
    }

    async fn short_ids(&self) -> Vec<String> {
        self.files.socket_folders().into_iter().map(|(short, _)| short).collect()
    }

    async fn instances(&self) -> Vec<QemuInstance> {
        let mut instances = instance::all(self.files.runtime_folder());
        for instance in &mut instances {
            // QEMU writes its pid file once. The directory changes with every socket and temporary file in it.
            let pid_file = instance.paths.pid_file();
            let dated = if pid_file.exists() { &pid_file } else { &instance.paths.sockets };
            instance.started_at = created_at(dated);
            if let Some(id) = instance.id {
                let records = self.files.records_of(&id);
                instance.is_foreign = self.files.is_foreign(&records);
                instance.paths.records = records.join(format!("boot-{}", instance.boot));
            }
        }
        instances
    }

    async fn files(&self, beside: &[PathBuf]) -> Vec<StaleFile> {
        let mut files = Vec::new();
        for file in self.files.all(beside) {
            if !self.is_used(&file).await {
                files.push(file);
            }
        }
        files
    }

    async fn remove(&self, file: &StaleFile) -> Result<(), RemoveError> {
        if let StaleFileKind::Sockets { .. } = file.kind {
            run_paths::remove_sockets(&RunPaths { sockets: file.path.clone(), records: file.path.clone() }).await;
        }
        self.files.remove(file).map_err(|error| RemoveError { path: file.path.clone(), source: error.into() })
    }

    fn records_of(&self, id: &VmId) -> PathBuf {
        self.files.records_of(id)
    }
}

impl QemuStaleFiles {
    /// Returns whether a QEMU uses a file, also one of another PID namespace, which is not among the instances.
    async fn is_used(&self, file: &StaleFile) -> bool {
        match &file.kind {
            StaleFileKind::Sockets { .. } => {
                let paths = RunPaths { sockets: file.path.clone(), records: file.path.clone() };
                are_sockets_used(&paths).await
            }
            StaleFileKind::Records { .. } => RunLocks::new(self.files.lock_folder().to_owned()).is_held(&file.path),
            StaleFileKind::Lock { .. } | StaleFileKind::Temporary => false,
        }
    }
}

/// Returns the short form of an ID as a number.
fn short_number(id: &VmId) -> u64 {
    id.bytes().iter().take(6).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_short_number_is_short_form_of_id() {
        let id: VmId = "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11".parse().unwrap();

        assert_eq!(format!("{:012x}", short_number(&id)), id.short());
    }
}
