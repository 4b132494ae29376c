//! `cp`: copies files between host and guest.

mod ended;

use std::fmt;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use derive_setters::Setters;
use futures_util::future::{Either, join, select};
use maqet_domain::guest::Nonce;
use maqet_domain::guest::copy::{
    CopyFilter, CopyPlace, GuestScript, GuestSource, GuestTarget, SourceFacts, copied_name,
};
use maqet_domain::port::{AgentError, CopySummary, HostFileError, SourceRequest, TargetRequest};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use self::ended::Ended;
use super::exec::{Exec, ExecResult};
use crate::app::operations::{Done, Effect, Operation};
use crate::guest::agent::Agent;
use crate::guest::copy::error::CopyError;
use crate::guest::copy::receiver::{Destination, Received, receive};
use crate::guest::copy::staged::{self, StagedFile};
use crate::guest::copy::streams::{Content, CopyStreams, Upload};
use crate::guest::error::ExecError;
use crate::guest::request::{ExecVia, ExecWayRefused};
use crate::guest::streams::ExecStreams;
use crate::job::Job;
use crate::vm::monitor::Monitored;
use crate::wait::watcher::ssh_forward;
use crate::{App, Error, HumanDuration, ProgressUnit, limits};

/// Copies files and directories between host and guest.
///
/// One side is `VM:PATH`, the other a path of the host, or `-` for the [`streams`](Self::streams) of the caller.
#[derive(Clone, Serialize, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct Cp {
    /// What is copied: `VM:PATH`, a path, or `-`.
    pub source: CopyPlace,
    /// Where it is copied to: an existing directory, or a new name.
    pub target: CopyPlace,
    /// Whether directories are copied, with all that is in them.
    #[serde(default)]
    pub recursive: bool,
    /// Whether times and permissions are kept.
    #[serde(default)]
    pub preserve: bool,
    /// Whether SHA-256 checksums of what was written are compared with those of the source.
    #[serde(default)]
    pub verify: bool,
    /// Patterns of what is left out of a directory.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// How long the copy may take.
    pub timeout: Option<HumanDuration>,
    /// By what it goes.
    #[serde(default)]
    pub via: ExecVia,
    /// The streams of the caller; not part of the JSON.
    #[serde(skip)]
    #[setters(skip)]
    streams: Option<Arc<dyn ExecStreams>>,
}

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Copied {
    /// The ID of the VM.
    pub id: String,
    /// The name of the VM.
    pub name: String,
    /// What was copied.
    pub source: String,
    /// Where it was copied to.
    pub target: String,
    /// How much there was of it, and what was left out.
    #[serde(flatten)]
    pub summary: CopySummary,
    /// Whether checksums were compared.
    pub verified: bool,
    /// By what it went.
    pub via: ExecVia,
    /// What was not taken, and why.
    pub refused: Vec<ExecWayRefused>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

impl fmt::Debug for Cp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cp").field("source", &self.source).field("target", &self.target).finish_non_exhaustive()
    }
}

/// A side of a copy that is not in a guest.
enum HostSide<'a> {
    Path(&'a str),
    Stream(Arc<dyn ExecStreams>),
}

/// What is copied, and in which direction.
struct Sides<'a> {
    vm: &'a str,
    path: &'a str,
    host: HostSide<'a>,
    is_into_guest: bool,
}

/// A copy that is under way.
struct Running<'a> {
    app: &'a App,
    cp: &'a Cp,
    vm: &'a Monitored<'a>,
    path: &'a str,
    id: Nonce,
    job: Job<'a>,
    began: Instant,
    /// How many bytes there are, where that is known.
    total: AtomicU64,
    staged: StagedFile,
}

impl Cp {
    /// Copies `source` to `target`.
    pub fn new(source: CopyPlace, target: CopyPlace) -> Self {
        Self {
            source,
            target,
            recursive: false,
            preserve: false,
            verify: false,
            exclude: Vec::new(),
            timeout: None,
            via: ExecVia::Auto,
            streams: None,
        }
    }

    /// Connects `-` with streams of the caller.
    #[must_use]
    pub fn streams(self, streams: Arc<dyn ExecStreams>) -> Self {
        Self { streams: Some(streams), ..self }
    }

    fn sides(&self) -> Result<Sides<'_>, CopyError> {
        let (vm, path, host, is_into_guest) = match (&self.source, &self.target) {
            (CopyPlace::Guest { .. }, CopyPlace::Guest { .. }) => return Err(CopyError::TwoVms),
            (CopyPlace::Guest { vm, path }, host) => (vm, path, host, false),
            (host, CopyPlace::Guest { vm, path }) => (vm, path, host, true),
            (first, second) => {
                return Err(CopyError::VmRequired { first: first.to_string(), second: second.to_string() });
            }
        };
        let host = match host {
            CopyPlace::Host(path) => HostSide::Path(path),
            _ if self.recursive => return Err(CopyError::StreamUnsupported { vm: vm.clone() }),
            _ => HostSide::Stream(self.streams.clone().ok_or(CopyError::StreamRequired)?),
        };
        Ok(Sides { vm, path, host, is_into_guest })
    }
}

impl Operation for Cp {
    const NAME: &'static str = "cp";
    const EFFECT: Effect = Effect::Acts;
    type Output = Copied;

    /// Does not lock the VM, which must be stoppable meanwhile.
    async fn run(&self, app: &App) -> Result<Done<Copied>, Error> {
        let sides = self.sides()?;
        let vm = Monitored::find_unchecked(app, sides.vm).await?;
        let running = Running {
            app,
            cp: self,
            job: app.jobs.start(Self::NAME, &vm.entry.name),
            vm: &vm,
            path: sides.path,
            id: app.ports.ids.nonce(),
            began: Instant::now(),
            total: AtomicU64::new(0),
            staged: StagedFile::default(),
        };
        let (summary, via, refused) = if sides.is_into_guest {
            Box::pin(running.upload(sides.host)).await?
        } else {
            Box::pin(running.download(sides.host)).await?
        };
        let result = Copied {
            id: vm.entry.id.to_string(),
            name: vm.entry.name.to_string(),
            source: self.source.to_string(),
            target: self.target.to_string(),
            summary,
            verified: self.verify,
            via,
            refused,
            duration_ms: u64::try_from(running.began.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        Ok(Done::reading(result).about(vm.entry.id))
    }
}

/// What was copied, by what, and what was not taken.
type Outcome = (CopySummary, ExecVia, Vec<ExecWayRefused>);

impl Running<'_> {
    async fn upload(&self, host: HostSide<'_>) -> Result<Outcome, Error> {
        // A stream may be read only once it is known by what it goes.
        let refused = match self.streaming_way() {
            None => Vec::new(),
            Some(via) => match Box::pin(self.upload_by_streams(&host, via)).await {
                Err(error) => match self.refused(error)? {
                    (refused, ExecVia::Agent) => refused,
                    (refused, via) => return Ok((Box::pin(self.upload_by_streams(&host, via)).await?, via, refused)),
                },
                Ok(summary) => return Ok((summary, via, Vec::new())),
            },
        };
        let (streams, facts, name) = self.open_upload(&host).await?;
        let input = self.stage().await?;
        let written = self.bounded(&streams, staged::write(self.agent(), &input, &streams, &self.staged)).await;
        let (summary, error) = streams.sent().await;
        let written = written.and_then(|()| error.map_or(Ok(()), |error| Err(CopyError::from(error).into())));
        let script = self.target(&facts, name.as_deref(), Some(&input)).script(&self.id);
        let ran = match written {
            Ok(()) => self.run_script(script, &CopyStreams::none(), ExecVia::Agent).await,
            Err(error) => Err(error),
        };
        // The script does so itself, unless it was not started.
        if ran.is_err() {
            self.unstage(&input).await;
        }
        ran.map(|_| (summary, ExecVia::Agent, refused))
    }

    async fn upload_by_streams(&self, host: &HostSide<'_>, via: ExecVia) -> Result<CopySummary, Error> {
        let (streams, facts, name) = self.open_upload(host).await?;
        let script = self.target(&facts, name.as_deref(), None).script(&self.id);
        let ran = self.run_script(script, &streams, via).await;
        let (summary, error) = streams.sent().await;
        match error {
            // The guest only says that the end is missing.
            Some(error) => Err(CopyError::from(error).into()),
            None => ran.map(|_| summary),
        }
    }

    async fn open_upload(&self, host: &HostSide<'_>) -> Result<(Arc<CopyStreams>, SourceFacts, Option<String>), Error> {
        let (content, facts, name) = match host {
            HostSide::Path(path) => {
                let request = SourceRequest {
                    path: PathBuf::from(path),
                    is_recursive: self.cp.recursive,
                    keeps: self.cp.preserve,
                    is_verified: self.cp.verify,
                    filter: CopyFilter::new(&self.cp.exclude),
                };
                let source = self.app.ports.host_files.source(&request).await.map_err(CopyError::from)?;
                let facts = source.facts();
                (Content::Host(source), facts, copied_name(path).map(str::to_owned))
            }
            HostSide::Stream(streams) => {
                let facts = SourceFacts::File { size: None, mode: 0o644, modified: 0, digest: None };
                (Content::Stream(Arc::clone(streams)), facts, None)
            }
        };
        if let SourceFacts::File { size: Some(size), .. } = facts {
            self.total.store(size, Ordering::Relaxed);
        }
        let upload = Upload::new(content, &facts, &self.id, self.cp.verify);
        Ok((CopyStreams::receiving(upload), facts, name))
    }

    fn target<'t>(&'t self, source: &'t SourceFacts, name: Option<&'t str>, input: Option<&'t str>) -> GuestTarget<'t> {
        GuestTarget { path: self.path, name, source, keeps: self.cp.preserve, is_verified: self.cp.verify, input }
    }

    async fn download(&self, host: HostSide<'_>) -> Result<Outcome, Error> {
        let refused = match self.streaming_way() {
            None => Vec::new(),
            Some(via) => match Box::pin(self.download_by_streams(&host, via)).await {
                Err(error) => match self.refused(error)? {
                    (refused, ExecVia::Agent) => refused,
                    (refused, via) => {
                        return Ok((Box::pin(self.download_by_streams(&host, via)).await?, via, refused));
                    }
                },
                Ok(summary) => return Ok((summary, via, Vec::new())),
            },
        };
        let output = self.stage().await?;
        let copied = Box::pin(self.download_staged(&host, &output)).await;
        self.unstage(&output).await;
        Ok((copied?, ExecVia::Agent, refused))
    }

    async fn download_staged(&self, host: &HostSide<'_>, output: &str) -> Result<CopySummary, Error> {
        let filter = CopyFilter::new(&self.cp.exclude);
        let script = self.source(&filter, Some(output)).script(&self.id);
        self.run_script(script, &CopyStreams::none(), ExecVia::Agent).await?;
        let (streams, pieces) = CopyStreams::sending();
        let read = async {
            let read = self.bounded(&streams, staged::read(self.agent(), output, &streams, &self.staged)).await;
            streams.end_output();
            read
        };
        let (read, received) = join(read, self.receive(&streams, pieces, host)).await;
        let received = received.map_err(CopyError::from)?;
        read?;
        Ok(self.complete(received).await?)
    }

    async fn download_by_streams(&self, host: &HostSide<'_>, via: ExecVia) -> Result<CopySummary, Error> {
        let (streams, pieces) = CopyStreams::sending();
        let filter = CopyFilter::new(&self.cp.exclude);
        let script = self.source(&filter, None).script(&self.id);
        let run = async {
            let ran = self.run_script(script, &streams, via).await;
            streams.end_output();
            ran
        };
        let (ran, received) = join(run, self.receive(&streams, pieces, host)).await;
        let received = match (ran, received) {
            // A script that failed has not sent everything, which is not what went wrong.
            (Err(error), Ok(_) | Err(HostFileError::Incomplete)) => return Err(error),
            (_, received) => received.map_err(CopyError::from)?,
        };
        Ok(self.complete(received).await?)
    }

    async fn receive(
        &self,
        streams: &CopyStreams,
        pieces: tokio::sync::mpsc::Receiver<Vec<u8>>,
        host: &HostSide<'_>,
    ) -> Result<Received, HostFileError> {
        let destination = match host {
            HostSide::Stream(streams) => Destination::Stream(Arc::clone(streams)),
            HostSide::Path(path) => {
                let request = TargetRequest {
                    path: PathBuf::from(path),
                    name: copied_name(self.path).map(str::to_owned),
                    source: SourceFacts::Directory,
                    keeps: self.cp.preserve,
                    is_verified: self.cp.verify,
                    filter: CopyFilter::new(&self.cp.exclude),
                };
                Destination::Host(&*self.app.ports.host_files, request)
            }
        };
        let received = receive(pieces, destination, |size| self.total.store(size, Ordering::Relaxed)).await;
        if received.is_err() {
            streams.stop();
        }
        received
    }

    async fn complete(&self, received: Received) -> Result<CopySummary, CopyError> {
        if matches!(received, Received::Nothing) {
            return Err(CopyError::Unexpected { vm: self.vm.entry.name.clone(), path: self.path.to_owned() });
        }
        Ok(received.finish().await?)
    }

    fn source<'s>(&'s self, filter: &'s CopyFilter, output: Option<&'s str>) -> GuestSource<'s> {
        let (is_recursive, is_verified) = (self.cp.recursive, self.cp.verify);
        GuestSource { path: self.path, is_recursive, is_verified, filter, output }
    }

    /// Runs a script with these streams; one that is canceled is ended first.
    async fn run_script(
        &self,
        script: GuestScript,
        streams: &Arc<CopyStreams>,
        via: ExecVia,
    ) -> Result<ExecResult, Error> {
        let exec = self.exec(script, via).streams(Arc::clone(streams) as _);
        let result = self.guarded(streams, Box::pin(exec.run(self.app))).await??.value;
        self.ended(&streams.errors()).check(&result)?;
        Ok(result)
    }

    /// Does work that ends soon after its streams are stopped; fails if the copy is canceled.
    async fn guarded<T>(&self, streams: &CopyStreams, work: impl Future<Output = T>) -> Result<T, Error> {
        let work = pin!(self.reporting(streams, work));
        let cut_off = pin!(self.job.cut_off());
        match select(cut_off, work).await {
            Either::Left((error, work)) => {
                streams.stop();
                work.await;
                Err(error)
            }
            Either::Right((value, _)) => Ok(value),
        }
    }

    async fn reporting<T>(&self, streams: &CopyStreams, work: impl Future<Output = T>) -> T {
        let report = async || match self.total.load(Ordering::Relaxed) {
            0 => self.job.report_without_total(ProgressUnit::Bytes, streams.done()),
            total => self.job.report(ProgressUnit::Bytes, streams.done().min(total), total),
        };
        self.job.ticking(work, report).await
    }

    /// Returns the way by which the bytes go at first; none if the agent copies without streams.
    fn streaming_way(&self) -> Option<ExecVia> {
        match self.cp.via {
            ExecVia::Agent => None,
            ExecVia::Auto | ExecVia::Ports => Some(ExecVia::Ports),
            ExecVia::Ssh => Some(ExecVia::Ssh),
        }
    }

    /// Returns why the ports were not taken, and the way that is tried instead, or the error if there is none.
    fn refused(&self, error: Error) -> Result<(Vec<ExecWayRefused>, ExecVia), Error> {
        let (refused, via) = match (self.cp.via, error) {
            (ExecVia::Auto, Error::Exec(ExecError::NoWay { refused, .. })) => (refused, ExecVia::Agent),
            (ExecVia::Auto, Error::Exec(error)) if error.has_no_agent() && self.is_forwarded() => {
                (vec![ExecWayRefused { via: ExecVia::Agent, reason: error.to_string() }], ExecVia::Ssh)
            }
            (_, error) => return Err(error),
        };
        tracing::info!(reason = refused.first().map(|refused| refused.reason.as_str()), %via, "copying in another way");
        Ok((refused, via))
    }

    /// Returns whether a port is forwarded to the server for SSH of the guest.
    fn is_forwarded(&self) -> bool {
        ssh_forward(&self.vm.entry, &self.vm.run).is_ok()
    }

    fn agent(&self) -> Agent<'_> {
        Agent { agents: &*self.app.ports.agents, paths: &self.vm.run.paths }
    }

    /// Does work of the agent, which is dropped if the copy is canceled or its time is over.
    async fn bounded(
        &self,
        streams: &CopyStreams,
        work: impl Future<Output = Result<(), AgentError>>,
    ) -> Result<(), Error> {
        let name = &self.vm.entry.name;
        let work = self.job.run(self.reporting(streams, work));
        let done = match self.cp.timeout {
            None => work.await,
            Some(after) => match timeout_at(self.began + after.duration(), work).await {
                Ok(done) => done,
                Err(_) => return Err(CopyError::TimedOut { vm: name.clone(), after }.into()),
            },
        };
        Ok(done?.map_err(|source| ExecError::Agent { vm: name.clone(), source })?)
    }

    /// Makes a file in the guest for the agent, and returns its path.
    async fn stage(&self) -> Result<String, Error> {
        let script = GuestScript::staging(&self.id);
        let exec = self.exec(script, ExecVia::Agent);
        let result = Box::pin(exec.run(self.app)).await?.value;
        let errors = result.stderr.clone().unwrap_or_default();
        self.ended(&errors).check(&result)?;
        let path = result.stdout.as_deref().and_then(|output| output.lines().next()).unwrap_or_default();
        Ok(path.to_owned())
    }

    async fn unstage(&self, path: &str) {
        if let Err(error) = self.staged.close(self.agent()).await {
            tracing::warn!(%error, path, "cannot close the file of a copy in the guest");
        }
        let script = GuestScript::removal(&self.id, path);
        let exec = self.exec(script, ExecVia::Agent).timeout(None);
        if let Err(error) = Box::pin(exec.run(self.app)).await {
            tracing::warn!(%error, path, "cannot remove the file of a copy in the guest");
        }
    }

    fn exec(&self, script: GuestScript, via: ExecVia) -> Exec {
        let elapsed = self.began.elapsed();
        let left = self.cp.timeout.map(|timeout| HumanDuration::new(timeout.duration().saturating_sub(elapsed)));
        Exec::new(self.vm.entry.id.to_string(), script.args)
            .environment(vec![script.variable])
            .timeout(left)
            .kill_after(Some(HumanDuration::new(limits::COPY_KILL_AFTER)))
            .via(via)
    }

    fn ended<'e>(&'e self, errors: &'e str) -> Ended<'e> {
        Ended { vm: &self.vm.entry.name, path: self.path, timeout: self.cp.timeout, errors }
    }
}
