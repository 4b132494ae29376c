//! `exec stop`: ends a detached command.

use derive_setters::Setters;
use maqet_domain::guest::DetachedCommand;
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::guest::detached::DetachedCommands;
use crate::operation::guest::ways::unless_stopped;
use crate::vm::monitor::Monitored;
use crate::{App, Error, HumanDuration, limits};

/// End a detached command of a running VM
///
/// The process group of the command gets SIGTERM, and what is left of it SIGKILL. A command that has ended already is left
/// as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct ExecStop {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// The ID of the command, or a unique prefix of it
    #[cfg_attr(feature = "clap", arg(value_name = "ID"))]
    pub command: String,
    /// Time between SIGTERM and SIGKILL [default: 10s]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    pub kill_after: Option<HumanDuration>,
}

/// A detached command that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DetachedEnded {
    /// The ID of the VM.
    pub id: String,
    /// The name of the VM.
    pub name: String,
    /// The command.
    pub command: DetachedCommand,
    /// Whether this call ended it; `false` if it had ended before.
    pub stopped: bool,
}

impl ExecStop {
    /// Ends the command `command` of the VM `vm`.
    pub fn new(vm: impl Into<String>, command: impl Into<String>) -> Self {
        Self { vm: vm.into(), command: command.into(), kill_after: None }
    }
}

impl Operation for ExecStop {
    const NAME: &'static str = "exec.stop";
    const EFFECT: Effect = Effect::Acts;
    type Output = DetachedEnded;

    async fn run(&self, app: &App) -> Result<Done<DetachedEnded>, Error> {
        let vm = Monitored::find_unchecked(app, &self.vm).await?;
        let ended = async {
            let commands = DetachedCommands::open(app, &vm).await?;
            let command = commands.find(&self.command).await?;
            if command.has_ended() {
                return Ok((command, false));
            }
            let kill_after = self.kill_after.map_or(limits::KILL_AFTER, HumanDuration::duration);
            Ok(commands.stop(&command.id, kill_after).await?)
        };
        let (command, stopped) = match ended.await {
            Ok(ended) => ended,
            Err(error) => return Err(unless_stopped(app, &vm, error).await),
        };
        let ended = DetachedEnded { id: vm.entry.id.to_string(), name: vm.entry.name.to_string(), command, stopped };
        Ok(Done::reading(ended).about(vm.entry.id))
    }
}
