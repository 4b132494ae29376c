//! The port [`Hypervisor`]: finds QEMU, starts it, and manages the files of its runs.

mod binary;
mod error;
mod evidence;
pub(crate) mod find;
mod foreground;
mod helper;
mod image_server;
mod launch;
mod names;
mod qmp_log;
pub(crate) mod run_lock;
pub(crate) mod run_paths;
mod version_cache;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use async_trait::async_trait;
use maqet_adapters_linux::limits::KILL_TIMEOUT;
use maqet_adapters_linux::process::PidScope;
use maqet_adapters_linux::{LinuxProcesses, ProcessEnvironment};
use maqet_domain::port::{BinaryError, Hypervisor, ImageServer, Launch, LaunchError, Launched, Processes, QemuBinary};
use maqet_domain::qmp::wording::{ListedName, NameList};
use maqet_domain::vm::{ExitReport, HaltReason, ProcessIdentity, Run, RunEnd, RunPaths, StateDetails, StoppedTime};
use maqet_fault_points::FaultPoints;

use self::launch::Launcher;
use self::run_lock::RunLocks;
use self::version_cache::VersionCache;

/// Starts QEMU.
#[derive(Debug)]
pub struct QemuHypervisor {
    environment: ProcessEnvironment,
    versions: VersionCache,
    run_locks: RunLocks,
    /// Programs that wrap a QEMU: child processes that exit with it and must be reaped.
    wrappers: Mutex<Vec<ProcessIdentity>>,
    /// The processes of canceled launches, which were killed and may not be gone yet.
    killed: Mutex<Vec<ProcessIdentity>>,
    faults: FaultPoints,
    kept_boots: usize,
}

impl QemuHypervisor {
    /// Runs QEMU in `environment`, caches the versions of binaries in the folder `cache`, and keeps the locks of running
    /// QEMU processes in the folder `locks`.
    pub fn new(environment: ProcessEnvironment, cache: PathBuf, locks: PathBuf) -> Self {
        Self {
            environment,
            versions: VersionCache::new(cache),
            run_locks: RunLocks::new(locks),
            wrappers: Mutex::default(),
            killed: Mutex::default(),
            faults: FaultPoints::default(),
            kept_boots: usize::MAX,
        }
    }

    /// Keeps the logs of this many boots of a VM, the newest; by default all.
    #[must_use]
    pub fn with_kept_boots(self, kept_boots: usize) -> Self {
        Self { kept_boots, ..self }
    }

    /// Reports its steps to `faults`.
    #[must_use]
    pub fn with_fault_points(self, faults: FaultPoints) -> Self {
        Self { faults, ..self }
    }

    /// Reaps wrappers that exited, and waits for killed processes.
    async fn reap(&self) {
        if let Ok(mut wrappers) = self.wrappers.lock()
            && !wrappers.is_empty()
        {
            let scope = PidScope::current();
            wrappers.retain(|wrapper| !scope.reap(wrapper));
        }
        let killed = self.killed.lock().map(|mut killed| std::mem::take(&mut *killed)).unwrap_or_default();
        for process in killed {
            LinuxProcesses::new().wait_for_exit(&process, KILL_TIMEOUT).await;
        }
    }
}

#[async_trait]
impl Hypervisor for QemuHypervisor {
    async fn binary(&self, wanted: &str) -> Result<QemuBinary, BinaryError> {
        binary::find(&self.environment, &self.versions, wanted).await
    }

    async fn names(&self, binary: &Path, list: NameList) -> Vec<ListedName> {
        names::names(&self.environment, binary, list).await
    }

    async fn launch(&self, launch: &Launch) -> Result<Launched, LaunchError> {
        self.reap().await;
        let attempt = Launcher {
            environment: &self.environment,
            run_locks: &self.run_locks,
            faults: &self.faults,
            killed: &self.killed,
            kept_boots: self.kept_boots,
        };
        let (launched, wrapper) = attempt.launch(launch).await?;
        if let Ok(mut wrappers) = self.wrappers.lock() {
            wrappers.extend(wrapper);
        }
        Ok(launched)
    }

    async fn take_over(&self, paths: &RunPaths) -> Result<(), LaunchError> {
        self.run_locks.hand_over(paths)
    }

    async fn discard_successor(&self, paths: &RunPaths) {
        self.run_locks.discard_successor(paths);
    }

    async fn serve_images(&self, launch: &Launch) -> Result<Box<dyn ImageServer>, LaunchError> {
        image_server::start(&self.environment, launch).await
    }

    async fn end_image_server(&self, paths: &RunPaths) {
        image_server::end(paths).await;
    }

    async fn find_process(&self, paths: &RunPaths) -> Option<ProcessIdentity> {
        find::find_process(paths)
    }

    async fn is_hidden(&self, paths: &RunPaths) -> bool {
        self.run_locks.is_held_by_hidden(paths).await
    }

    async fn lock_holder(&self, paths: &RunPaths) -> Option<ProcessIdentity> {
        self.run_locks.visible_qemu(paths)
    }

    async fn finish_launch(&self, paths: &RunPaths) {
        run_paths::remove_open_overlays(paths);
        match qmp_log::turn_on(paths).await {
            // QEMU answers, so it has read them.
            Ok(()) => run_paths::remove_start_files(paths),
            Err(error) => tracing::warn!(%error, paths = %paths.records.display(), "cannot turn the QMP log on"),
        }
    }

    async fn process_in_pid_file(&self, paths: &RunPaths) -> Option<ProcessIdentity> {
        find::process_in_pid_file(paths).or_else(|| self.run_locks.visible_qemu_of_run(paths))
    }

    async fn shutdown_event(&self, paths: &RunPaths) -> Option<RunEnd> {
        evidence::shutdown_event(paths)
    }

    async fn exit_report(&self, run: &Run) -> ExitReport {
        evidence::exit_report(run)
    }

    async fn note_exit(&self, run: &Run) {
        evidence::note_exit(run);
    }

    async fn explain_halt(&self, paths: &RunPaths, halted: HaltReason) -> (HaltReason, StateDetails) {
        evidence::halt_report(paths, halted)
    }

    async fn guest_resets(&self, paths: &RunPaths) -> u64 {
        evidence::guest_resets(paths)
    }

    async fn stopped_time(&self, paths: &RunPaths) -> StoppedTime {
        evidence::stopped_time(paths)
    }

    async fn remove_sockets(&self, paths: &RunPaths) {
        self.reap().await;
        run_paths::remove_sockets(paths).await;
    }

    async fn remove_vm_files(&self, vm_sockets: &Path, vm_records: &Path) {
        run_paths::remove_vm_sockets(vm_sockets).await;
        run_paths::remove_folder(vm_records);
        self.run_locks.remove(vm_records);
    }
}
