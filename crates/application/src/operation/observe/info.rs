//! `info`: a VM's definition and what becomes of it.

use jiff::Timestamp;
use maqet_domain::command_line::CommandLine;
use maqet_domain::config::Node;
use maqet_domain::machine::Machine;
use maqet_domain::storage::Preparation;
use maqet_domain::vm::{Origins, Phase, VmEntry};
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::{App, Error};

/// Show a VM's definition and its QEMU command line
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct Info {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// Show where each value of the definition came from
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub origin: bool,
    /// Show the whole QEMU command line, and what is made before it, ready to be pasted into a shell
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub command_line: bool,
}

/// What a VM is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VmInfo {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was defined.
    pub created_at: Timestamp,
    /// Its definition, as it is stored.
    pub definition: Node,
    /// Where each value of the definition came from, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origins: Option<Origins>,
    /// Its disks.
    pub storage: Vec<StorageInfo>,
    /// The binary and its arguments, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argv: Option<Vec<String>>,
    /// The same as one line for a shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
    /// What has to be made before that line runs, as commands of a shell; nothing for a VM that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groundwork: Option<Vec<String>>,
}

/// One disk of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StorageInfo {
    /// Its name.
    pub name: String,
    /// Its storage type.
    pub r#type: &'static str,
    /// Where it is.
    pub file: String,
    /// Whether it is there already.
    pub exists: bool,
    /// Whether the first start makes it if it is not.
    pub is_made: bool,
}

impl Operation for Info {
    const NAME: &'static str = "info";
    const EFFECT: Effect = Effect::Reads;
    type Output = VmInfo;

    async fn run(&self, app: &App) -> Result<Done<VmInfo>, Error> {
        let vm = app.vm(&self.vm).await?;
        let machine = app.machine(&vm)?;
        let vm_storage = app.folders.vm_storage(&vm.entry.name);
        let mut storage = Vec::new();
        for spec in &machine.storage {
            let path = spec.path(&vm_storage);
            let (path, is_made) = match spec.driver.preparation(spec, &path) {
                Preparation::Image(plan) => (plan.path, true),
                Preparation::Existing(path) | Preparation::Folder(path) => (path, false),
                Preparation::Nothing => (path, false),
            };
            let exists = app.ports.images.exists(&path).await;
            let r#type = spec.driver.type_name();
            storage.push(StorageInfo { name: spec.name.to_string(), r#type, file: shown(&path), exists, is_made });
        }
        let (line, groundwork) = if self.command_line {
            let (line, groundwork) = command_line(app, &vm.entry, &machine).await?;
            (Some(line), Some(groundwork))
        } else {
            (None, None)
        };
        Ok(Done::reading(VmInfo {
            id: vm.entry.id.to_string(),
            name: vm.entry.name.to_string(),
            created_at: vm.entry.created_at,
            definition: vm.definition,
            origins: self.origin.then_some(vm.origins),
            storage,
            argv: line
                .as_ref()
                .map(|line| std::iter::once(shown(line.binary())).chain(line.words().iter().cloned()).collect()),
            command_line: line.map(|line| line.to_string()),
            groundwork,
        }))
    }
}

/// Returns the command line of the run that is, or of the next one with what has to be made for it.
async fn command_line(app: &App, entry: &VmEntry, machine: &Machine) -> Result<(CommandLine, Vec<String>), Error> {
    if let Some(run) = entry.run.as_ref().filter(|run| !matches!(run.phase, Phase::Ended(_))) {
        return Ok((app.preflight().command_line(entry, machine, &run.paths).await?, Vec::new()));
    }
    let paths = app.folders.next_run(entry).1;
    let line = app.preflight().command_line(entry, machine, &paths).await?;
    Ok((line, app.preflight().setup_commands(entry, machine, &paths).await?))
}
