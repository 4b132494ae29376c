//! `qmp nmi`, `qmp balloon` and `qmp set-link`.

use std::time::Duration;

use derive_setters::Setters;
use maqet_domain::hotplug::{DeviceError, cards, link_names};
use maqet_domain::qmp::{ErrorClass, QmpCommand, QmpError};
use maqet_domain::size::ByteSize;
use maqet_domain::text::similar;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use crate::app::operations::{Done, Effect, Operation};
use crate::device::balloon_error::BalloonError;
use crate::job::{Job, ProgressUnit};
use crate::vm::monitor::Monitored;
use crate::{App, Error, HumanDuration, limits};

/// Send a non-maskable interrupt to the CPUs of a running VM
///
/// Many guests respond with a crash dump or a stack trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct QmpNmi {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
}

/// Show or set the memory that the guest of a running VM uses
///
/// Requires a virtio-balloon device, and its driver in the guest. With a size, waits until the guest has reached it;
/// without one, shows the current size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct QmpBalloon {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// The size, such as 512M; a number without a unit is in MiB
    #[setters(strip_option)]
    pub size: Option<String>,
    /// Timeout for the guest [default: `timeouts.qmp`, else 30s]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    pub timeout: Option<HumanDuration>,
}

/// Set the link of a network card of a running VM up or down
///
/// The card is given by its name under `network` or by the ID of its device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct QmpSetLink {
    /// The VM: a name, an ID, or a unique prefix of an ID
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
    /// The ID of the VM.
    pub id: String,
    /// The name of the VM.
    pub name: String,
}

/// The memory of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Balloon {
    /// The ID of the VM.
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
    /// The ID of the VM.
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
        let vm = Monitored::find(app, &self.vm).await?;
        vm.or_unresponsive(vm.execute(&QmpCommand::new("inject-nmi")).await)?;
        let entry = vm.entry;
        Ok(Done::reading(NmiSent { id: entry.id.to_string(), name: entry.name.to_string() }).about(entry.id))
    }
}

impl Operation for QmpBalloon {
    const NAME: &'static str = "qmp.balloon";
    const EFFECT: Effect = Effect::Acts;
    type Output = Balloon;

    async fn run(&self, app: &App) -> Result<Done<Balloon>, Error> {
        let wanted = self.size.as_deref().map(parse_size).transpose()?;
        let timeout = self.timeout.map_or(app.timeouts().qmp, HumanDuration::duration);
        let vm = Monitored::find(app, &self.vm).await?;
        let job = app.jobs.start(Self::NAME, &vm.entry.name);
        let (actual, memory) = vm.or_unresponsive(job.run(resize(&vm, wanted, timeout, &job)).await?)?;
        let balloon = Balloon {
            id: vm.entry.id.to_string(),
            name: vm.entry.name.to_string(),
            actual_bytes: actual.bytes(),
            memory_bytes: memory.bytes(),
        };
        Ok(Done::reading(balloon).about(vm.entry.id))
    }
}

/// Sets the memory of a guest, if a size is wanted, and waits until the guest has reached it.
///
/// Returns what the guest uses, and what the VM has.
async fn resize(
    vm: &Monitored<'_>,
    wanted: Option<ByteSize>,
    timeout: Duration,
    job: &Job<'_>,
) -> Result<(ByteSize, ByteSize), Error> {
    let until = Instant::now() + timeout;
    let summary = vm.execute(&QmpCommand::new("query-memory-size-summary")).await?;
    let memory = bytes(&summary["base-memory"])?;
    if let Some(size) = wanted {
        if size > memory {
            return Err(BalloonError::TooLarge { size, memory }.into());
        }
        execute_on_balloon(vm, &QmpCommand::new("balloon").with("value", size.bytes())).await?;
    }
    let mut first = None;
    loop {
        let actual = bytes(&execute_on_balloon(vm, &QmpCommand::new("query-balloon")).await?["actual"])?;
        match wanted.map(|wanted| (wanted, actual.bytes().abs_diff(wanted.bytes()))) {
            // The guest returns whole pages.
            Some((wanted, left)) if left >= PAGE => {
                let total = *first.get_or_insert(left);
                job.report(ProgressUnit::Bytes, total.saturating_sub(left), total);
                if Instant::now() >= until {
                    let vm = vm.entry.name.clone();
                    return Err(BalloonError::TimedOut { vm, wanted, actual, after: timeout }.into());
                }
            }
            Some(_) | None => return Ok((actual, memory)),
        }
        tokio::time::sleep(limits::BALLOON_INTERVAL).await;
    }
}

/// Runs a command on the balloon device.
async fn execute_on_balloon(vm: &Monitored<'_>, command: &QmpCommand) -> Result<Value, Error> {
    match vm.execute(command).await {
        Err(QmpError::Refused { class: ErrorClass::DeviceNotActive, .. }) => {
            Err(BalloonError::Unavailable { vm: vm.entry.name.clone() }.into())
        }
        reply => Ok(reply?),
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
        let vm = Monitored::find(app, &self.vm).await?;
        match vm.or_unresponsive(vm.execute(&command).await) {
            Err(Error::Qmp(QmpError::Refused { class: ErrorClass::DeviceNotFound, .. })) => {
                return Err(self.not_found(&vm).await?.into());
            }
            reply => drop(reply?),
        }
        let set = LinkSet {
            id: vm.entry.id.to_string(),
            name: vm.entry.name.to_string(),
            nic: self.nic.clone(),
            state: self.state,
        };
        Ok(Done::reading(set).about(vm.entry.id))
    }
}

impl QmpSetLink {
    async fn not_found(&self, vm: &Monitored<'_>) -> Result<DeviceError, Error> {
        let reply = vm.or_unresponsive(vm.execute(&QmpCommand::human_monitor("info network")).await)?;
        let network = reply.as_str().unwrap_or_default();
        let similar = similar(&self.nic, link_names(network).iter().map(String::as_str));
        let known = cards(network).iter().map(|card| card.name().to_owned()).collect();
        let vm = vm.entry.name.clone();
        Ok(DeviceError::NotFound { vm, kind: "network card", id: self.nic.clone(), similar, known })
    }
}
