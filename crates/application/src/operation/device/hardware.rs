//! `qmp nmi`, `qmp balloon` and `qmp set-link`.

use std::time::Duration;

use derive_setters::Setters;
use maqet_domain::hotplug::{DeviceError, cards, link_names};
use maqet_domain::qmp::{QmpCommand, QmpError};
use maqet_domain::size::ByteSize;
use maqet_domain::text::similar;
use maqet_domain::vm::Run;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use crate::app::operations::{Done, Effect, Operation};
use crate::device::balloon_error::BalloonError;
use crate::vm::monitor::Monitored;
use crate::vm::unresponsive::or_unresponsive;
use crate::{App, Error, HumanDuration, limits};

/// Send a non-maskable interrupt to the CPUs of a running VM
///
/// Guests are often configured to write a crash dump or a stack trace on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct QmpNmi {
    /// Name, ID, or unique prefix of an ID
    pub vm: String,
}

/// Show or set the memory that the guest of a running VM uses
///
/// Requires a virtio-balloon device and its driver in the guest. Waits until the guest has reached the size; without a
/// size, shows the current one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct QmpBalloon {
    /// Name, ID, or unique prefix of an ID
    pub vm: String,
    /// The size, such as 512M; a number without a unit is in MiB
    #[serde(default)]
    pub size: Option<String>,
    /// Timeout for the guest [default: `timeouts.qmp`, else 30s]
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    pub timeout: Option<HumanDuration>,
}

/// Set the link of a network card of a running VM up or down
///
/// The card is named as under `network` in the definition, or by the ID of its device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct QmpSetLink {
    /// Name, ID, or unique prefix of an ID
    pub vm: String,
    /// The network card
    pub nic: String,
    /// The state of the link
    pub state: Link,
}

/// The state of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// Connected.
    Up,
    /// Disconnected.
    Down,
}

/// An interrupt that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct NmiSent {
    /// The id of the VM.
    pub id: String,
    /// The name of the VM.
    pub name: String,
}

/// The memory of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Balloon {
    /// The id of the VM.
    pub id: String,
    /// The name of the VM.
    pub name: String,
    /// What the guest uses.
    pub actual_bytes: u64,
    /// What the VM has.
    pub memory_bytes: u64,
}

/// A link that was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LinkSet {
    /// The id of the VM.
    pub id: String,
    /// The name of the VM.
    pub name: String,
    /// The card.
    pub nic: String,
    /// Its state.
    pub state: Link,
}

impl QmpNmi {
    /// Sends an interrupt to `vm`.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into() }
    }
}

impl QmpBalloon {
    /// Shows the memory of the guest of `vm`.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into(), size: None, timeout: None }
    }
}

impl QmpSetLink {
    /// Sets the link of the card `nic`.
    pub fn new(vm: impl Into<String>, nic: impl Into<String>, state: Link) -> Self {
        Self { vm: vm.into(), nic: nic.into(), state }
    }
}

impl Operation for QmpNmi {
    const NAME: &'static str = "qmp.nmi";
    const EFFECT: Effect = Effect::Acts;
    type Output = NmiSent;

    async fn run(&self, app: &App) -> Result<Done<NmiSent>, Error> {
        let (_, Monitored { entry, .. }) = app.execute_on(&self.vm, &QmpCommand::new("inject-nmi")).await?;
        Ok(Done::reading(NmiSent { id: entry.id.to_string(), name: entry.name.to_string() }).about(entry.id))
    }
}

impl Operation for QmpBalloon {
    const NAME: &'static str = "qmp.balloon";
    const EFFECT: Effect = Effect::Acts;
    type Output = Balloon;

    async fn run(&self, app: &App) -> Result<Done<Balloon>, Error> {
        let wanted = self.size.as_deref().map(parse_size).transpose()?;
        let Monitored { entry, run, process } = app.monitored(&self.vm).await?;
        let outcome = self.resize(app, &run, wanted).await;
        let (actual, memory) = match or_unresponsive(&*app.ports.processes, &entry.name, &process, outcome)? {
            Resized::Done { actual, memory } => (actual, memory),
            Resized::NoBalloon => return Err(BalloonError::Unavailable { vm: entry.name }.into()),
            Resized::TooLarge { size, memory } => return Err(BalloonError::TooLarge { size, memory }.into()),
            Resized::TimedOut { wanted, actual } => {
                let after = self.guest_timeout(app);
                return Err(BalloonError::TimedOut { vm: entry.name, wanted, actual, after }.into());
            }
        };
        let balloon = Balloon {
            id: entry.id.to_string(),
            name: entry.name.to_string(),
            actual_bytes: actual.bytes(),
            memory_bytes: memory.bytes(),
        };
        Ok(Done::reading(balloon).about(entry.id))
    }
}

/// The outcome of resizing the memory of a guest.
enum Resized {
    Done { actual: ByteSize, memory: ByteSize },
    NoBalloon,
    TooLarge { size: ByteSize, memory: ByteSize },
    TimedOut { wanted: ByteSize, actual: ByteSize },
}

impl QmpBalloon {
    fn guest_timeout(&self, app: &App) -> Duration {
        self.timeout.map_or(app.timeouts().qmp, HumanDuration::duration)
    }

    async fn resize(&self, app: &App, run: &Run, wanted: Option<ByteSize>) -> Result<Resized, QmpError> {
        let until = Instant::now() + self.guest_timeout(app);
        let execute =
            async |command: QmpCommand| app.ports.monitors.execute(&run.paths, &command, app.timeouts().qmp).await;
        let summary = execute(QmpCommand::new("query-memory-size-summary")).await?;
        let memory = bytes(&summary["base-memory"])?;
        if let Some(size) = wanted {
            if size > memory {
                return Ok(Resized::TooLarge { size, memory });
            }
            match execute(QmpCommand::new("balloon").with("value", size.bytes())).await {
                Err(QmpError::Refused { class, .. }) if class == "DeviceNotActive" => return Ok(Resized::NoBalloon),
                reply => drop(reply?),
            }
        }
        loop {
            let actual = match execute(QmpCommand::new("query-balloon")).await {
                Err(QmpError::Refused { class, .. }) if class == "DeviceNotActive" => return Ok(Resized::NoBalloon),
                reply => bytes(&reply?["actual"])?,
            };
            match wanted {
                // The guest returns whole pages.
                Some(wanted) if actual.bytes().abs_diff(wanted.bytes()) >= PAGE => {
                    if Instant::now() >= until {
                        return Ok(Resized::TimedOut { wanted, actual });
                    }
                }
                Some(_) | None => return Ok(Resized::Done { actual, memory }),
            }
            tokio::time::sleep(limits::BALLOON_INTERVAL).await;
        }
    }
}

/// The size of a balloon's pages, whatever the guest's are (virtio specification).
const PAGE: u64 = 4096;

fn bytes(value: &Value) -> Result<ByteSize, QmpError> {
    let bytes =
        value.as_u64().ok_or_else(|| QmpError::InvalidResponse { detail: format!("invalid size `{value}`") })?;
    Ok(ByteSize::from_bytes(bytes))
}

fn parse_size(text: &str) -> Result<ByteSize, BalloonError> {
    let invalid = |reason| BalloonError::InvalidSize { size: text.to_owned(), reason };
    let size = ByteSize::parse_with_bare_unit(text, 20).map_err(|error| invalid(error.to_string()))?;
    if size.bytes() < 1 << 20 {
        return Err(invalid("the minimum is 1M".to_owned()));
    }
    Ok(size)
}

impl Operation for QmpSetLink {
    const NAME: &'static str = "qmp.set-link";
    const EFFECT: Effect = Effect::Acts;
    type Output = LinkSet;

    async fn run(&self, app: &App) -> Result<Done<LinkSet>, Error> {
        let command = QmpCommand::new("set_link").with("name", self.nic.as_str()).with("up", self.state == Link::Up);
        let (_, Monitored { entry, .. }) = match app.execute_on(&self.vm, &command).await {
            Err(Error::Qmp(QmpError::Refused { class, .. })) if class == "DeviceNotFound" => {
                return Err(self.not_found(app).await?);
            }
            reply => reply?,
        };
        let (id, name) = (entry.id.to_string(), entry.name.to_string());
        Ok(Done::reading(LinkSet { id, name, nic: self.nic.clone(), state: self.state }).about(entry.id))
    }
}

impl QmpSetLink {
    async fn not_found(&self, app: &App) -> Result<Error, Error> {
        let (reply, Monitored { entry, .. }) =
            app.execute_on(&self.vm, &QmpCommand::human_monitor("info network")).await?;
        let network = reply.as_str().unwrap_or_default();
        let similar = similar(&self.nic, link_names(network).iter().map(String::as_str));
        let known = cards(network).iter().map(|card| card.name().to_owned()).collect();
        let (vm, id) = (entry.name, self.nic.clone());
        Ok(DeviceError::NotFound { vm, kind: "network card", id, similar, known }.into())
    }
}

impl App {
    /// Runs one command on a running VM.
    async fn execute_on(&self, vm: &str, command: &QmpCommand) -> Result<(Value, Monitored), Error> {
        let monitored = self.monitored(vm).await?;
        let reply = self.ports.monitors.execute(&monitored.run.paths, command, self.timeouts().qmp).await;
        let reply = or_unresponsive(&*self.ports.processes, &monitored.entry.name, &monitored.process, reply)?;
        Ok((reply, monitored))
    }
}
