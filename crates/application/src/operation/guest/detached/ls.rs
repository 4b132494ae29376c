//! `exec ls`: lists the detached commands of a running VM.

use maqet_domain::guest::DetachedCommand;
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::guest::detached::DetachedCommands;
use crate::operation::guest::ways::unless_stopped;
use crate::vm::monitor::Monitored;
use crate::{App, Error};

/// List the detached commands of a running VM
///
/// Those that have ended are listed, too, until 16 others have ended after them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ExecLs {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
}

impl ExecLs {
    /// Lists those of the VM `vm`.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into() }
    }
}

impl Operation for ExecLs {
    const NAME: &'static str = "exec.ls";
    const EFFECT: Effect = Effect::Reads;
    type Output = Vec<DetachedCommand>;

    async fn run(&self, app: &App) -> Result<Done<Vec<DetachedCommand>>, Error> {
        let vm = Monitored::find_unchecked(app, &self.vm).await?;
        let listed = async { Ok(DetachedCommands::open(app, &vm).await?.list().await?) };
        match listed.await {
            Ok(commands) => Ok(Done::reading(commands).about(vm.entry.id)),
            Err(error) => Err(unless_stopped(app, &vm, error).await),
        }
    }
}
