//! Directories with short paths, and QEMU processes that end with their test.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use maqet_adapters_linux::ProcessEnvironment;
use maqet_adapters_qemu::QemuHypervisor;
use maqet_domain::command_line::{Accelerator, CommandLine, LaunchContext};
use maqet_domain::config::Node;
use maqet_domain::machine::{Machine, builtin_handlers};
use maqet_domain::port::{Hypervisor, Launch, LaunchError};
use maqet_domain::storage::{FileKinds, builtin_drivers};
use maqet_domain::vm::{BootNumber, ProcessIdentity, RunPaths, VmName};
use maqet_testkit::qemu;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longer than anything here takes on a busy host.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// Runs a test's future on the one thread of the command line's runtime.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(crate) fn folder() -> TempDir {
    tempfile::Builder::new().prefix("mq").tempdir_in("/tmp").unwrap()
}

pub(crate) fn environment() -> ProcessEnvironment {
    // The QEMU that the tests run on, and nothing else of the caller.
    with_path(&format!("{}:/usr/bin:/bin", qemu::emulator().parent().unwrap().display()))
}

pub(crate) fn with_path(path: &str) -> ProcessEnvironment {
    [("PATH".into(), path.into())].into_iter().collect()
}

/// Writes a shell script that can be run.
///
/// In a process of its own: a file that this one had open for writing could still be open in a child of another test,
/// and running it would fail with ETXTBSY.
pub(crate) fn script(folder: &Path, name: &str, body: &str) -> PathBuf {
    let path = folder.join(name);
    let written = std::process::Command::new("sh")
        .args(["-c", r#"printf '#!/bin/sh\n%s\n' "$1" > "$0" && chmod 700 "$0""#])
        .args([path.as_os_str(), body.as_ref()])
        .status();
    assert!(written.unwrap().success());
    path
}

/// Folders to start QEMU in; processes that still run there are killed on drop.
pub(crate) struct Bench {
    pub(crate) folder: TempDir,
    pub(crate) hypervisor: QemuHypervisor,
    pub(crate) paths: RunPaths,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = folder();
        let paths = RunPaths::new(&folder.path().join("r/vm"), &folder.path().join("s/vm"), BootNumber(1));
        let hypervisor = QemuHypervisor::new(environment(), folder.path().join("cache"), folder.path().join("locks"));
        Self { folder, hypervisor, paths }
    }

    /// Returns the launch of a paused VM, from a definition in JSON.
    pub(crate) fn launch_of(&self, definition: &str) -> Launch {
        self.launch_with(&qemu::emulator(), definition)
    }

    pub(crate) fn launch_with(&self, binary: &Path, definition: &str) -> Launch {
        let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
        let definition: Node = serde_json::from_str(definition).unwrap();
        let machine = Machine::check(&definition, &handlers).unwrap();
        let setting = LaunchContext {
            name: VmName::parse("web").unwrap(),
            id: "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11".parse().unwrap(),
            binary: binary.to_owned(),
            architecture: "x86_64".to_owned(),
            accelerator: Accelerator::Tcg,
            vm_storage: self.folder.path().to_owned(),
            paths: self.paths.clone(),
            uefi: None,
            tpm: None,
            credentials: Vec::new(),
            file_kinds: FileKinds::default(),
            version: qemu::version().parse().unwrap(),
            is_root: rustix::process::geteuid().is_root(),
        };
        let command_line = CommandLine::new(&machine, &setting).unwrap();
        Launch {
            command_line,
            paths: self.paths.clone(),
            files: Vec::new(),
            timeout: TIMEOUT,
            is_foreground: false,
            is_successor: false,
        }
    }

    /// Starts a VM that is paused from its first instruction.
    pub(crate) async fn start(&self) -> ProcessIdentity {
        self.hypervisor.launch(&self.launch_of(PAUSED)).await.unwrap().process
    }

    pub(crate) async fn refusal(&self, definition: &str) -> LaunchError {
        self.hypervisor.launch(&self.launch_of(definition)).await.unwrap_err()
    }
}

pub(crate) const PAUSED: &str = r#"{"memory": "32M", "args": ["-S"]}"#;

impl Drop for Bench {
    fn drop(&mut self) {
        while let Some(left) = wait_in_thread(&self.hypervisor, &self.paths) {
            let pid = Pid::from_raw(left.pid.try_into().unwrap()).unwrap();
            let _ = kill_process(pid, Signal::KILL);
            std::thread::yield_now();
        }
    }
}

/// Finds what runs at `places`, also while a runtime drops the test's future.
fn wait_in_thread(hypervisor: &QemuHypervisor, paths: &RunPaths) -> Option<ProcessIdentity> {
    std::thread::scope(|scope| scope.spawn(|| wait(hypervisor.find_process(paths))).join().unwrap())
}
