//! The port [`Hypervisor`]: finding QEMU, starting it, and reading what it left behind.

mod binary;
pub(crate) mod find;
mod helper;
mod launch;
pub(crate) mod places;
mod recorder;
mod version_cache;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use async_trait::async_trait;
use maqet_adapters_linux::ProcessEnvironment;
use maqet_adapters_linux::process::{boot_id, is_alive, reap};
use maqet_domain::port::{BinaryError, Hypervisor, Launch, LaunchError, Launched, QemuBinary};
use maqet_domain::vm::{ProcessIdentity, RunPaths, Shutdown};
use maqet_fault_points::FaultPoints;

use self::version_cache::VersionCache;

/// Starts QEMU and reads the traces it leaves.
#[derive(Debug)]
pub struct QemuHypervisor {
    environment: ProcessEnvironment,
    versions: VersionCache,
    /// Programs of ours around a QEMU, which end with it and have nobody else to wait for them.
    wrappers: Mutex<Vec<ProcessIdentity>>,
    faults: FaultPoints,
}

impl QemuHypervisor {
    /// Makes one that runs QEMU in `environment` and remembers the versions of binaries in the folder `cache`.
    pub fn new(environment: ProcessEnvironment, cache: PathBuf) -> Self {
        let (versions, wrappers) = (VersionCache::new(cache), Mutex::new(Vec::new()));
        Self { environment, versions, wrappers, faults: FaultPoints::default() }
    }

    /// Returns the hypervisor with somebody who is told of its steps.
    #[must_use]
    pub fn with_fault_points(self, faults: FaultPoints) -> Self {
        Self { faults, ..self }
    }

    fn reap_wrappers(&self) {
        let boot = boot_id();
        if let Ok(mut wrappers) = self.wrappers.lock() {
            wrappers.retain(|wrapper| {
                reap(wrapper, &boot);
                is_alive(wrapper, &boot)
            });
        }
    }
}

#[async_trait]
impl Hypervisor for QemuHypervisor {
    async fn binary(&self, wanted: &str) -> Result<QemuBinary, BinaryError> {
        binary::find(&self.environment, &self.versions, wanted).await
    }

    async fn launch(&self, launch: &Launch) -> Result<Launched, LaunchError> {
        self.reap_wrappers();
        let (launched, wrapper) = launch::launch(&self.environment, &self.faults, launch).await?;
        if let Ok(mut wrappers) = self.wrappers.lock() {
            wrappers.extend(wrapper);
        }
        Ok(launched)
    }

    async fn find(&self, paths: &RunPaths) -> Option<ProcessIdentity> {
        find::find(paths)
    }

    async fn record(&self, paths: &RunPaths) {
        if let Err(why) = recorder::switch_on(paths).await {
            tracing::warn!(%why, paths = %paths.records.display(), "QEMU's events are not recorded");
        }
    }

    async fn owner(&self, paths: &RunPaths) -> Option<ProcessIdentity> {
        find::owner(paths)
    }

    async fn shutdown_event(&self, paths: &RunPaths) -> Option<Shutdown> {
        recorder::shutdown_event(&paths.recorder_log())
    }

    async fn clear(&self, paths: &RunPaths) {
        places::clear(paths);
        self.reap_wrappers();
    }

    async fn forget(&self, vm_sockets: &Path, vm_records: &Path) {
        places::forget_sockets(vm_sockets);
        places::forget(vm_records);
    }
}
