//! `logs`: the output of the guest, the output of QEMU, and the operations of maqet on a VM.

mod error;
mod reader;

use derive_setters::Setters;
use maqet_domain::vm::{BootNumber, RunPaths, Vm};
use serde::{Deserialize, Serialize};

pub use self::error::LogError;
pub use self::reader::LogReader;

use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::event::journal::journal_file;
use crate::{App, Error, limits};

/// A log of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogKind {
    /// The output of the guest on its first serial port.
    #[default]
    Serial,
    /// The standard output and standard error of QEMU.
    Qemu,
    /// The operations of maqet on the VM.
    Maqet,
}

/// Returns a log of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct Logs {
    /// The VM: a name, an ID, or a unique prefix of an ID.
    pub vm: String,
    /// The log; by default that of the serial port.
    #[serde(default)]
    pub log: LogKind,
    /// The boot, counted from 1; by default the newest with logs.
    pub boot: Option<BootNumber>,
    /// Only this many of the last lines; by default all.
    pub lines: Option<usize>,
}

impl Logs {
    /// Returns the serial log of the newest boot of the VM `vm`.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into(), log: LogKind::default(), boot: None, lines: None }
    }

    /// Opens the log, to read it in pieces and while it grows.
    ///
    /// Errors: [`Error::NoSuchVm`], [`Error::Log`], and [`Error::Record`] if the file was deleted or cannot be read.
    pub async fn open<'a>(&self, app: &'a App) -> Result<LogReader<'a>, Error> {
        let vm = app.vms().find(&self.vm).await?;
        let sockets = app.folders.vm_sockets(&vm.entry.id);
        let records = app.folders.vm_records(&vm.entry.id);
        let boots_kept = app.ports.records.boots(&records).await;
        let boot = self.select_boot(&vm, &boots_kept)?;
        let file = match (self.log, boot) {
            (LogKind::Serial, Some(boot)) => RunPaths::new(&sockets, &records, boot).serial_log(),
            (LogKind::Qemu, Some(boot)) => RunPaths::new(&sockets, &records, boot).qemu_log(),
            (LogKind::Maqet, _) | (_, None) => journal_file(&records),
        };
        let about = LogInfo {
            id: vm.entry.id.to_string(),
            name: vm.entry.name.to_string(),
            log: self.log,
            boot,
            boots_kept,
            file: shown(&file),
        };
        let reader = LogReader::open(app, vm.entry.id, file, about, self.lines).await?;
        if self.log == LogKind::Serial && reader.length() == 0 {
            ensure_serial_is_logged(app, &vm)?;
        }
        Ok(reader)
    }

    /// Returns the boot whose log is read; `None` for maqet's own log.
    fn select_boot(&self, vm: &Vm, kept: &[BootNumber]) -> Result<Option<BootNumber>, LogError> {
        match (self.log, self.boot) {
            (LogKind::Maqet, None) => Ok(None),
            (LogKind::Maqet, Some(_)) => Err(LogError::BootUnsupported),
            (LogKind::Serial | LogKind::Qemu, Some(boot)) if kept.contains(&boot) => Ok(Some(boot)),
            (LogKind::Serial | LogKind::Qemu, Some(boot)) => {
                Err(LogError::BootNotFound { vm: vm.entry.name.clone(), boot, kept: kept.to_vec() })
            }
            // A failed start leaves logs and no run, and its logs say why it failed.
            (LogKind::Serial | LogKind::Qemu, None) => {
                let newest = kept.last().copied().or(vm.entry.run.as_ref().map(|run| run.boot));
                newest.map(Some).ok_or_else(|| LogError::RunNotFound { vm: vm.entry.name.clone() })
            }
        }
    }
}

/// A log, or the end of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VmLog {
    /// The log that was read.
    #[serde(flatten)]
    pub about: LogInfo,
    /// The position of the text in the file, in bytes.
    pub offset: u64,
    /// The length of the file, in bytes.
    pub length: u64,
    /// The content, of a long log the end; invalid UTF-8 becomes U+FFFD.
    pub text: String,
}

/// The identity of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LogInfo {
    /// The VM's ID.
    pub id: String,
    /// The VM's name.
    pub name: String,
    /// The kind of log.
    pub log: LogKind,
    /// The boot; maqet's own log covers all boots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootNumber>,
    /// The boots with logs, oldest first.
    pub boots_kept: Vec<BootNumber>,
    /// The file.
    pub file: String,
}

impl Operation for Logs {
    const NAME: &'static str = "logs";
    const EFFECT: Effect = Effect::Reads;
    type Output = VmLog;

    async fn run(&self, app: &App) -> Result<Done<VmLog>, Error> {
        let mut reader = self.open(app).await?;
        reader.skip_to_last(limits::MAX_LOG_TEXT_BYTES);
        let offset = reader.position();
        let mut bytes = Vec::new();
        while bytes.len() < limits::MAX_LOG_TEXT_BYTES {
            match reader.read().await? {
                piece if piece.is_empty() => break,
                piece => bytes.extend(piece),
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let length = reader.length();
        Ok(Done::reading(VmLog { about: reader.into_info(), offset, length, text }))
    }
}

/// Checks that the definition does not redirect the serial port, which leaves its log empty.
fn ensure_serial_is_logged(app: &App, vm: &Vm) -> Result<(), LogError> {
    // The problems of an invalid definition are reported by the operations that need it.
    match app.machine(vm).ok().and_then(|machine| machine.serial_redirection()) {
        Some(serial) => Err(LogError::Unavailable { vm: vm.entry.name.clone(), serial }),
        None => Ok(()),
    }
}
