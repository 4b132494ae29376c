//! `info`: a VM's definition and its command line.

use derive_setters::Setters;
use jiff::Timestamp;
use maqet_domain::command_line::CommandLine;
use maqet_domain::config::Node;
use maqet_domain::machine::{Machine, without_secrets};
use maqet_domain::storage::{ByteLimit, Preparation, RequestLimit};
use maqet_domain::vm::{Origins, VmEntry};
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::{App, Error};

/// Show a VM's definition and its QEMU command line
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct Info {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// Show where each value of the definition comes from
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub origin: bool,
    /// Show credentials and passwords, which are `(hidden)` otherwise
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub secrets: bool,
    /// Show the QEMU command line and its setup commands, ready to paste into a shell
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub command_line: bool,
}

impl Info {
    /// Returns the definition of the VM `vm`.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into(), origin: false, secrets: false, command_line: false }
    }
}

/// The definition of a VM.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct VmInfo {
    /// Its ID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was defined.
    pub created_at: Timestamp,
    /// Its definition, as stored; without its secrets unless requested.
    pub definition: Node,
    /// Where each value of the definition comes from, if requested.
    pub origins: Option<Origins>,
    /// Its disks.
    pub storage: Vec<DefinedStorage>,
    /// The binary and its arguments, if requested.
    pub argv: Option<Vec<String>>,
    /// The same as one line for a shell.
    pub command_line: Option<String>,
    /// The shell commands that create what the command line needs; none for a running VM.
    pub setup_commands: Option<Vec<String>>,
}

/// One disk of a VM.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DefinedStorage {
    /// Its name.
    pub name: String,
    /// Its storage type.
    pub r#type: &'static str,
    /// Its path.
    pub file: String,
    /// Whether it exists.
    pub exists: bool,
    /// Whether a start creates it if it does not exist; `false` for one that was created once and is gone.
    pub created_on_start: bool,
    /// The limit of the requests per second, with that of the defaults.
    pub iops: Option<RequestLimit>,
    /// The same of the bytes per second.
    pub bps: Option<ByteLimit>,
}

impl Operation for Info {
    const NAME: &'static str = "info";
    const EFFECT: Effect = Effect::Reads;
    type Output = VmInfo;

    async fn run(&self, app: &App) -> Result<Done<VmInfo>, Error> {
        let vm = app.vms().find(&self.vm).await?;
        let mut machine = app.machine(&vm)?;
        if self.command_line {
            app.preflight().resolve_architecture(&mut machine).await?;
        }
        let preflight = app.preflight();
        let missing = preflight.missing_images(&vm.entry, &machine).await;
        let lost = preflight.lost_images(&vm.entry, missing).await?;
        let mut storage = Vec::new();
        for drive in preflight.drives(&vm.entry.name, &machine) {
            let (spec, path) = (drive.storage, drive.path);
            let (path, created_on_start) = match drive.preparation {
                Preparation::Image(plan) => (plan.path, !lost.iter().any(|image| image.path == path)),
                Preparation::Existing(path) | Preparation::Directory(path) => (path, false),
                Preparation::Nothing => (path, false),
            };
            let exists = app.ports.images.exists(&path).await;
            let r#type = spec.driver.type_name();
            let (iops, bps) = spec.limits.as_texts();
            storage.push(DefinedStorage {
                name: spec.name.to_string(),
                r#type,
                file: shown(&path),
                exists,
                created_on_start,
                iops,
                bps,
            });
        }
        let (line, setup_commands) = if self.command_line {
            let (line, setup_commands) = command_line(app, &vm.entry, &machine).await?;
            (Some(line), Some(setup_commands))
        } else {
            (None, None)
        };
        Ok(Done::reading(VmInfo {
            id: vm.entry.id.to_string(),
            name: vm.entry.name.to_string(),
            created_at: vm.entry.created_at,
            definition: if self.secrets { vm.definition } else { without_secrets(vm.definition) },
            origins: self.origin.then_some(vm.origins),
            storage,
            argv: line
                .as_ref()
                .map(|line| std::iter::once(shown(line.binary())).chain(line.args().iter().cloned()).collect()),
            command_line: line.map(|line| line.to_string()),
            setup_commands,
        }))
    }
}

/// Returns the command line of the current run, or of the next one with its setup commands.
async fn command_line(app: &App, entry: &VmEntry, machine: &Machine) -> Result<(CommandLine, Vec<String>), Error> {
    if let Some(run) = entry.open_run() {
        return Ok((app.preflight().command_line(entry, machine, &run.paths).await?, Vec::new()));
    }
    let paths = app.folders.next_run(entry).1;
    let line = app.preflight().command_line(entry, machine, &paths).await?;
    Ok((line, app.preflight().setup_commands(entry, machine, &paths).await?))
}
