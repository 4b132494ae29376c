//! Files in the switches under `arguments` and `args`.
//!
//! QEMU runs in `/`. A relative path is therefore made one of the YAML file, as the paths under other keys are, if the
//! option is known to be a file; other options that look like one are reported at the start.

use std::path::Path;

use crate::config::{Node, Value};
use crate::machine::Machine;
use crate::machine::switches::{RawItem, raw_items};
use crate::qemu::{OptionString, QemuOption, RawPart, image_files, parse_bool, with_image_files, with_values};

/// Switches whose whole argument is a file.
const FILES: [&str; 16] = [
    "D", "L", "cdrom", "dtb", "fda", "fdb", "hda", "hdb", "hdc", "hdd", "initrd", "kernel", "mem-path", "mtdblock",
    "pflash", "sd",
];

/// Switches whose whole argument is a file, or a name that QEMU finds among its own files: a path has a `/`.
const FIRMWARE: [&str; 2] = ["bios", "option-rom"];

/// Switches whose argument is a character device, as in `unix:PATH,server=on`.
pub(in crate::machine) const CHARACTER_DEVICES: [&str; 7] =
    ["serial", "parallel", "monitor", "qmp", "qmp-pretty", "debugcon", "gdb"];

/// Options that are files, or names that QEMU finds among its own files, as [`FIRMWARE`].
const FIRMWARE_OPTIONS: [&str; 3] = ["firmware", "romfile", "splash"];

/// Switches with options that are files; one that begins with a dot is also the end of an option of a block node below
/// another one, as `.filename` is of `backing.file.filename`.
const FILE_OPTIONS: [(&str, &[&str]); 22] = [
    ("boot", &["splash"]),
    ("device", &["file", "kernel", "initrd", "romfile", "pcap"]),
    ("machine", &["kernel", "initrd", "dtb", "firmware"]),
    ("drive", &["file", ".filename", ".dir", ".config", ".server.path"]),
    ("blockdev", &[".filename", ".dir", ".config", ".server.path"]),
    ("acpitable", &["file", "data"]),
    ("smbios", &["file"]),
    ("fw_cfg", &["file"]),
    ("chardev", &["path", "logfile"]),
    ("fsdev", &["path"]),
    ("virtfs", &["path"]),
    ("object", &["mem-path", "dir", "file", "filename", "evdev"]),
    ("netdev", NETWORK_FILES),
    ("nic", NETWORK_FILES),
    ("net", NETWORK_FILES),
    ("tpmdev", &["path", "cancel-path"]),
    ("audio", &["path"]),
    ("audiodev", &["path"]),
    ("icount", &["rrfile"]),
    ("trace", &["events", "file"]),
    ("plugin", &["file"]),
    ("spice", &["x509-dir", "x509-key-file", "x509-cert-file", "x509-cacert-file"]),
];

/// Options of `-spice` that are files if this one is on, with which it listens at a socket.
const SPICE_SOCKET: (&str, &[&str]) = ("unix", &["addr"]);

const NETWORK_FILES: &[&str] = &["smb", "tftp", "addr.path", "local.path", "remote.path"];

/// Returns whether the whole argument of a switch is a file, or the name of one.
pub(super) fn is_file(switch: &str) -> bool {
    FILES.contains(&switch) || FIRMWARE.contains(&switch)
}

/// Returns whether the whole argument of a switch is a file, without options beside it.
pub(super) fn is_plain_file(switch: &str) -> bool {
    is_file(switch) && switch != "option-rom"
}

/// Returns `arguments` with its relative files joined to `folder`.
pub(super) fn rebase_structured(node: Node, folder: &Path) -> Node {
    node.map_items(|items| items.into_iter().map(|item| rebase_item(item, folder)).collect())
}

/// Returns `args` with its relative files joined to `folder`.
pub(super) fn rebase_raw(node: Node, folder: &Path) -> Node {
    node.map_items(|items| {
        let switches = raw_items(&items).map(|item| match item {
            RawItem::Passed(RawPart::Value(switch)) => Some(switch.to_owned()),
            RawItem::Passed(RawPart::Switch(_) | RawPart::Other) | RawItem::Deletion => None,
        });
        let switches: Vec<Option<String>> = switches.collect();
        let rebase = |(item, switch): (Node, Option<String>)| match switch {
            Some(switch) => rebase_argument(&switch, item, folder),
            None => item,
        };
        items.into_iter().zip(switches).map(rebase).collect()
    })
}

/// Returns one item of `arguments`: a switch, its value, and options beside them.
fn rebase_item(item: Node, folder: &Path) -> Node {
    if is_abstract(&item) {
        return item;
    }
    item.map_entries(|entries| {
        let Some((first, _)) = entries.first() else { return entries };
        let name = first.trim_start_matches('-').to_owned();
        let is_on = |key: &str| entries.iter().any(|(known, node)| has_on(known, node, &|option| option == key));
        let options = file_options(&name, is_on);
        let rebase = |(index, (key, node)): (usize, (String, Node))| {
            let node = match (index, &node.value) {
                (0, Value::Text(_) | Value::Int(_) | Value::Float(_)) => rebase_argument(&name, node, folder),
                (0, _) => rebase_options("", &options, node, folder),
                (_, _) => rebase_options(&key, &options, node, folder),
            };
            (key, node)
        };
        entries.into_iter().enumerate().map(rebase).collect()
    })
}

/// Returns whether a tree of options makes the path of a socket the name of an abstract one, which is not a file.
fn is_abstract(options: &Node) -> bool {
    options.entries().iter().any(|(key, node)| has_on(key, node, &is_key_of_abstract))
}

fn is_key_of_abstract(key: &str) -> bool {
    key.rsplit('.').next() == Some("abstract")
}

/// Returns whether an option, or one below it, is one of these keys and on.
fn has_on(key: &str, node: &Node, is_key: &dyn Fn(&str) -> bool) -> bool {
    is_key(key) && node.boolean() == Some(true) || node.entries().iter().any(|(key, node)| has_on(key, node, is_key))
}

/// Returns the whole argument of a switch, as one string or a number, with its relative files joined to `folder`.
pub(super) fn rebase_argument(name: &str, node: Node, folder: &Path) -> Node {
    let text = node.scalar().unwrap_or_default();
    let is_list = name == "L" && matches!(text.as_str(), "help" | "?");
    if FILES.contains(&name) && !is_list || FIRMWARE.contains(&name) && text.contains('/') {
        return rebase_file(node, folder);
    }
    let parsed = OptionString::parse(name, &text);
    if is_abstract_socket(&parsed) {
        return node;
    }
    let rebased_file = |file: &str| rebase_file(Node::text(file), folder).as_text().map(str::to_owned);
    if CHARACTER_DEVICES.contains(&name) {
        let rebased = CharacterDevice::parse(&text).map(|device| device.with_files(rebased_file));
        return node.map_value(|value| rebased.map_or(value, Value::Text));
    }
    let options = file_options_of(name, &parsed);
    let rebased = |key: &str, value: &str| match value.strip_prefix("unix:") {
        Some(socket) if is_screen(name, key) => rebased_file(socket).map(|socket| format!("unix:{socket}")),
        Some(_) | None => is_file_option(&options, key, value).then(|| rebased_file(value))?,
    };
    node.map_value(|value| match value {
        Value::Text(text) => Value::Text(with_values(name, &text, rebased)),
        other => other,
    })
}

/// Returns the value of an option, or a tree of options.
fn rebase_options(prefix: &str, options: &[&str], node: Node, folder: &Path) -> Node {
    if matches!(node.value, Value::Map(_)) {
        return node.map_entries(|entries| {
            let rebase = |(key, node): (String, Node)| {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                let node = rebase_options(&path, options, node, folder);
                (key, node)
            };
            entries.into_iter().map(rebase).collect()
        });
    }
    let is_file = is_file_option(options, prefix, &node.scalar().unwrap_or_default());
    if is_file { rebase_file(node, folder) } else { node }
}

/// Returns the value of a key that becomes the argument of a switch, as one text or a map of its options, with its relative
/// files joined to `folder`.
pub(super) fn rebase_key(name: &str, node: Node, folder: &Path) -> Node {
    if matches!(node.value, Value::Map(_)) {
        return rebase_options("", &file_options(name, |_| false), node, folder);
    }
    rebase_argument(name, node, folder)
}

/// Returns a relative path, or those in an address such as `fat:DIRECTORY`, joined to `folder`.
fn rebase_file(node: Node, folder: &Path) -> Node {
    let rebased = |file: &str| Node::text(file).rebased(folder).as_text().map(str::to_owned);
    match node.as_text().filter(|name| has_protocol(name)) {
        None => node.rebased(folder),
        Some(name) => {
            let name = match name.strip_prefix(JSON_NAME) {
                // It has the options of a block node.
                Some(json) => format!("{JSON_NAME}{}", rebase_text("blockdev", json, folder)),
                None => with_image_files(name, rebased),
            };
            node.map_value(|_| Value::Text(name))
        }
    }
}

fn rebase_text(switch: &str, argument: &str, folder: &Path) -> String {
    let rebased = rebase_argument(switch, Node::text(argument), folder);
    rebased.as_text().unwrap_or(argument).to_owned()
}

/// Returns whether an option is a file, and not the name of one of QEMU's own files.
fn is_file_option(options: &[&str], key: &str, value: &str) -> bool {
    is_listed(options, key) && (!FIRMWARE_OPTIONS.contains(&key) || value.contains('/'))
}

fn is_listed(options: &[&str], key: &str) -> bool {
    let is_it = |option: &&str| match option.strip_prefix('.') {
        Some(last) => key == last || key.ends_with(*option),
        None => key == *option,
    };
    options.iter().any(is_it)
}

/// Returns whether QEMU searches its own directories for a name in a switch, or in an option of it.
pub(in crate::machine) fn is_searched(switch: &str, key: &str) -> bool {
    FIRMWARE.contains(&switch) || FIRMWARE_OPTIONS.contains(&key)
}

/// Returns whether an option is the address of a VNC server.
fn is_screen(switch: &str, key: &str) -> bool {
    matches!(switch, "vnc" | "display") && key == "vnc"
}

/// Returns the options of a switch that are files; `is_on` tells of others whether they are on.
fn file_options(name: &str, is_on: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let mut options =
        FILE_OPTIONS.iter().find(|(switch, _)| *switch == name).map_or(&[][..], |(_, options)| options).to_vec();
    let (condition, files) = SPICE_SOCKET;
    if name == "spice" && is_on(condition) {
        options.extend(files);
    }
    options
}

fn file_options_of(name: &str, options: &OptionString) -> Vec<&'static str> {
    file_options(name, |key| options.is_on(key) == Some(true))
}

/// The start of the name of an image that is written as its options.
const JSON_NAME: &str = "json:";

/// Returns whether QEMU takes a file name for an address (`path_has_protocol`, 7.2).
fn has_protocol(file: &str) -> bool {
    file.split('/').next().is_some_and(|start| start.contains(':'))
}

impl Machine {
    /// Returns a warning for each switch of the user with a file that is relative to `/`, where QEMU runs.
    pub fn relative_path_warnings(&self) -> impl Iterator<Item = String> {
        let warnings = self.user_switches().filter_map(|(name, argument)| {
            let argument = argument?;
            let options = OptionString::parse(name, argument);
            let file = if FILES.contains(&name) {
                relative_in(argument)
            } else if is_abstract_socket(&options) {
                None
            } else if let "blockdev" | "drive" | "spice" = name {
                // `file=` of a block node is the name of another one.
                let files = file_options_of(name, &options);
                let mut named = options.iter().filter(|option| is_listed(&files, &option.key));
                named.find_map(|option| relative_in(&option.value))
            } else {
                let unnamed = is_unnamed_wav(name, &options).then_some("qemu.wav");
                options.iter().find_map(|option| relative_file(&option.key, &option.value)).or(unnamed)
            };
            let file = file?;
            Some(format!("`-{name} {argument}`: QEMU runs in `/`, so `{file}` is `/{file}`; write the path in full"))
        });
        warnings.collect::<Vec<_>>().into_iter()
    }
}

/// Returns the values of a switch that are files.
pub(in crate::machine) fn files_of<'s>(name: &str, argument: &'s str, options: &'s OptionString) -> Vec<&'s str> {
    if FILES.contains(&name) || FIRMWARE.contains(&name) {
        return named_files(argument);
    }
    if CHARACTER_DEVICES.contains(&name) {
        let Some(device) = CharacterDevice::parse(argument) else { return Vec::new() };
        let log = options.get(LOG).filter(|_| device.has_options);
        return device.file.into_iter().chain(log).collect();
    }
    let keys = file_options_of(name, options);
    let files = |option: &'s QemuOption| match option.value.strip_prefix("unix:") {
        Some(socket) if is_screen(name, &option.key) => vec![socket],
        Some(_) | None if !is_listed(&keys, &option.key) => Vec::new(),
        Some(_) | None => named_files(&option.value),
    };
    options.iter().flat_map(files).collect()
}

/// Returns the files in a value that is one, or an address of an image; an address without any is itself what is used.
fn named_files(value: &str) -> Vec<&str> {
    let files: Vec<&str> = image_files(value).into_iter().map(|(_, file)| file).collect();
    if files.is_empty() { vec![value] } else { files }
}

/// Returns the first relative file in a value that is one, or an address of an image.
fn relative_in(value: &str) -> Option<&str> {
    image_files(value).into_iter().map(|(_, file)| file).find(|file| is_relative(file))
}

/// Returns the file that a switch for a character device writes to, as in `file:PATH`.
pub(in crate::machine) fn file_of_character_device(argument: &str) -> Option<&str> {
    let device = CharacterDevice::parse(argument)?;
    device.file.filter(|_| device.before.ends_with("file:"))
}

/// Returns the socket at which a switch for a character device listens, as in `unix:PATH,server=on`.
pub(in crate::machine) fn listener_of_character_device(argument: &str) -> Option<&str> {
    let device = CharacterDevice::parse(argument)?;
    device.file.filter(|_| device.before.ends_with("unix:") && device.options().is_on("server") == Some(true))
}

/// Returns the log that a switch for a character device writes, as in `tcp:HOST:PORT,logfile=PATH`.
pub(in crate::machine) fn log_of_character_device(argument: &str) -> Option<String> {
    CharacterDevice::parse(argument)?.options().get(LOG).map(str::to_owned)
}

/// The option of a character device that is the file to which it writes what it shows.
const LOG: &str = "logfile";

/// The argument of a switch for a character device that is a file or a socket, in the form without keys
/// (`qemu_chr_parse_compat`, QEMU 7.2).
#[derive(Debug, PartialEq, Eq)]
struct CharacterDevice<'s> {
    /// What precedes the file or the address: `unix:`, `mon:unix:`, `tcp:`.
    before: &'s str,
    /// `None` for an address.
    file: Option<&'s str>,
    /// The address.
    address: &'s str,
    /// The options behind it, with their comma.
    after: &'s str,
    /// Whether a comma ends the file.
    has_options: bool,
}

impl<'s> CharacterDevice<'s> {
    fn parse(argument: &'s str) -> Option<Self> {
        let bare = argument.strip_prefix("mon:").unwrap_or(argument);
        let (kind, rest) = bare.split_once(':')?;
        let (is_file, has_options) = match kind {
            "file" | "pipe" => (true, false),
            "unix" => (true, true),
            "tcp" | "telnet" | "tn3270" | "websocket" => (false, true),
            _ => return None,
        };
        let end = rest.find(',').filter(|_| has_options).unwrap_or(rest.len());
        let (first, after) = rest.split_at(end);
        let before = argument.strip_suffix(rest)?;
        let (file, address) = if is_file { (Some(first), "") } else { (None, first) };
        Some(Self { before, file, address, after, has_options })
    }

    /// Returns the options behind the file or the address.
    fn options(&self) -> OptionString {
        OptionString::parse("chardev", &format!("socket{}", self.after))
    }

    /// Returns the argument with other files in the place of its own, if there are others.
    fn with_files(&self, other: impl Fn(&str) -> Option<String>) -> String {
        let file = self.file.map(|file| {
            let file = other(file).unwrap_or_else(|| file.to_owned());
            if self.has_options { file.replace(',', ",,") } else { file }
        });
        let log = |key: &str, value: &str| if key == LOG { other(value) } else { None };
        let options = with_values("chardev", self.after.trim_start_matches(','), log);
        let comma = if options.is_empty() { "" } else { "," };
        format!("{}{}{}{comma}{options}", self.before, file.unwrap_or_default(), self.address)
    }
}

/// Returns whether the path of a socket is the name of an abstract one, which is not a file.
fn is_abstract_socket(options: &OptionString) -> bool {
    let is_on = |value: &str| parse_bool(value) == Some(true);
    options.iter().any(|option| is_key_of_abstract(&option.key) && is_on(&option.value))
}

fn is_relative(file: &str) -> bool {
    Path::new(file).is_relative() && !file.is_empty() && !has_protocol(file)
}

/// Returns whether sound is written to QEMU's default file, which is relative.
fn is_unnamed_wav(switch: &str, options: &OptionString) -> bool {
    matches!(switch, "audio" | "audiodev") && options.head() == "wav" && options.get("path").is_none()
}

/// Returns the relative file in an option: `unix:a.sock`, `path=a`, `logfile=a/b`.
fn relative_file<'v>(key: &str, value: &'v str) -> Option<&'v str> {
    let file = if ["path", "file", "filename"].iter().any(|end| key.ends_with(end)) {
        value
    } else {
        ["unix:", "file:", "pipe:"].iter().find_map(|prefix| value.strip_prefix(prefix))?
    };
    // `romfile=efi-virtio.rom` is one of QEMU's own files, an empty one is none, and a `bootfile` is one of TFTP.
    let is_name = key == "romfile" && !file.contains('/') || key == "bootfile";
    (is_relative(file) && !is_name).then_some(file)
}

#[cfg(test)]
mod tests;
