//! `qmp eject` and `qmp insert`: the medium in a CD drive of a running machine.

use std::path::PathBuf;
use std::time::Duration;

use maqet_domain::hotplug::backend_name;
use maqet_domain::qmp::{QmpCommand, QmpError};
use maqet_domain::text::similar;
use maqet_domain::vm::{Run, VmEntry};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::device::error::DeviceError;
use crate::device::session::{HotplugSession, items};
use crate::vm::monitor::Monitored;
use crate::vm::unresponsive::or_unresponsive;
use crate::{App, Error, HumanDuration, limits};

/// Take the medium out of a CD drive of a running VM
///
/// A guest that has locked the drive is asked to let it go; --force opens it all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct QmpEject {
    /// Name, id, or unique beginning of an id
    pub vm: String,
    /// The drive, by its name under `storage`, or QEMU's own, such as ide1-cd0
    pub drive: String,
    /// Open the drive even if the guest has locked it
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(short, long))]
    pub force: bool,
    /// How long the guest may take [default: `timeouts.qmp`, else 30s]
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    pub timeout: Option<HumanDuration>,
}

/// Put a medium into a CD drive of a running VM
///
/// What is in the drive is taken out first. The definition stays as it is: the next start has its medium again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct QmpInsert {
    /// Name, id, or unique beginning of an id
    pub vm: String,
    /// The drive, by its name under `storage`, or QEMU's own, such as ide1-cd0
    pub drive: String,
    /// The image; the guest may only read it
    pub file: PathBuf,
    /// The format of the image [default: what its name ends with, else raw]
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long, value_name = "FORMAT"))]
    pub file_format: Option<String>,
    /// Open the drive even if the guest has locked it
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(short, long))]
    pub force: bool,
    /// How long the guest may take [default: `timeouts.qmp`, else 30s]
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    pub timeout: Option<HumanDuration>,
}

/// A drive whose medium was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MediumChanged {
    /// The VM's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The drive.
    pub drive: String,
    /// What was in it, if anything was.
    pub ejected: Option<String>,
    /// What is in it now, if anything is.
    pub inserted: Option<String>,
}

/// A drive with a tray, as QEMU tells of it.
struct Drive {
    /// What QEMU's commands call it.
    id: String,
    /// The block node of its medium.
    node: Option<String>,
    /// The file of its medium.
    file: Option<String>,
    /// Whether its tray is open, or it has none.
    is_open: bool,
    /// Whether the guest has locked it.
    is_locked: bool,
}

impl Operation for QmpEject {
    const NAME: &'static str = "qmp.eject";
    const EFFECT: Effect = Effect::Acts;
    type Output = MediumChanged;

    async fn run(&self, app: &App) -> Result<Done<MediumChanged>, Error> {
        let patience = self.timeout.map_or(app.timeouts().qmp, HumanDuration::duration);
        let Monitored { entry, run, process } = app.monitored(&self.vm).await?;
        let opened = app.open_tray(&entry, &run, &self.drive, self.force, patience).await;
        let drive = or_unresponsive(&*app.ports.processes, &entry.name, &process, opened)?;
        let ask = async |command: QmpCommand| app.ask_run(&run, &command).await;
        ask(QmpCommand::new("blockdev-remove-medium").with("id", drive.id.as_str())).await?;
        for node in drive.nodes() {
            forget(ask(QmpCommand::new("blockdev-del").with("node-name", node)).await)?;
        }
        let changed = MediumChanged {
            id: entry.id.to_string(),
            name: entry.name.to_string(),
            drive: self.drive.clone(),
            ejected: drive.file,
            inserted: None,
        };
        Ok(Done::reading(changed).about(entry.id))
    }
}

impl Operation for QmpInsert {
    const NAME: &'static str = "qmp.insert";
    const EFFECT: Effect = Effect::Acts;
    type Output = MediumChanged;

    async fn run(&self, app: &App) -> Result<Done<MediumChanged>, Error> {
        let format = app.format_of(&self.file, self.file_format.as_deref(), true).await?;
        let patience = self.timeout.map_or(app.timeouts().qmp, HumanDuration::duration);
        let Monitored { entry, run, process } = app.monitored(&self.vm).await?;
        let opened = app.open_tray(&entry, &run, &self.drive, self.force, patience).await;
        or_unresponsive(&*app.ports.processes, &entry.name, &process, opened)?;

        // Nobody else is to take the node for a left-over one; who was before us has closed the tray.
        let plugged = app.plugged(&self.vm, Self::NAME, app.timeouts().qmp).await?;
        let drive = app.open_tray(&plugged.entry, &plugged.run, &self.drive, self.force, Duration::ZERO).await?;
        // Before the old medium is out: what cannot be opened leaves it there.
        let node = node_for(&drive);
        let added = plugged.add_node(&node, &self.file, &format, true).await;
        let changed = match added {
            Ok(()) => exchange(&plugged, &drive, &node).await.map_err(Error::from),
            Err(error) => Err(error),
        };
        if let Err(error) = changed {
            // As it was before: closed, and without the new node.
            let close = QmpCommand::new("blockdev-close-tray").with("id", drive.id.as_str());
            forget(plugged.ask(&close).await)?;
            plugged.sweep().await?;
            return Err(error);
        }
        let HotplugSession { entry, guard, .. } = plugged;
        let changed = MediumChanged {
            id: entry.id.to_string(),
            name: entry.name.to_string(),
            drive: self.drive.clone(),
            ejected: drive.file,
            inserted: Some(shown(&self.file)),
        };
        Ok(Done::reading(changed).about(entry.id).holding(guard))
    }
}

/// Takes the old medium out and puts the new one in.
async fn exchange(plugged: &HotplugSession<'_>, drive: &Drive, node: &str) -> Result<(), QmpError> {
    let of_drive = |command: &str| QmpCommand::new(command).with("id", drive.id.as_str());
    plugged.ask(&of_drive("blockdev-remove-medium")).await?;
    plugged.ask(&of_drive("blockdev-insert-medium").with("node-name", node)).await?;
    plugged.ask(&of_drive("blockdev-close-tray")).await?;
    for old in drive.nodes() {
        plugged.remove_node(&old).await?;
    }
    Ok(())
}

/// Returns a name for the node of a new medium; the old one has its own until it is out.
fn node_for(drive: &Drive) -> String {
    // QEMU's own drives have a path for an id, and a name holds 31 bytes.
    let id: String = drive.id.chars().filter(char::is_ascii_alphanumeric).collect();
    let id = &id[id.len().saturating_sub(20)..];
    let first = backend_name(&format!("{id}.a"));
    if drive.node.as_ref() == Some(&first) { backend_name(&format!("{id}.b")) } else { first }
}

/// A node that something else uses stays.
fn forget(removed: Result<Value, QmpError>) -> Result<(), QmpError> {
    match removed {
        Ok(_) | Err(QmpError::Refused { .. }) => Ok(()),
        Err(other) => Err(other),
    }
}

impl Drive {
    /// Returns the nodes of its medium, from above; those of a definition are two.
    fn nodes(&self) -> Vec<String> {
        self.node.iter().flat_map(|node| [node.clone(), format!("{node}-file")]).collect()
    }

    fn of(told: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let inserted = &told["inserted"];
        let id = text(&told["qdev"]).or_else(|| text(&told["device"])).unwrap_or_default();
        Self {
            id,
            node: text(&inserted["node-name"]),
            file: text(&inserted["image"]["filename"]),
            is_open: told["tray_open"] != false,
            is_locked: told["locked"] == true,
        }
    }
}

/// Returns what a drive is called by people.
fn names(told: &Value) -> impl Iterator<Item = &str> {
    let names = [&told["qdev"], &told["device"], &told["inserted"]["node-name"]];
    names.into_iter().filter_map(Value::as_str).filter(|name| !name.is_empty())
}

impl App {
    async fn ask_run(&self, run: &Run, command: &QmpCommand) -> Result<Value, QmpError> {
        self.ports.monitors.execute(&run.paths, command, self.timeouts().qmp).await
    }

    async fn drive_with_tray(&self, entry: &VmEntry, run: &Run, given: &str) -> Result<Drive, Error> {
        let told = self.ask_run(run, &QmpCommand::new("query-block")).await?;
        let with_tray = |told: &&Value| told["removable"] == true;
        if let Some(drive) = items(&told).find(|told| names(told).any(|name| name == given)) {
            let has_tray = with_tray(&drive);
            let no_tray = || DeviceError::NoTray { vm: entry.name.clone(), drive: given.to_owned() };
            return if has_tray { Ok(Drive::of(drive)) } else { Err(no_tray().into()) };
        }
        let plain = |told| names(told).find(|name| !name.starts_with('/'));
        let known: Vec<&str> = items(&told).filter(with_tray).filter_map(plain).collect();
        let similar = similar(given, known.iter().copied());
        let known = known.into_iter().map(str::to_owned).collect();
        let (vm, id) = (entry.name.clone(), given.to_owned());
        Err(DeviceError::NoDevice { vm, what: "CD drive", id, similar, known }.into())
    }

    /// Opens the tray of a drive, and returns the drive with what is in it then.
    ///
    /// QEMU takes the command also for a drive that the guest has locked, and then only asks the guest (7.2); one that
    /// unlocks it and does nothing else has to be asked again.
    async fn open_tray(
        &self,
        entry: &VmEntry,
        run: &Run,
        given: &str,
        force: bool,
        patience: Duration,
    ) -> Result<Drive, Error> {
        let until = Instant::now() + patience;
        let mut drive = self.drive_with_tray(entry, run, given).await?;
        let mut was_locked = false;
        loop {
            if !(was_locked && drive.is_locked) {
                let command = QmpCommand::new("blockdev-open-tray").with("id", drive.id.as_str()).with("force", force);
                self.ask_run(run, &command).await?;
            }
            was_locked = drive.is_locked;
            drive = self.drive_with_tray(entry, run, given).await?;
            if drive.is_open {
                return Ok(drive);
            }
            if Instant::now() >= until {
                let (vm, drive) = (entry.name.clone(), given.to_owned());
                return Err(DeviceError::TrayLocked { vm, drive, after: patience }.into());
            }
            tokio::time::sleep(limits::UNPLUG_INTERVAL).await;
        }
    }
}
