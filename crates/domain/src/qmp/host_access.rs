//! Which commands reach the host.
//!
//! A command is harmless if it is on a list; every other one, such as those of a newer QEMU, requires permission. Harmless
//! means that it affects the VM and the files and devices the VM was started with, not that the VM survives it: `quit` is
//! harmless.

mod list;

use serde_json::{Map, Value};

use self::list::{
    DEVICE_FAMILIES, DEVICES, HARMLESS, HARMLESS_BACKENDS, HARMLESS_BLOCK_DRIVERS, HARMLESS_OBJECTS,
    HARMLESS_PROPERTIES, HARMLESS_QUERIES, HOST_ACCESS_COMMANDS, HOST_FORMS, HOST_MEMORY_OPTIONS, HOST_PROPERTIES,
    SOUND_DEVICES,
};
use super::schema::OPEN_COMMAND;
use crate::error::{Explain, Explanation, Fault};
use crate::qmp::QmpCommand;
use crate::text::escaped;

/// What a command could do to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "`reason` says what each is")]
pub enum HostAccess {
    Files,
    ProgramsOrNetwork,
    Network,
    Access,
    Memory,
    HostDevice,
    HumanMonitor,
    Property,
    Log,
    Unknown,
}

impl HostAccess {
    /// Returns the reason, as the end of a sentence that begins with the command.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Files => "opens or writes files of the host",
            Self::ProgramsOrNetwork => "can run programs of the host or connect it to others",
            Self::Network => "connects the host to others or listens on it",
            Self::Access => "gives others access to the VM or its disks",
            Self::Memory => "allocates memory of the host in advance or on chosen nodes",
            Self::HostDevice => "can give the guest hardware, files or services of the host",
            Self::HumanMonitor => "can do anything the human monitor can, unless its line begins with `info` or `help`",
            Self::Property => "can set properties that refer to files of the host",
            Self::Log => "makes QEMU fill its log on the host",
            Self::Unknown => "is not known to be harmless to the host",
        }
    }
}

/// The maximum length of a driver in a message, in characters.
const MAX_SHOWN: usize = 40;

/// A command that could reach the host, without permission to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{command}`{cause} {}", access.reason())]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct HostAccessRefused {
    pub command: String,
    /// What about the command reaches the host, as in `` of `vfio-pci` ``; may be empty.
    pub cause: String,
    pub access: HostAccess,
}

impl Explain for HostAccessRefused {
    fn explain(&self) -> Explanation {
        Explanation::new("qmp.host-access-refused", Fault::Usage).hint("pass `--allow-dangerous` to run it anyway")
    }
}

/// Refuses a command that could reach the host, unless `allow_dangerous` is set.
pub fn check_host_access(command: &QmpCommand, allow_dangerous: bool) -> Result<(), HostAccessRefused> {
    match host_access(command) {
        Some(access) if !allow_dangerous => {
            let cause = cause(&command.execute, &command.arguments);
            Err(HostAccessRefused { command: command.execute.clone(), cause, access })
        }
        Some(_) | None => Ok(()),
    }
}

/// Returns what a command could do to the host; `None` if it is harmless.
///
/// ```
/// use maqet_domain::qmp::{HostAccess, QmpCommand, host_access};
///
/// assert_eq!(host_access(&QmpCommand::new("query-status")), None);
/// assert_eq!(host_access(&QmpCommand::new("quit")), None);
/// assert_eq!(host_access(&QmpCommand::new("migrate").with("uri", "exec:cat")), Some(HostAccess::ProgramsOrNetwork));
/// let line = |line: &str| QmpCommand::new("human-monitor-command").with("command-line", line);
/// assert_eq!(host_access(&line("info pci")), None);
/// assert_eq!(host_access(&line("logfile /etc/passwd")), Some(HostAccess::HumanMonitor));
/// ```
pub fn host_access(command: &QmpCommand) -> Option<HostAccess> {
    access_of(&command.execute, &command.arguments)
}

/// Returns which argument of a refused command reaches the host: a driver or type, else a property.
fn cause(name: &str, arguments: &Map<String, Value>) -> String {
    let text = |key: &str| arguments.get(key).and_then(Value::as_str);
    let of = |key: &str| text(key).map(|value| format!(" of `{}`", escaped(value, MAX_SHOWN))).unwrap_or_default();
    match name {
        OPEN_COMMAND => {
            let property = arguments.keys().find(|key| HOST_PROPERTIES.contains(&key.as_str()));
            let property = property.map(|key| format!(" with the property `{key}`")).unwrap_or_default();
            let driver = text("driver").unwrap_or_default();
            let is_silent = is_emulated(driver) && property.is_empty();
            let audio = if is_silent && uses_host_audio(driver, arguments) { " without `audiodev`" } else { "" };
            format!("{}{property}{audio}", of("driver"))
        }
        "object-add" => of("qom-type"),
        "blockdev-add" => of("driver"),
        "netdev_add" => of("type"),
        "qom-set" => of("property"),
        _ => String::new(),
    }
}

fn access_of(name: &str, arguments: &Map<String, Value>) -> Option<HostAccess> {
    let text = |key: &str| arguments.get(key).and_then(Value::as_str);
    let is_listed = |key: &str, list: &[&str]| text(key).is_some_and(|value| list.contains(&value));
    let is_harmless = match name {
        _ if HARMLESS.contains(&name) || HARMLESS_QUERIES.iter().any(|prefix| name.starts_with(prefix)) => true,
        "transaction" => return transaction_access(arguments),
        OPEN_COMMAND => is_plain_device(arguments),
        "human-monitor-command" => text("command-line").is_some_and(is_hmp_query),
        "chardev-add" | "chardev-change" => arguments.get("backend").is_some_and(is_memory_only),
        "netdev_add" => is_listed("type", &["hubport"]),
        "blockdev-add" => is_listed("driver", HARMLESS_BLOCK_DRIVERS),
        "object-add" => return object_access(arguments),
        "qom-set" => is_listed("property", HARMLESS_PROPERTIES),
        // The name is written into the image, and opened the next time the image is.
        "block-commit" | "block-stream" => !arguments.contains_key("backing-file"),
        _ => false,
    };
    if is_harmless {
        return None;
    }
    let access = HOST_ACCESS_COMMANDS.iter().find(|(command, _)| *command == name).map(|(_, access)| *access);
    Some(access.unwrap_or(HostAccess::Unknown))
}

/// Returns whether a character device uses memory only; any of them can log to a file.
fn is_memory_only(backend: &Value) -> bool {
    let kind = backend.get("type").and_then(Value::as_str);
    let has_log = backend.get("data").is_some_and(|data| data.get("logfile").is_some());
    kind.is_some_and(|kind| HARMLESS_BACKENDS.contains(&kind)) && !has_log
}

/// Before 6.0 the options of an object are under `props`.
fn object_access(arguments: &Map<String, Value>) -> Option<HostAccess> {
    let kind = arguments.get("qom-type").and_then(Value::as_str).unwrap_or_default();
    if !HARMLESS_OBJECTS.contains(&kind) || ["file", "dir", "props"].iter().any(|key| arguments.contains_key(*key)) {
        return Some(HostAccess::Files);
    }
    let is_set = |key: &&str| arguments.get(*key).is_some_and(|value| *value != false);
    HOST_MEMORY_OPTIONS.iter().any(is_set).then_some(HostAccess::Memory)
}

/// Each action counts as the command of its name.
fn transaction_access(arguments: &Map<String, Value>) -> Option<HostAccess> {
    let Some(actions) = arguments.get("actions").and_then(Value::as_array) else { return Some(HostAccess::Unknown) };
    let none = Map::new();
    actions.iter().find_map(|action| match action.get("type").and_then(Value::as_str) {
        Some("abort") => None,
        Some(name) => access_of(name, action.get("data").and_then(Value::as_object).unwrap_or(&none)),
        None => Some(HostAccess::Unknown),
    })
}

/// Returns whether a device is emulated, and none of its properties names something of the host.
fn is_plain_device(arguments: &Map<String, Value>) -> bool {
    let driver = arguments.get("driver").and_then(Value::as_str).unwrap_or_default();
    let names_host = |key: &String| HOST_PROPERTIES.contains(&key.as_str());
    is_emulated(driver) && !uses_host_audio(driver, arguments) && !arguments.keys().any(names_host)
}

fn is_emulated(driver: &str) -> bool {
    let is_known = DEVICES.contains(&driver) || DEVICE_FAMILIES.iter().any(|family| is_of_family(driver, family));
    is_known && !HOST_FORMS.iter().any(|form| driver.contains(form))
}

/// Returns whether a sound card has no backend, and uses the loudspeakers and the microphone of the host (7.2).
fn uses_host_audio(driver: &str, arguments: &Map<String, Value>) -> bool {
    SOUND_DEVICES.iter().any(|family| is_of_family(driver, family)) && !arguments.contains_key("audiodev")
}

/// `virtio-blk` also matches `virtio-blk-pci`, and `*-cpu` every CPU.
fn is_of_family(driver: &str, family: &str) -> bool {
    match family.strip_prefix('*') {
        Some(end) => driver.ends_with(end),
        None => driver.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')),
    }
}

/// Returns whether a line of the human monitor only shows something.
fn is_hmp_query(line: &str) -> bool {
    matches!(line.split_ascii_whitespace().next(), Some("info" | "help" | "?"))
}

#[cfg(test)]
mod tests;
