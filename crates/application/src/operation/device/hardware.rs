//! `qmp nmi`, `qmp balloon` and `qmp set-link`: single parts of a running machine.

use std::time::Duration;

use maqet_domain::hotplug::{cards, link_names};
use maqet_domain::qmp::{QmpCommand, QmpError};
use maqet_domain::size::ByteSize;
use maqet_domain::text::similar;
use maqet_domain::vm::Run;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use crate::app::operations::{Done, Effect, Operation};
use crate::device::error::DeviceError;
use crate::vm::monitor::Monitored;
use crate::vm::unresponsive::or_unresponsive;
use crate::{App, Error, HumanDuration, limits};

/// Send a non-maskable interrupt to the CPUs of a running VM
///
/// Guests are often set up to crash with a dump then, or to tell where they hang.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct QmpNmi {
    /// Name, id, or unique beginning of an id
    pub vm: String,
}

/// Show or set how much memory a running VM's guest may use
///
/// Returns once the guest has come to it, by means of its virtio-balloon device and the driver for that. Without a size
/// it shows what the guest has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct QmpBalloon {
    /// Name, id, or unique beginning of an id
    pub vm: String,
    /// What the guest may use, such as 512M; a bare number is MiB
    #[serde(default)]
    pub size: Option<String>,
    /// How long the guest may take [default: `timeouts.qmp`, else 30s]
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    pub timeout: Option<HumanDuration>,
}

/// Plug or pull the cable of a network card of a running VM
///
/// The card is named as under `network` in the definition, or by the id of its device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct QmpSetLink {
    /// Name, id, or unique beginning of an id
    pub vm: String,
    /// The network card
    pub nic: String,
    /// Whether its cable is plugged
    pub state: Link,
}

/// The state of a cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// It is plugged.
    Up,
    /// It is pulled.
    Down,
}

/// An interrupt that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NmiSent {
    /// The VM's id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// What a guest has of its memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Balloon {
    /// The VM's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What the guest has.
    pub actual_bytes: u64,
    /// The machine's memory.
    pub memory_bytes: u64,
}

/// A cable that was plugged or pulled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkSet {
    /// The VM's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The card.
    pub nic: String,
    /// Its cable.
    pub state: Link,
}

impl Operation for QmpNmi {
    const NAME: &'static str = "qmp.nmi";
    const EFFECT: Effect = Effect::Acts;
    type Output = NmiSent;

    async fn run(&self, app: &App) -> Result<Done<NmiSent>, Error> {
        let asked = app.asked(&self.vm, &QmpCommand::new("inject-nmi"), app.timeouts().qmp).await?;
        let (_, Monitored { entry, .. }) = asked;
        Ok(Done::reading(NmiSent { id: entry.id.to_string(), name: entry.name.to_string() }).about(entry.id))
    }
}

impl Operation for QmpBalloon {
    const NAME: &'static str = "qmp.balloon";
    const EFFECT: Effect = Effect::Acts;
    type Output = Balloon;

    async fn run(&self, app: &App) -> Result<Done<Balloon>, Error> {
        let wanted = self.size.as_deref().map(size).transpose()?;
        let patience = self.timeout.map_or(app.timeouts().qmp, HumanDuration::duration);
        let until = Instant::now() + patience;
        let Monitored { entry, run, process } = app.monitored(&self.vm).await?;
        let asked = self.inflate(app, &run, wanted, until).await;
        let (actual, memory) = match or_unresponsive(&*app.ports.processes, &entry.name, &process, asked)? {
            Inflated::None => return Err(DeviceError::NoBalloon { vm: entry.name }.into()),
            Inflated::Done(actual, memory) => (actual, memory),
            Inflated::TooMuch(memory) => {
                let size = wanted.unwrap_or(memory);
                return Err(DeviceError::BalloonTooLarge { size, memory }.into());
            }
            Inflated::Stopped(actual) => {
                let wanted = wanted.unwrap_or(actual);
                return Err(DeviceError::BalloonStopped { vm: entry.name, wanted, actual, after: patience }.into());
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

/// How far a guest came.
enum Inflated {
    /// There is no balloon.
    None,
    /// What it has, and the machine's memory.
    Done(ByteSize, ByteSize),
    /// The machine has less.
    TooMuch(ByteSize),
    /// It has this, and does not come further.
    Stopped(ByteSize),
}

impl QmpBalloon {
    async fn inflate(
        &self,
        app: &App,
        run: &Run,
        wanted: Option<ByteSize>,
        until: Instant,
    ) -> Result<Inflated, QmpError> {
        let ask =
            async |command: QmpCommand| app.ports.monitors.execute(&run.paths, &command, app.timeouts().qmp).await;
        let told = ask(QmpCommand::new("query-memory-size-summary")).await?;
        let memory = bytes(&told["base-memory"])?;
        if let Some(wanted) = wanted {
            if wanted > memory {
                return Ok(Inflated::TooMuch(memory));
            }
            match ask(QmpCommand::new("balloon").with("value", wanted.bytes())).await {
                Err(QmpError::Refused { class, .. }) if class == "DeviceNotActive" => return Ok(Inflated::None),
                answer => answer?,
            };
        }
        loop {
            let actual = match ask(QmpCommand::new("query-balloon")).await {
                Err(QmpError::Refused { class, .. }) if class == "DeviceNotActive" => return Ok(Inflated::None),
                answer => bytes(&answer?["actual"])?,
            };
            // The guest gives whole pages.
            match wanted {
                Some(wanted) if actual.bytes().abs_diff(wanted.bytes()) >= PAGE => {}
                Some(_) | None => return Ok(Inflated::Done(actual, memory)),
            }
            if Instant::now() >= until {
                return Ok(Inflated::Stopped(actual));
            }
            tokio::time::sleep(limits::BALLOON_INTERVAL).await;
        }
    }
}

/// A page of a balloon, whatever the guest's are (virtio specification).
const PAGE: u64 = 4096;

fn bytes(value: &Value) -> Result<ByteSize, QmpError> {
    let bytes = value.as_u64().ok_or_else(|| QmpError::InvalidResponse { detail: format!("`{value}` is no size") })?;
    Ok(ByteSize::from_bytes(bytes))
}

fn size(text: &str) -> Result<ByteSize, DeviceError> {
    match ByteSize::parse_with_bare_unit(text, 20) {
        Ok(size) if size.bytes() >= 1 << 20 => Ok(size),
        Ok(_) => Err(DeviceError::BalloonSize { given: text.to_owned(), why: "it is less than 1M".to_owned() }),
        Err(why) => Err(DeviceError::BalloonSize { given: text.to_owned(), why: why.to_string() }),
    }
}

impl Operation for QmpSetLink {
    const NAME: &'static str = "qmp.set-link";
    const EFFECT: Effect = Effect::Acts;
    type Output = LinkSet;

    async fn run(&self, app: &App) -> Result<Done<LinkSet>, Error> {
        let command = QmpCommand::new("set_link").with("name", self.nic.as_str()).with("up", self.state == Link::Up);
        let asked = app.asked(&self.vm, &command, app.timeouts().qmp).await;
        let (_, Monitored { entry, .. }) = match asked {
            Err(Error::Qmp(QmpError::Refused { class, .. })) if class == "DeviceNotFound" => {
                return Err(self.no_card(app).await?);
            }
            answer => answer?,
        };
        let (id, name) = (entry.id.to_string(), entry.name.to_string());
        Ok(Done::reading(LinkSet { id, name, nic: self.nic.clone(), state: self.state }).about(entry.id))
    }
}

impl QmpSetLink {
    async fn no_card(&self, app: &App) -> Result<Error, Error> {
        let command = QmpCommand::human_monitor("info network");
        let (shown, Monitored { entry, .. }) = app.asked(&self.vm, &command, app.timeouts().qmp).await?;
        let shown = shown.as_str().unwrap_or_default();
        let similar = similar(&self.nic, link_names(shown).iter().map(String::as_str));
        let known = cards(shown).iter().map(|card| card.name().to_owned()).collect();
        let (vm, id) = (entry.name, self.nic.clone());
        Ok(DeviceError::NoDevice { vm, what: "network card", id, similar, known }.into())
    }
}

impl App {
    /// Asks the QEMU of a running VM one thing.
    async fn asked(&self, vm: &str, command: &QmpCommand, deadline: Duration) -> Result<(Value, Monitored), Error> {
        let monitored = self.monitored(vm).await?;
        let answer = self.ports.monitors.execute(&monitored.run.paths, command, deadline).await;
        let answer = or_unresponsive(&*self.ports.processes, &monitored.entry.name, &monitored.process, answer)?;
        Ok((answer, monitored))
    }
}
