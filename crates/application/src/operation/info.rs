//! `info`: a VM's definition and what becomes of it.

use maqet_domain::config::Node;
use maqet_domain::storage::Preparation;
use maqet_domain::vm::{Origins, Phase};
use serde::{Deserialize, Serialize};

use crate::app::shown;
use crate::call::{Done, Effect, Operation};
use crate::{App, Error};

/// Shows a VM's definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct Info {
    /// The VM: a name, an id, or the unique beginning of one
    pub vm: String,
    /// Show where each value of the definition came from
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub origin: bool,
    /// Show the whole QEMU command line, ready to be pasted into a shell
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
    pub created_at: String,
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
        let machine = app.machine(&vm.definition)?;
        let vm_storage = app.vm_storage(&vm.entry.name);
        let mut storage = Vec::new();
        for spec in &machine.storage {
            let path = spec.path(&vm_storage);
            let exists = app.ports.images.exists(&path).await;
            let r#type = spec.driver.type_name();
            let is_made = matches!(spec.driver.preparation(spec, &path), Preparation::Image(_));
            storage.push(StorageInfo { name: spec.name.to_string(), r#type, file: shown(&path), exists, is_made });
        }
        let line = if self.command_line {
            let places = match &vm.entry.run {
                Some(run) if !matches!(run.phase, Phase::Ended(_)) => run.places.clone(),
                Some(_) | None => app.next_run(&vm.entry).1,
            };
            Some(app.command_line(&vm.entry, &machine, &places).await?)
        } else {
            None
        };
        Ok(Done::reading(VmInfo {
            id: vm.entry.id.to_string(),
            name: vm.entry.name.to_string(),
            created_at: vm.entry.created_at.to_string(),
            definition: vm.definition,
            origins: self.origin.then_some(vm.origins),
            storage,
            argv: line
                .as_ref()
                .map(|line| std::iter::once(shown(line.binary())).chain(line.words().iter().cloned()).collect()),
            command_line: line.map(|line| line.to_string()),
        }))
    }
}
