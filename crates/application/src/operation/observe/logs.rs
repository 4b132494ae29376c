//! `logs`: what the guest, QEMU and maqet itself wrote about a VM.

mod error;
mod reader;

use maqet_domain::vm::{BootNumber, RunPaths, Vm};
use serde::{Deserialize, Serialize};

pub use self::error::LogError;
pub use self::reader::LogReader;

use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::event::journal::journal_file;
use crate::{App, Error, limits};

/// Which log of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogKind {
    /// What the guest wrote to its first serial port.
    #[default]
    Serial,
    /// What QEMU wrote to its standard output and error.
    Qemu,
    /// What maqet did to the VM.
    Maqet,
}

/// Reads a log of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logs {
    /// The VM: a name, an ID, or a unique prefix of an ID.
    pub vm: String,
    /// Which log.
    #[serde(default)]
    pub log: LogKind,
    /// Of which start of the VM, from 1; the newest that is kept if nothing is said.
    #[serde(default)]
    pub boot: Option<BootNumber>,
    /// How many of the last lines; all if nothing is said.
    #[serde(default)]
    pub lines: Option<usize>,
}

/// A log, or the end of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VmLog {
    /// Which log it is.
    #[serde(flatten)]
    pub about: LogInfo,
    /// Where in the file the text begins, in bytes.
    pub offset: u64,
    /// How long the file was, in bytes.
    pub length: u64,
    /// What it says, of a long log the end; what is not UTF-8 is replaced.
    pub text: String,
}

/// Which log it is, and of what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogInfo {
    /// The VM's id.
    pub id: String,
    /// The VM's name.
    pub name: String,
    /// Which log.
    pub log: LogKind,
    /// Of which start of the VM; maqet's own log is of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootNumber>,
    /// The starts whose logs are kept, the oldest first.
    pub boots_kept: Vec<BootNumber>,
    /// The file.
    pub file: String,
}

impl Operation for Logs {
    const NAME: &'static str = "logs";
    const EFFECT: Effect = Effect::Reads;
    type Output = VmLog;

    async fn run(&self, app: &App) -> Result<Done<VmLog>, Error> {
        let mut reader = app.open_log(self).await?;
        reader.skip_to_last(limits::MAX_LOG_TEXT_BYTES);
        let offset = reader.position();
        let mut bytes = Vec::new();
        while bytes.len() < limits::MAX_LOG_TEXT_BYTES {
            match reader.read().await? {
                part if part.is_empty() => break,
                part => bytes.extend(part),
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let length = reader.length();
        Ok(Done::reading(VmLog { about: reader.into_info(), offset, length, text }))
    }
}

impl App {
    /// Opens a log, to be read as it is and as it grows.
    ///
    /// Errors: no such VM; a VM that was never started; a boot whose logs are not kept; a serial port that goes
    /// elsewhere; a log that somebody removed.
    pub async fn open_log(&self, wanted: &Logs) -> Result<LogReader<'_>, Error> {
        let vm = self.vm(&wanted.vm).await?;
        let (sockets, records) = (self.folders.vm_sockets(&vm.entry.id), self.folders.vm_records(&vm.entry.id));
        let boots_kept = self.ports.records.boots(&records).await;
        let boot = boot_of(&vm, wanted, &boots_kept)?;
        let file = match (wanted.log, boot) {
            (LogKind::Serial, Some(boot)) => RunPaths::new(&sockets, &records, boot).serial_log(),
            (LogKind::Qemu, Some(boot)) => RunPaths::new(&sockets, &records, boot).qemu_log(),
            (LogKind::Maqet, _) | (_, None) => journal_file(&records),
        };
        let about = LogInfo {
            id: vm.entry.id.to_string(),
            name: vm.entry.name.to_string(),
            log: wanted.log,
            boot,
            boots_kept,
            file: shown(&file),
        };
        let reader = LogReader::open(self, vm.entry.id, file, about, wanted.lines).await?;
        if wanted.log == LogKind::Serial && reader.length() == 0 {
            self.check_serial(&vm)?;
        }
        Ok(reader)
    }

    /// Says where the serial port goes if not to the log: that is why nothing is in it.
    fn check_serial(&self, vm: &Vm) -> Result<(), Error> {
        // A definition that is not understood has had its own error at the start.
        match self.machine(vm).ok().and_then(|machine| machine.serial_redirection()) {
            Some(elsewhere) => Err(LogError::Elsewhere { vm: vm.entry.name.clone(), elsewhere }.into()),
            None => Ok(()),
        }
    }
}

/// Returns the boot whose log is meant; none for maqet's own log.
fn boot_of(vm: &Vm, wanted: &Logs, kept: &[BootNumber]) -> Result<Option<BootNumber>, LogError> {
    match (wanted.log, wanted.boot) {
        (LogKind::Maqet, None) => Ok(None),
        (LogKind::Maqet, Some(_)) => Err(LogError::OfNoBoot),
        (LogKind::Serial | LogKind::Qemu, Some(boot)) if kept.contains(&boot) => Ok(Some(boot)),
        (LogKind::Serial | LogKind::Qemu, Some(boot)) => {
            Err(LogError::NoSuchBoot { vm: vm.entry.name.clone(), boot, kept: kept.to_vec() })
        }
        // A start that failed leaves its logs and no run, and why it failed is what people look for.
        (LogKind::Serial | LogKind::Qemu, None) => {
            let newest = kept.last().copied().or(vm.entry.run.as_ref().map(|run| run.boot));
            newest.map(Some).ok_or_else(|| LogError::NeverStarted { vm: vm.entry.name.clone() })
        }
    }
}
