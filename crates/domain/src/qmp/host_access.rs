//! Which commands reach beyond their machine, to the host.
//!
//! A command is harmless when it is known to be: everything else asks, commands of a newer QEMU among it. Harmless means
//! that it works on the machine and on what the machine was given when it was started; not that the machine survives it
//! (`quit` is harmless).

mod list;

use serde_json::{Map, Value};

use self::list::{
    ASKING, DEVICE_FAMILIES, DEVICES, HARMLESS, HARMLESS_BACKENDS, HARMLESS_BLOCK_DRIVERS, HARMLESS_OBJECTS,
    HARMLESS_PROPERTIES, HARMLESS_QUERIES, HOST_FORMS, HOST_PROPERTIES, MEMORY_TAKEN, SOUND_DEVICES,
};
use super::schema::OPEN_COMMAND;
use crate::qmp::QmpCommand;

/// What a command could do to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostAccess {
    /// Files of the host are opened, or written.
    Files,
    /// Programs of the host are run, or its network is used.
    ProgramsOrNetwork,
    /// The network of the host is used, or listened at.
    Network,
    /// Somebody who had none gets access to the machine or its disks.
    Access,
    /// Memory of the host is taken before the guest needs it, or from places of somebody's choice.
    Memory,
    /// Hardware, files or services of the host are given to the guest.
    HostDevice,
    /// A line of the human monitor may be any command.
    HumanMonitor,
    /// A property may stand for anything, a file of the host among it.
    Property,
    /// QEMU writes into its log, on the host, for as long as the machine runs.
    Log,
    /// Nobody here knows what it does.
    Unknown,
}

impl HostAccess {
    /// Returns why it asks, as the end of a sentence that begins with the command.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Files => "opens or writes files of the host",
            Self::ProgramsOrNetwork => "can run programs of the host or connect it to others",
            Self::Network => "connects the host to others or listens on it",
            Self::Access => "gives others access to the machine or its disks",
            Self::Memory => "takes memory of the host before the guest needs it, or where it chooses",
            Self::HostDevice => "can give the guest hardware, files or services of the host",
            Self::HumanMonitor => "can do anything the human monitor can, unless its line begins with `info` or `help`",
            Self::Property => "can set properties that stand for files of the host",
            Self::Log => "has QEMU fill its log on the host",
            Self::Unknown => "is not known to keep off the host",
        }
    }
}

/// Returns what a command that somebody asks for could do to the host; `None` where it is known to be harmless.
///
/// ```
/// use crate::qmp::QmpCommand;
/// use maqet_domain::qmp::{HostAccess, danger};
///
/// assert_eq!(host_access(&QmpCommand::new("query-status")), None);
/// assert_eq!(host_access(&QmpCommand::new("quit")), None);
/// assert_eq!(host_access(&QmpCommand::new("migrate").with("uri", "exec:cat")), Some(HostAccess::ProgramsOrNetwork));
/// let line = |line: &str| QmpCommand::new("human-monitor-command").with("command-line", line);
/// assert_eq!(host_access(&line("info pci")), None);
/// assert_eq!(host_access(&line("logfile /etc/passwd")), Some(HostAccess::HumanMonitor));
/// ```
pub fn host_access(command: &QmpCommand) -> Option<HostAccess> {
    of(&command.execute, &command.arguments)
}

fn of(name: &str, arguments: &Map<String, Value>) -> Option<HostAccess> {
    let text = |key: &str| arguments.get(key).and_then(Value::as_str);
    let is_text_in = |key: &str, list: &[&str]| text(key).is_some_and(|value| list.contains(&value));
    let is_known = match name {
        _ if HARMLESS.contains(&name) || HARMLESS_QUERIES.iter().any(|prefix| name.starts_with(prefix)) => true,
        "transaction" => return of_transaction(arguments),
        OPEN_COMMAND => is_plain_device(arguments),
        "human-monitor-command" => text("command-line").is_some_and(only_tells),
        "chardev-add" | "chardev-change" => arguments.get("backend").is_some_and(is_memory_only),
        "netdev_add" => is_text_in("type", &["hubport"]),
        "blockdev-add" => is_text_in("driver", HARMLESS_BLOCK_DRIVERS),
        "object-add" => return of_object(arguments),
        "qom-set" => is_text_in("property", HARMLESS_PROPERTIES),
        // The name is written into the image, whoever opens it next opens that file, too.
        "block-commit" | "block-stream" => !arguments.contains_key("backing-file"),
        _ => false,
    };
    if is_known {
        return None;
    }
    let why = ASKING.iter().find(|(asking, _)| *asking == name).map(|(_, why)| *why);
    Some(why.unwrap_or(HostAccess::Unknown))
}

/// Returns whether the back end of a character device has nothing of the host; any of them may be told to write what
/// goes through it into a file.
fn is_memory_only(backend: &Value) -> bool {
    let kind = backend.get("type").and_then(Value::as_str);
    let has_log = backend.get("data").is_some_and(|data| data.get("logfile").is_some());
    kind.is_some_and(|kind| HARMLESS_BACKENDS.contains(&kind)) && !has_log
}

/// Looks at an object and at what it is given; before 6.0 that stands under `props`.
fn of_object(arguments: &Map<String, Value>) -> Option<HostAccess> {
    let kind = arguments.get("qom-type").and_then(Value::as_str).unwrap_or_default();
    if !HARMLESS_OBJECTS.contains(&kind) || ["file", "dir", "props"].iter().any(|key| arguments.contains_key(*key)) {
        return Some(HostAccess::Files);
    }
    let takes = |key: &&str| arguments.get(*key).is_some_and(|value| *value != false);
    MEMORY_TAKEN.iter().any(takes).then_some(HostAccess::Memory)
}

/// Looks at each action as at the command of its name.
fn of_transaction(arguments: &Map<String, Value>) -> Option<HostAccess> {
    let Some(actions) = arguments.get("actions").and_then(Value::as_array) else { return Some(HostAccess::Unknown) };
    let none = Map::new();
    actions.iter().find_map(|action| match action.get("type").and_then(Value::as_str) {
        Some("abort") => None,
        Some(name) => of(name, action.get("data").and_then(Value::as_object).unwrap_or(&none)),
        None => Some(HostAccess::Unknown),
    })
}

/// Returns whether a device is one of QEMU's own, of which no property names something of the host.
fn is_plain_device(arguments: &Map<String, Value>) -> bool {
    let driver = arguments.get("driver").and_then(Value::as_str).unwrap_or_default();
    let is_plain = DEVICES.contains(&driver) || DEVICE_FAMILIES.iter().any(|family| is_of_family(driver, family));
    let is_of_host = HOST_FORMS.iter().any(|form| driver.contains(form));
    // One that is told no back end takes the loudspeakers and the microphone of the host (7.2).
    let is_heard =
        SOUND_DEVICES.iter().any(|family| is_of_family(driver, family)) && !arguments.contains_key("audiodev");
    let names_host = |key: &String| HOST_PROPERTIES.contains(&key.as_str());
    is_plain && !is_of_host && !is_heard && !arguments.keys().any(names_host)
}

/// `virtio-blk` names `virtio-blk-pci` as well, and `-cpu` every CPU.
fn is_of_family(driver: &str, family: &str) -> bool {
    match family.strip_prefix('*') {
        Some(end) => driver.ends_with(end),
        None => driver.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')),
    }
}

/// Returns whether a line of the human monitor only tells something.
fn only_tells(line: &str) -> bool {
    matches!(line.split_ascii_whitespace().next(), Some("info" | "help" | "?"))
}

#[cfg(test)]
mod tests;
