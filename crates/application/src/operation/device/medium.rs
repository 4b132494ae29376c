//! `qmp eject` and `qmp insert`: media of the CD drives of a running VM.

use std::path::PathBuf;
use std::time::Duration;

use derive_setters::Setters;
use maqet_domain::hotplug::{DeviceError, backend_name};
use maqet_domain::qmp::{QmpCommand, QmpError};
use maqet_domain::text::similar;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::device::image_format::image_format;
use crate::device::medium_error::MediumError;
use crate::device::session::{HotplugSession, items};
use crate::vm::monitor::Monitored;
use crate::vm::unresponsive::explain_unresponsive;
use crate::{App, Error, HumanDuration, limits};

/// Remove the medium from a CD drive of a running VM
///
/// Asks the guest to unlock the drive if it has locked it; --force opens it anyway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct QmpEject {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// The drive, by its name under `storage` or by QEMU's, such as ide1-cd0
    pub drive: String,
    /// Open the drive even if the guest has locked it
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(short, long))]
    pub force: bool,
    /// Timeout for the guest [default: `timeouts.qmp`, else 30s]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    pub timeout: Option<HumanDuration>,
}

/// Insert a medium into a CD drive of a running VM
///
/// A medium in the drive is removed first. The definition does not change: the next start uses the medium of the definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct QmpInsert {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// The drive, by its name under `storage` or by QEMU's, such as ide1-cd0
    pub drive: String,
    /// The image, which is read-only for the guest
    pub file: PathBuf,
    /// The format of the image [default: by its extension, else raw]
    #[cfg_attr(feature = "clap", arg(long, value_name = "FORMAT"))]
    #[setters(strip_option)]
    pub file_format: Option<String>,
    /// Open the drive even if the guest has locked it
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(short, long))]
    pub force: bool,
    /// Timeout for the guest [default: `timeouts.qmp`, else 30s]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    pub timeout: Option<HumanDuration>,
}

/// A drive whose medium was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MediumChanged {
    /// The ID of the VM.
    pub id: String,
    /// The name of the VM.
    pub name: String,
    /// The drive.
    pub drive: String,
    /// The medium that was removed, if there was one.
    pub ejected: Option<String>,
    /// The medium that was inserted, if one was.
    pub inserted: Option<String>,
}

impl QmpEject {
    /// Removes the medium from `drive`.
    pub fn new(vm: impl Into<String>, drive: impl Into<String>) -> Self {
        Self { vm: vm.into(), drive: drive.into(), force: false, timeout: None }
    }
}

impl QmpInsert {
    /// Inserts `file` into `drive`.
    pub fn new(vm: impl Into<String>, drive: impl Into<String>, file: impl Into<PathBuf>) -> Self {
        Self { vm: vm.into(), drive: drive.into(), file: file.into(), file_format: None, force: false, timeout: None }
    }
}

impl Operation for QmpEject {
    const NAME: &'static str = "qmp.eject";
    const EFFECT: Effect = Effect::Acts;
    type Output = MediumChanged;

    async fn run(&self, app: &App) -> Result<Done<MediumChanged>, Error> {
        // Boxed, as it holds a session, which makes it large.
        match Box::pin(self.eject(app)).await {
            Ok(done) => Ok(done),
            Err(error) => Err(explain_unresponsive(app, &self.vm, error).await),
        }
    }
}

impl QmpEject {
    async fn eject(&self, app: &App) -> Result<Done<MediumChanged>, Error> {
        let timeout = self.timeout.map_or(app.timeouts().qmp, HumanDuration::duration);
        let vm = Monitored::find(app, &self.vm).await?;
        let job = app.jobs.start(Self::NAME, &vm.entry.name);
        let drive = vm.or_unresponsive(job.run(open_tray(&vm, &self.drive, self.force, timeout)).await?)?;
        vm.execute(&drive.command("blockdev-remove-medium")).await?;
        for node in drive.nodes() {
            ignore_refusal(vm.execute(&QmpCommand::new("blockdev-del").with("node-name", node)).await)?;
        }
        let changed = MediumChanged {
            id: vm.entry.id.to_string(),
            name: vm.entry.name.to_string(),
            drive: self.drive.clone(),
            ejected: drive.file,
            inserted: None,
        };
        Ok(Done::reading(changed).about(vm.entry.id))
    }
}

impl Operation for QmpInsert {
    const NAME: &'static str = "qmp.insert";
    const EFFECT: Effect = Effect::Acts;
    type Output = MediumChanged;

    async fn run(&self, app: &App) -> Result<Done<MediumChanged>, Error> {
        // Boxed, as it holds a session, which makes it large.
        match Box::pin(self.insert(app)).await {
            Ok(done) => Ok(done),
            Err(error) => Err(explain_unresponsive(app, &self.vm, error).await),
        }
    }
}

impl QmpInsert {
    async fn insert(&self, app: &App) -> Result<Done<MediumChanged>, Error> {
        let format = image_format(app, &self.file, self.file_format.as_deref(), true).await?;
        let timeout = self.timeout.map_or(app.timeouts().qmp, HumanDuration::duration);
        let vm = Monitored::find(app, &self.vm).await?;
        let job = app.jobs.start(Self::NAME, &vm.entry.name);
        vm.or_unresponsive(job.run(open_tray(&vm, &self.drive, self.force, timeout)).await?)?;

        // Locked, so that the new node is not removed as unused. A command that had the lock before has closed the tray.
        let (guard, vm) = job.run(app.vms().lock(&self.vm, Self::NAME)).await??;
        let session = HotplugSession::open(app, guard, &vm).await?;
        let drive = open_tray(&session.vm, &self.drive, self.force, Duration::ZERO).await?;
        // Opened before the old medium is removed, so that an invalid file changes nothing.
        let node = new_node(&drive);
        let exchanged = match session.add_node(&node, &self.file, &format, true).await {
            Ok(()) => exchange(&session, &drive, &node).await.map_err(Error::from),
            Err(error) => Err(error),
        };
        if let Err(error) = exchanged {
            ignore_refusal(session.execute(&drive.command("blockdev-close-tray")).await)?;
            session.remove_unused_backends().await?;
            return Err(error);
        }
        let changed = MediumChanged {
            id: vm.entry.id.to_string(),
            name: vm.entry.name.to_string(),
            drive: self.drive.clone(),
            ejected: drive.file,
            inserted: Some(shown(&self.file)),
        };
        Ok(Done::reading(changed).about(vm.entry.id).holding(session.guard))
    }
}

/// Replaces the medium of an open drive, and closes it.
async fn exchange(session: &HotplugSession<'_>, drive: &CdDrive, node: &str) -> Result<(), QmpError> {
    session.execute(&drive.command("blockdev-remove-medium")).await?;
    session.execute(&drive.command("blockdev-insert-medium").with("node-name", node)).await?;
    session.execute(&drive.command("blockdev-close-tray")).await?;
    for old in drive.nodes() {
        session.remove_node(&old).await?;
    }
    Ok(())
}

/// Returns a name for the node of a new medium, which coexists with the old one for a moment.
fn new_node(drive: &CdDrive) -> String {
    // The id of a drive that QEMU created is a path, and a node name has up to 31 bytes.
    let id: String = drive.id.chars().filter(char::is_ascii_alphanumeric).collect();
    let id = &id[id.len().saturating_sub(20)..];
    let first = backend_name(&format!("{id}.a"));
    if drive.node.as_ref() == Some(&first) { backend_name(&format!("{id}.b")) } else { first }
}

/// QEMU refuses to remove a node that is in use.
fn ignore_refusal(reply: Result<Value, QmpError>) -> Result<(), QmpError> {
    match reply {
        Ok(_) | Err(QmpError::Refused { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A drive with a tray, as `query-block` reports it.
struct CdDrive {
    /// The ID for QMP commands.
    id: String,
    /// The block node of the medium.
    node: Option<String>,
    /// The file of the medium.
    file: Option<String>,
    /// Whether the tray is open, or there is none.
    is_open: bool,
    /// Whether the guest has locked the tray.
    is_locked: bool,
}

impl CdDrive {
    fn from_block(block: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let inserted = &block["inserted"];
        Self {
            id: text(&block["qdev"]).or_else(|| text(&block["device"])).unwrap_or_default(),
            node: text(&inserted["node-name"]),
            file: text(&inserted["image"]["filename"]),
            is_open: block["tray_open"] != false,
            is_locked: block["locked"] == true,
        }
    }

    /// Returns a command for this drive.
    fn command(&self, execute: &str) -> QmpCommand {
        QmpCommand::new(execute).with("id", self.id.as_str())
    }

    /// Returns the nodes of the medium, from the top; one of the definition has two.
    fn nodes(&self) -> Vec<String> {
        self.node.iter().flat_map(|node| [node.clone(), format!("{node}-file")]).collect()
    }
}

/// Returns the names of a drive that users know.
fn names(block: &Value) -> impl Iterator<Item = &str> {
    let names = [&block["qdev"], &block["device"], &block["inserted"]["node-name"]];
    names.into_iter().filter_map(Value::as_str).filter(|name| !name.is_empty())
}

/// Returns whether a device of the guest has the drive, and its medium can be changed.
///
/// QEMU also reports drives without a device as removable, such as `sd0` of a PC and those with `if=none` (7.2, 10.0).
fn is_removable(block: &Value) -> bool {
    block["removable"] == true && block["qdev"].is_string()
}

async fn find_cd_drive(vm: &Monitored<'_>, name: &str) -> Result<CdDrive, Error> {
    let blocks = vm.execute(&QmpCommand::new("query-block")).await?;
    let vm = vm.entry.name.clone();
    let found = items(&blocks).find(|block| names(block).any(|one| one == name));
    if let Some(block) = found.filter(|block| is_removable(block)) {
        return Ok(CdDrive::from_block(block));
    }
    let plain_name = |block| names(block).find(|name| !name.starts_with('/'));
    let removable = items(&blocks).filter(|block| is_removable(block)).filter_map(plain_name);
    let known: Vec<String> = removable.map(str::to_owned).collect();
    if found.is_some() {
        return Err(MediumError::EjectUnsupported { vm, drive: name.to_owned(), removable: known }.into());
    }
    let similar = similar(name, known.iter().map(String::as_str));
    Err(DeviceError::NotFound { vm, kind: "removable drive", id: name.to_owned(), similar, known }.into())
}

/// Opens the tray of a drive, and returns the drive with its medium.
///
/// If the guest has locked the drive, QEMU accepts the command and only asks the guest to unlock it (7.2); once it did,
/// the command is repeated, as the guest may not open the tray itself.
async fn open_tray(vm: &Monitored<'_>, name: &str, force: bool, timeout: Duration) -> Result<CdDrive, Error> {
    let until = Instant::now() + timeout;
    let mut drive = find_cd_drive(vm, name).await?;
    let mut was_locked = false;
    loop {
        if !(was_locked && drive.is_locked) {
            vm.execute(&drive.command("blockdev-open-tray").with("force", force)).await?;
        }
        was_locked = drive.is_locked;
        drive = find_cd_drive(vm, name).await?;
        if drive.is_open {
            return Ok(drive);
        }
        if Instant::now() >= until {
            let vm = vm.entry.name.clone();
            return Err(MediumError::EjectTimedOut { vm, drive: name.to_owned(), after: timeout }.into());
        }
        tokio::time::sleep(limits::UNPLUG_INTERVAL).await;
    }
}
