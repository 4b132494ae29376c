//! Responses to QMP commands.
//!
//! Common queries have tables of their own. A list of objects with the same simple members becomes a table, too, and
//! everything else is shown as YAML.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{self, Write};

use maqet::domain::size::ByteSize;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use unicode_width::UnicodeWidthStr;

use super::table::write_table;
use super::{PLAIN, TextOutput};
use crate::render::sanitize::{escape_control, escape_control_lines};

/// The most columns of a table that is not defined here.
const MAX_COLUMNS: usize = 8;

/// A response and its command; as data it is the response alone.
#[derive(Debug)]
pub(crate) struct QmpResponse<'a> {
    pub(crate) command: &'a str,
    pub(crate) value: &'a Value,
}

impl Serialize for QmpResponse<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

/// How a value is written into a cell.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// Unchanged.
    Plain,
    /// As a size.
    Size,
    /// As this text if it is true.
    If(&'static str),
    /// As four hexadecimal digits.
    Hex,
}

/// A column: its heading, JSON pointers to its value (the first that exists), and its form.
type Column = (&'static str, &'static [&'static str], Form);

/// Returns the columns for a query that returns a known list.
fn columns_of(command: &str) -> Option<&'static [Column]> {
    use Form::{If, Plain, Size};

    Some(match command {
        "query-block" => &[
            ("DEVICE", &["/device", "/qdev"], Plain),
            ("NODE", &["/inserted/node-name"], Plain),
            ("FORMAT", &["/inserted/drv"], Plain),
            ("SIZE", &["/inserted/image/virtual-size"], Size),
            ("ACCESS", &["/inserted/ro"], If("read-only")),
            ("TRAY", &["/tray_open"], If("open")),
            ("FILE", &["/inserted/file"], Plain),
        ],
        "query-named-block-nodes" => &[
            ("NODE", &["/node-name"], Plain),
            ("FORMAT", &["/drv"], Plain),
            ("SIZE", &["/image/virtual-size"], Size),
            ("ACCESS", &["/ro"], If("read-only")),
            ("FILE", &["/file"], Plain),
        ],
        "query-blockstats" => &[
            ("DEVICE", &["/device", "/qdev"], Plain),
            ("NODE", &["/node-name"], Plain),
            ("READ", &["/stats/rd_bytes"], Size),
            ("READS", &["/stats/rd_operations"], Plain),
            ("WRITTEN", &["/stats/wr_bytes"], Size),
            ("WRITES", &["/stats/wr_operations"], Plain),
        ],
        "query-cpus-fast" => &[
            ("CPU", &["/cpu-index"], Plain),
            ("SOCKET", &["/props/socket-id"], Plain),
            ("CORE", &["/props/core-id"], Plain),
            ("THREAD", &["/props/thread-id"], Plain),
            ("HOST THREAD", &["/thread-id"], Plain),
            ("PATH", &["/qom-path"], Plain),
        ],
        "query-hotpluggable-cpus" => &[
            ("TYPE", &["/type"], Plain),
            ("SOCKET", &["/props/socket-id"], Plain),
            ("CORE", &["/props/core-id"], Plain),
            ("THREAD", &["/props/thread-id"], Plain),
            ("PLUGGED AS", &["/qom-path"], Plain),
        ],
        "query-chardev" => {
            &[("NAME", &["/label"], Plain), ("STATE", &["/frontend-open"], If("open")), ("FILE", &["/filename"], Plain)]
        }
        "query-jobs" | "query-block-jobs" => &[
            ("ID", &["/id", "/device"], Plain),
            ("TYPE", &["/type"], Plain),
            ("STATUS", &["/status"], Plain),
            ("DONE", &["/current-progress", "/offset"], Plain),
            ("OF", &["/total-progress", "/len"], Plain),
            ("ERROR", &["/error"], Plain),
        ],
        "query-memory-devices" => &[
            ("ID", &["/data/id"], Plain),
            ("TYPE", &["/type"], Plain),
            ("SIZE", &["/data/size"], Size),
            ("BACKEND", &["/data/memdev"], Plain),
        ],
        "query-commands" => &[("NAME", &["/name"], Plain)],
        _ => return None,
    })
}

const PCI: &[Column] = &[
    ("BUS", &["/bus"], Form::Plain),
    ("SLOT", &["/slot"], Form::Plain),
    ("FUNCTION", &["/function"], Form::Plain),
    ("VENDOR", &["/id/vendor"], Form::Hex),
    ("DEVICE", &["/id/device"], Form::Hex),
    ("ID", &["/qdev_id"], Form::Plain),
    ("CLASS", &["/class_info/desc", "/class_info/class"], Form::Plain),
];

impl TextOutput for QmpResponse<'_> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        match (self.command, self.value) {
            (_, Value::String(text)) => {
                let text = text.replace("\r\n", "\n");
                let shown = escape_control_lines(text.trim_end_matches('\n'));
                if shown.is_empty() { Ok(()) } else { writeln!(out, "{shown}") }
            }
            (_, Value::Array(items)) if items.is_empty() => writeln!(out, "(none)"),
            ("query-pci", Value::Array(buses)) => table(out, PCI, &pci_devices(buses)),
            ("query-version", value) => {
                let number = |part: &str| value["qemu"][part].to_string();
                let package = value["package"].as_str().filter(|package| !package.is_empty());
                let package = package.map(|package| format!(" ({})", escape_control(package))).unwrap_or_default();
                writeln!(out, "{}.{}.{}{package}", number("major"), number("minor"), number("micro"))
            }
            ("query-memory-size-summary" | "query-balloon", Value::Object(sizes)) => {
                let size = |value: &Value| Value::from(cell(Some(value), Form::Size));
                members(out, &sizes.iter().map(|(name, value)| (name.clone(), size(value))).collect())
            }
            (command, Value::Array(items)) => match columns_of(command) {
                Some(columns) if command == "query-commands" => {
                    let mut sorted: Vec<&Value> = items.iter().collect();
                    sorted.sort_by_key(|item| item["name"].as_str());
                    table(out, columns, &sorted)
                }
                Some(columns) => table(out, columns, &items.iter().collect::<Vec<_>>()),
                None => list(out, items),
            },
            // Only says that the command succeeded.
            (_, Value::Object(object)) if object.is_empty() => Ok(()),
            (_, Value::Object(object)) if object.values().all(is_simple) => members(out, object),
            (_, value) => yaml(out, value),
        }
    }
}

/// Returns the devices of all buses, those behind bridges included.
fn pci_devices(buses: &[Value]) -> Vec<&Value> {
    let mut found = Vec::new();
    let mut waiting: Vec<&Value> = buses.iter().filter_map(|bus| bus.get("devices")).rev().collect();
    while let Some(devices) = waiting.pop() {
        let devices = devices.as_array().map(Vec::as_slice).unwrap_or_default();
        found.extend(devices);
        waiting.extend(devices.iter().filter_map(|device| device.pointer("/pci_bridge/devices")));
    }
    found
}

fn is_simple(value: &Value) -> bool {
    !value.is_array() && !value.is_object()
}

/// Writes a list: as a table if its items have the same simple members.
fn list(out: &mut dyn Write, items: &[Value]) -> io::Result<()> {
    let mut names: Vec<&str> = Vec::new();
    let mut seen = HashSet::new();
    for item in items {
        let Some(item) = item.as_object().filter(|item| item.values().all(is_simple)) else {
            return yaml(out, &items);
        };
        names.extend(item.keys().map(String::as_str).filter(|name| seen.insert(*name)));
    }
    if names.len() > MAX_COLUMNS {
        return yaml(out, &items);
    }
    // The name comes first.
    names.sort_by_key(|name| !matches!(*name, "id" | "name" | "capability"));
    let rows = items.iter().map(|item| names.iter().map(|name| cell(item.get(name), Form::Plain).into()).collect());
    let headings: Vec<String> = names.iter().map(|name| name.to_uppercase()).collect();
    write_table(out, &headings, 0, rows.map(|cells: Vec<Cow<'_, str>>| (PLAIN, cells)))
}

/// Writes a table without its empty columns.
fn table(out: &mut dyn Write, columns: &[Column], items: &[&Value]) -> io::Result<()> {
    let value = |item: &Value, (_, pointers, form): &Column| {
        let found = pointers.iter().filter_map(|pointer| item.pointer(pointer)).find(|value| **value != "");
        cell(found, *form)
    };
    let is_used = |column: &&Column| items.iter().any(|item| !value(item, column).is_empty());
    let columns: Vec<&Column> = columns.iter().filter(is_used).collect();
    let headings: Vec<&str> = columns.iter().map(|(heading, ..)| *heading).collect();
    let row = |item: &&Value| columns.iter().map(|column| value(item, column).into()).collect::<Vec<Cow<'_, str>>>();
    write_table(out, &headings, 0, items.iter().map(|item| (PLAIN, row(item))))
}

/// Writes names and values, a line each.
fn members(out: &mut dyn Write, members: &Map<String, Value>) -> io::Result<()> {
    let width = members.keys().map(|name| name.width()).max().unwrap_or_default();
    members.iter().try_for_each(|(name, value)| {
        let value = cell(Some(value), Form::Plain);
        writeln!(out, "{:<width$}  {}", escape_control(name), escape_control(&value))
    })
}

fn yaml(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    let text = serde_yaml::to_string(value).map_err(io::Error::other)?;
    writeln!(out, "{}", escape_control_lines(text.trim_end()))
}

/// Returns a value in as few characters as possible.
fn cell(value: Option<&Value>, form: Form) -> String {
    let Some(value) = value else { return String::new() };
    match (form, value, value.as_u64()) {
        (Form::Size, _, Some(bytes)) => ByteSize::from_bytes(bytes).to_string(),
        (Form::Hex, _, Some(number)) => format!("{number:04x}"),
        (Form::If(text), Value::Bool(is_true), _) => if *is_true { text } else { "" }.to_owned(),
        (_, Value::Bool(true), _) => "yes".to_owned(),
        (_, Value::Bool(false), _) => "no".to_owned(),
        (_, Value::Null, _) => String::new(),
        (_, Value::String(text), _) => text.clone(),
        (_, other, _) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(command: &str, value: &Value, expected: &str) {
        let mut out = Vec::new();
        QmpResponse { command, value }.write(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn test_answer_of_well_known_queries_is_a_table() {
        let node = json!({"node-name": "n", "drv": "qcow2", "ro": true, "file": "/a\u{1b}b",
            "image": {"virtual-size": 1_073_741_824, "filename": "/a"}});
        check(
            "query-block",
            &json!([
                {"device": "", "qdev": "d0", "inserted": node, "removable": false},
                {"device": "cd", "qdev": "", "tray_open": true, "removable": true}
            ]),
            "DEVICE  NODE  FORMAT  SIZE  ACCESS     TRAY  FILE\n\
             d0      n     qcow2   1G    read-only        /a\\u{1b}b\n\
             cd                                     open\n",
        );
        check("query-jobs", &json!([]), "(none)\n");
        check(
            "query-cpus-fast",
            &json!([{"cpu-index": 0, "props": {"core-id": 1, "socket-id": 0}, "thread-id": 7, "qom-path": "/c"}]),
            "CPU  SOCKET  CORE  HOST THREAD  PATH\n0    0       1     7            /c\n",
        );
        check("query-commands", &json!([{"name": "stop"}, {"name": "cont"}]), "NAME\ncont\nstop\n");
        check(
            "query-version",
            &json!({"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "Debian"}),
            "7.2.22 (Debian)\n",
        );
        check("query-balloon", &json!({"actual": 67_108_864}), "actual  64M\n");
    }

    #[test]
    fn test_answer_devices_behind_bridges_are_in_the_table() {
        let device = |bus: u32, id: &str| json!({"bus": bus, "slot": 1, "function": 0, "qdev_id": id, "id": {"vendor": 32902, "device": 12}});
        let mut bridge = device(0, "rp0");
        bridge["pci_bridge"] = json!({"devices": [device(1, "d0")]});

        check(
            "query-pci",
            &json!([{"bus": 0, "devices": [bridge, device(0, "x")]}]),
            "BUS  SLOT  FUNCTION  VENDOR  DEVICE  ID\n\
             0    1     0         8086    000c    rp0\n\
             0    1     0         8086    000c    x\n\
             1    1     0         8086    000c    d0\n",
        );
    }

    #[test]
    fn test_answer_of_other_command_is_fields_or_table() {
        check("query-status", &json!({"running": false, "status": "paused"}), "running  no\nstatus   paused\n");
        check(
            "query-mice",
            &json!([{"current": true, "name": "A"}, {"name": "Bb", "index": 2}]),
            "NAME  CURRENT  INDEX\nA     yes\nBb             2\n",
        );
        check("cont", &json!({}), "");
        check("qom-get", &json!(7), "7\n");
        check("qom-get", &json!({"a": {"b": [1]}}), "a:\n  b:\n  - 1\n");
        check("query-rx", &json!([{"a": [1]}]), "- a:\n  - 1\n");
    }

    #[test]
    fn test_answer_text_is_shown_unchanged() {
        check(
            "human-monitor-command",
            &json!("VM status: running\r\nand\u{1b}[2J\r\n"),
            "VM status: running\nand\\u{1b}[2J\n",
        );
        check("human-monitor-command", &json!(""), "");
    }
}
