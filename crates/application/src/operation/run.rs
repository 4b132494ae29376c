//! `run`: runs a command in a VM that is made for it and thrown away.

mod concluded;
mod matrix;
mod prepare;
mod relay;
mod report;
mod result;
mod session;
mod spec;

use std::fmt;
use std::sync::Arc;

use derive_setters::Setters;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

pub use self::matrix::{MatrixCase, read_matrix};
use self::prepare::{Prepared, prepare};
pub use self::report::{TestCase, junit};
pub use self::result::{RunOutcome, RunPhase, RunResult, RunStep};
use self::session::Session;
pub use self::spec::{InvalidRunSpec, KeepVm, RunCopy, RunShare};
use crate::app::operations::{Done, Effect, Operation};
use crate::config::Document;
use crate::guest::copy::error::CopyError;
use crate::guest::request::ExecVia;
use crate::guest::streams::ExecStreams;
use crate::throw_away::remove_left_over;
use crate::wait::condition::Condition;
use crate::{App, Error, HumanDuration};

/// Runs a command in a VM that is made for it, of documents, another VM or a template, and thrown away.
///
/// A VM of a definition that has a template which is fresh goes on from that, instead of booting.
///
/// The disks are overlays, so that nothing of them is written, and ports of the host are chosen by QEMU. Everything is removed
/// however the command ends; what a killed process leaves, the next one removes. An error is one of the arguments; what
/// goes wrong afterward is part of the [`RunResult`].
#[derive(Clone, Default, Serialize, Deserialize, Setters)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct Run {
    /// The VM whose definition and disks are used; without it, those of the documents.
    pub vm: Option<String>,
    /// The template that the VM goes on from instead of booting, and that is rebuilt first if it is stale; there is neither
    /// a VM nor a document then.
    pub template: Option<String>,
    /// Documents, merged left to right, over the definition of the VM if there is one.
    pub documents: Vec<Document>,
    /// Single values, each as `key.path=value`; they override the documents.
    pub set: Vec<String>,
    /// Ignores unknown keys with a warning instead of refusing them.
    pub lenient: bool,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The user of the guest; root by default.
    pub user: Option<String>,
    /// The directory in the guest; the home directory of the user by default.
    pub directory: Option<String>,
    /// Variables of the environment, as in `NAME=VALUE`.
    pub environment: Vec<String>,
    /// The standard input; without one, the command reads from `/dev/null`.
    pub input: Option<String>,
    /// How long the command may take.
    pub timeout: Option<HumanDuration>,
    /// How long after SIGTERM the command gets SIGKILL, after a timeout; or the VM is ended, after a signal. Ten seconds by
    /// default.
    pub kill_after: Option<HumanDuration>,
    /// Whether standard error goes where standard output goes.
    pub merge: bool,
    /// By what the command is connected.
    pub via: ExecVia,
    /// What is copied into the guest before.
    pub copy: Vec<RunCopy>,
    /// What is copied from the guest afterward, also if the command failed or timed out.
    pub collect: Vec<RunCopy>,
    /// Directories of the host that the guest gets.
    pub share: Vec<RunShare>,
    /// Whether the VM stays, and runs on.
    pub keep: KeepVm,
    /// What to wait for before; `agent` by default.
    pub wait: Vec<Condition>,
    /// How long that may take; five minutes by default.
    pub boot_timeout: Option<HumanDuration>,
    /// The streams of the caller; not part of the JSON.
    #[serde(skip)]
    #[setters(skip)]
    streams: Option<Arc<dyn ExecStreams>>,
    /// Whose input and signals are for the command, while its output is captured; not part of the JSON.
    #[serde(skip)]
    #[setters(skip)]
    captured: Option<Arc<dyn ExecStreams>>,
    /// Is notified when the command is about to begin; not part of the JSON.
    #[serde(skip)]
    #[setters(skip)]
    begins: Option<Arc<Notify>>,
}

impl fmt::Debug for Run {
    /// Without the environment and the input, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("vm", &self.vm).field("keep", &self.keep).finish_non_exhaustive()
    }
}

impl Run {
    /// Runs `command`.
    pub fn new(command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { command: command.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Connects the command with streams of the caller, instead of capturing its output. Their signals end the whole run.
    #[must_use]
    pub fn streams(self, streams: Arc<dyn ExecStreams>) -> Self {
        Self { streams: Some(streams), ..self }
    }

    /// Passes the input and the signals of these streams on to the command, whose output is captured.
    #[must_use]
    pub fn captured(self, streams: Arc<dyn ExecStreams>) -> Self {
        Self { captured: Some(streams), ..self }
    }

    /// Has `begins` notified when the command is about to begin, and its output to be written.
    #[must_use]
    pub fn notifying(self, begins: Arc<Notify>) -> Self {
        Self { begins: Some(begins), ..self }
    }
}

impl Operation for Run {
    const NAME: &'static str = "run";
    const EFFECT: Effect = Effect::Acts;
    type Output = RunResult;

    async fn run(&self, app: &App) -> Result<Done<RunResult>, Error> {
        if self.documents.is_empty() && self.vm.is_none() && self.template.is_none() {
            return Err(Error::ConfigRequired);
        }
        // Before anything is made: the command is checked again where it runs.
        self.exec("").request(app, self.has_terminal())?;
        for copy in &self.copy {
            app.ports.host_files.source(&copy.of_host()).await.map_err(CopyError::from)?;
        }
        remove_left_over(app, Self::NAME).await;
        let Prepared { vm, warnings, mut guard, template, rebuilt } = Box::pin(prepare(app, self)).await?;
        let name = template.as_ref().map(|template| template.record.name.to_string());
        let result = Box::pin(Session::new(app, self, vm, template).run()).await;
        if result.not_removed.is_none() {
            guard.retire();
        }
        let result = RunResult { warnings, template: name, rebuilt, ..result };
        Ok(Done::reading(result))
    }
}
