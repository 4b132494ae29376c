//! Files in the switches under `arguments` and `args`.
//!
//! QEMU runs in `/`. A relative path is therefore made one of the YAML file, as the paths under other keys are, if the
//! option is known to be a file; other options that look like one are reported at the start.

use std::path::Path;

use crate::config::{Node, Value};
use crate::machine::Machine;
use crate::machine::switches::{RawItem, raw_items};
use crate::qemu::{OptionString, QemuOption, RawPart, parse_bool, with_values};

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
const FIRMWARE_OPTIONS: [&str; 2] = ["firmware", "romfile"];

/// Switches with options that are files.
const FILE_OPTIONS: [(&str, &[&str]); 20] = [
    ("device", &["file", "kernel", "initrd", "romfile"]),
    ("machine", &["kernel", "initrd", "dtb", "firmware"]),
    ("drive", &["file", NESTED_FILE]),
    ("blockdev", &["filename", NESTED_FILE]),
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
    ("audiodev", &["path"]),
    ("icount", &["rrfile"]),
    ("trace", &["events", "file"]),
    ("plugin", &["file"]),
    ("spice", &["x509-dir", "x509-key-file", "x509-cert-file", "x509-cacert-file"]),
];

/// The end of an option of a block node below another one, as `file.filename` and `backing.file.filename`.
const NESTED_FILE: &str = ".filename";

const NETWORK_FILES: &[&str] = &["smb", "tftp", "addr.path", "local.path", "remote.path"];

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
        let options = file_options(&name);
        let rebase = |(index, (key, node)): (usize, (String, Node))| {
            let node = match (index, &node.value) {
                (0, Value::Text(_) | Value::Int(_) | Value::Float(_)) => rebase_argument(&name, node, folder),
                (0, _) => rebase_options("", options, node, folder),
                (_, _) => rebase_options(&key, options, node, folder),
            };
            (key, node)
        };
        entries.into_iter().enumerate().map(rebase).collect()
    })
}

/// Returns whether a tree of options makes the path of a socket the name of an abstract one, which is not a file.
fn is_abstract(options: &Node) -> bool {
    options
        .entries()
        .iter()
        .any(|(key, node)| is_key_of_abstract(key) && node.boolean() == Some(true) || is_abstract(node))
}

fn is_key_of_abstract(key: &str) -> bool {
    key.rsplit('.').next() == Some("abstract")
}

/// Returns the whole argument of a switch, as one string or a number, with its relative files joined to `folder`.
pub(super) fn rebase_argument(name: &str, node: Node, folder: &Path) -> Node {
    let text = node.scalar().unwrap_or_default();
    let is_list = name == "L" && matches!(text.as_str(), "help" | "?");
    if FILES.contains(&name) && !is_list || FIRMWARE.contains(&name) && text.contains('/') {
        return rebase_file(node, folder);
    }
    if is_abstract_socket(&OptionString::parse(name, &text)) {
        return node;
    }
    let rebased_file = |file: &str| rebase_file(Node::text(file), folder).as_text().map(str::to_owned);
    if CHARACTER_DEVICES.contains(&name) {
        let rebased = CharacterDevice::parse(&text).and_then(|device| {
            let file = rebased_file(device.file)?;
            let file = if device.has_options { file.replace(',', ",,") } else { file };
            Some(format!("{}{file}{}", device.before, device.after))
        });
        return node.map_value(|value| rebased.map_or(value, Value::Text));
    }
    let options = file_options(name);
    let rebased = |key: &str, value: &str| match value.strip_prefix("unix:") {
        Some(socket) if is_screen(name, key) => rebased_file(socket).map(|socket| format!("unix:{socket}")),
        Some(_) | None => is_file_option(options, key, value).then(|| rebased_file(value))?,
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

/// Returns a relative path joined to `folder`; an address, as in `https://…` or `nbd:…`, is none.
fn rebase_file(node: Node, folder: &Path) -> Node {
    if node.as_text().is_some_and(has_protocol) { node } else { node.rebased(folder) }
}

/// Returns whether an option is a file, and not the name of one of QEMU's own files.
fn is_file_option(options: &[&str], key: &str, value: &str) -> bool {
    is_listed(options, key) && (!FIRMWARE_OPTIONS.contains(&key) || value.contains('/'))
}

fn is_listed(options: &[&str], key: &str) -> bool {
    options.iter().any(|option| *option == key || *option == NESTED_FILE && key.ends_with(NESTED_FILE))
}

/// Returns whether QEMU searches its own directories for a name in a switch, or in an option of it.
pub(in crate::machine) fn is_searched(switch: &str, key: &str) -> bool {
    FIRMWARE.contains(&switch) || FIRMWARE_OPTIONS.contains(&key)
}

/// Returns whether an option is the address of a VNC server.
fn is_screen(switch: &str, key: &str) -> bool {
    matches!(switch, "vnc" | "display") && key == "vnc"
}

fn file_options(name: &str) -> &'static [&'static str] {
    FILE_OPTIONS.iter().find(|(switch, _)| *switch == name).map_or(&[], |(_, options)| options)
}

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
                is_relative(argument).then_some(argument)
            } else if is_abstract_socket(&options) {
                None
            } else if name == "blockdev" {
                // `file=` is the name of another node.
                options
                    .iter()
                    .map(|option| (&option.key, option.value.as_str()))
                    .find_map(|(key, value)| (key.ends_with("filename") && is_relative(value)).then_some(value))
            } else {
                options.iter().find_map(|option| relative_file(&option.key, &option.value))
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
        return vec![argument];
    }
    if CHARACTER_DEVICES.contains(&name) {
        return CharacterDevice::parse(argument).map(|device| device.file).into_iter().collect();
    }
    let keys = file_options(name);
    let file = |option: &'s QemuOption| match option.value.strip_prefix("unix:") {
        Some(socket) if is_screen(name, &option.key) => Some(socket),
        Some(_) | None => is_listed(keys, &option.key).then_some(option.value.as_str()),
    };
    options.iter().filter_map(file).collect()
}

/// The argument of a switch for a character device that is a file or a socket, in the form without keys
/// (`qemu_chr_parse_compat`, QEMU 7.2).
#[derive(Debug, PartialEq, Eq)]
struct CharacterDevice<'s> {
    /// What precedes the file: `unix:`, `mon:unix:`.
    before: &'s str,
    file: &'s str,
    /// The options behind it, with their comma.
    after: &'s str,
    /// Whether a comma ends the file.
    has_options: bool,
}

impl<'s> CharacterDevice<'s> {
    fn parse(argument: &'s str) -> Option<Self> {
        let bare = argument.strip_prefix("mon:").unwrap_or(argument);
        let (kind, rest) = bare.split_once(':')?;
        let has_options = match kind {
            "file" | "pipe" => false,
            "unix" => true,
            _ => return None,
        };
        let end = rest.find(',').filter(|_| has_options).unwrap_or(rest.len());
        let (file, after) = rest.split_at(end);
        let before = argument.strip_suffix(rest)?;
        Some(Self { before, file, after, has_options })
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
mod tests {
    use super::*;
    use crate::qemu::Switch;

    fn rebased(rebase: fn(Node, &Path) -> Node, json: &str) -> String {
        let node: Node = serde_json::from_str(json).unwrap();
        serde_json::to_string(&rebase(node, Path::new("/y"))).unwrap()
    }

    #[track_caller]
    fn check(json: &str, expected: &str) {
        assert_eq!(rebased(rebase_structured, &format!("[{json}]")), format!("[{expected}]"));
    }

    #[test]
    fn test_rebase_structured_files_become_relative_to_the_folder() {
        check(r#"{"kernel":"vmlinuz"}"#, r#"{"kernel":"/y/vmlinuz"}"#);
        check(r#"{"-initrd":"a/b.img"}"#, r#"{"-initrd":"/y/a/b.img"}"#);
        check(r#"{"dtb":"x.dtb"}"#, r#"{"dtb":"/y/x.dtb"}"#);
        check(r#"{"pflash":"code.fd"}"#, r#"{"pflash":"/y/code.fd"}"#);
        check(r#"{"cdrom":"a.iso"}"#, r#"{"cdrom":"/y/a.iso"}"#);
        check(r#"{"drive":{"file":"a.img","if":"ide"}}"#, r#"{"drive":{"file":"/y/a.img","if":"ide"}}"#);
        check(r#"{"drive":null,"file":"a.img"}"#, r#"{"drive":null,"file":"/y/a.img"}"#);
        check(r#"{"fsdev":"local","path":"a","id":"f"}"#, r#"{"fsdev":"local","path":"/y/a","id":"f"}"#);
        check(
            r#"{"blockdev":{"driver":"qcow2","file":{"driver":"file","filename":"a"}}}"#,
            r#"{"blockdev":{"driver":"qcow2","file":{"driver":"file","filename":"/y/a"}}}"#,
        );
        check(
            r#"{"blockdev":{"driver":"throttle","file":{"driver":"qcow2","file":{"driver":"file","filename":"a"}}}}"#,
            r#"{"blockdev":{"driver":"throttle","file":{"driver":"qcow2","file":{"driver":"file","filename":"/y/a"}}}}"#,
        );
        check(
            r#"{"drive":"driver=quorum,children.0.file.filename=a,children.1.file.filename=/b,file.file.filename=./c"}"#,
            r#"{"drive":"driver=quorum,children.0.file.filename=/y/a,children.1.file.filename=/b,file.file.filename=/y/./c"}"#,
        );
        check(r#"{"kernel":6.12}"#, r#"{"kernel":"/y/6.12"}"#);
        check(r#"{"drive":{"file":7,"if":"ide"}}"#, r#"{"drive":{"file":"/y/7","if":"ide"}}"#);
        check(r#"{"D":"qemu.log"}"#, r#"{"D":"/y/qemu.log"}"#);
        check(r#"{"L":"pc-bios"}"#, r#"{"L":"/y/pc-bios"}"#);
        check(r#"{"mem-path":"ram"}"#, r#"{"mem-path":"/y/ram"}"#);
        check(r#"{"object":"tls-creds-x509,id=t,dir=pki"}"#, r#"{"object":"tls-creds-x509,id=t,dir=/y/pki"}"#);
        check(r#"{"netdev":"user,id=u,tftp=boot"}"#, r#"{"netdev":"user,id=u,tftp=/y/boot"}"#);
        check(
            r#"{"blockdev":"{\"driver\":\"file\",\"filename\":\"a\"}"}"#,
            r#"{"blockdev":"{\"driver\":\"file\",\"filename\":\"/y/a\"}"}"#,
        );
        check(r#"{"serial":"file:a,b.log"}"#, r#"{"serial":"file:/y/a,b.log"}"#);
        check(r#"{"monitor":"unix:m.sock,server=on"}"#, r#"{"monitor":"unix:/y/m.sock,server=on"}"#);
        check(r#"{"serial":"mon:pipe:./p"}"#, r#"{"serial":"mon:pipe:/y/./p"}"#);
        check(r#"{"vnc":"unix:v.sock,password=on"}"#, r#"{"vnc":"unix:/y/v.sock,password=on"}"#);
        check(r#"{"display":"vnc=unix:v.sock"}"#, r#"{"display":"vnc=unix:/y/v.sock"}"#);
        check(r#"{"device":"loader,file=a.elf,cpu-num=0"}"#, r#"{"device":"loader,file=/y/a.elf,cpu-num=0"}"#);
        check(r#"{"device":"e1000,romfile=./a.rom"}"#, r#"{"device":"e1000,romfile=/y/./a.rom"}"#);
        check(
            r#"{"machine":"virt,kernel=Image,firmware=a/b.fd"}"#,
            r#"{"machine":"virt,kernel=/y/Image,firmware=/y/a/b.fd"}"#,
        );
        check(r#"{"drive":"file=a,,b.img,if=ide,id=x"}"#, r#"{"drive":"file=/y/a,,b.img,if=ide,id=x"}"#);
    }

    #[test]
    fn test_rebase_structured_other_values_are_unchanged() {
        for other in [
            r#"{"kernel":"/boot/vmlinuz"}"#,
            r#"{"append":"root=/dev/vda"}"#,
            r#"{"bios":"qboot.rom"}"#,
            r#"{"cdrom":"https://example.com/a.iso"}"#,
            r#"{"drive":{"file":"nbd:localhost:1","if":"ide"}}"#,
            r#"{"drive":"file=json:{},if=ide"}"#,
            r#"{"kernel":"~/vmlinuz"}"#,
            r#"{"L":"help"}"#,
            r#"{"chardev":"socket,id=c,path=x,abstract=on"}"#,
            r#"{"chardev":{"socket":null,"id":"c","path":"x","abstract":true}}"#,
            r#"{"chardev":"socket,id=c,path=x","abstract":"on"}"#,
            r#"{"netdev":{"stream":null,"id":"n","addr":{"type":"unix","path":"x","abstract":true}}}"#,
            r#"{"device":7}"#,
            r#"{"device":"e1000,romfile=efi-e1000.rom"}"#,
            r#"{"device":"e1000,romfile="}"#,
            r#"{"machine":"q35,firmware=bios.bin"}"#,
            r#"{"serial":"file:/a.log"}"#,
            r#"{"serial":"unix:x,abstract=on"}"#,
            r#"{"serial":"tcp:localhost:1"}"#,
            r#"{"serial":"chardev:c"}"#,
            r#"{"vnc":"unix.example:1"}"#,
            r#"{"display":"vnc=:1"}"#,
            r#"{"display":"gtk,gl=on"}"#,
            r#"{"blockdev":"driver=raw,file=f0,node-name=f1"}"#,
            r#"{"kernel":null}"#,
            r#"{"netdev":{"user":null,"id":"file"}}"#,
            r#""S""#,
        ] {
            check(other, other);
        }
        check(r#"{"bios":"./qboot.rom"}"#, r#"{"bios":"/y/./qboot.rom"}"#);
    }

    #[test]
    fn test_rebase_raw_argument_after_its_switch_is_rebased() {
        let raw =
            r#"["-kernel","vmlinuz","--initrd","i","-S","-drive","if=none,file=a.img","x","-append","a","-dtb",6.5]"#;

        assert_eq!(
            rebased(rebase_raw, raw),
            r#"["-kernel","/y/vmlinuz","--initrd","/y/i","-S","-drive","if=none,file=/y/a.img","x","-append","a","-dtb","/y/6.5"]"#
        );
    }

    #[test]
    fn test_relative_path_warnings_name_switch_and_file() {
        let arguments = vec![
            Switch::verbatim("monitor", "unix:mon.sock,server=on"),
            Switch::new("device").head("loader").option("file", "boot/x.elf"),
            Switch::new("device").head("e1000").option("romfile", "efi-e1000.rom"),
            Switch::new("device").head("e1000").option("romfile", ""),
            Switch::verbatim("append", "root=LABEL"),
            Switch::verbatim("blockdev", "driver=file,filename=raw.img,node-name=f0"),
            Switch::verbatim("blockdev", "driver=raw,file=f0,node-name=f1"),
            Switch::verbatim("serial", "file:/tmp/x"),
        ];
        let args = ["--serial", "file:out.log", "-D", "qemu.log", "-chardev", "socket,id=c,path=x,abstract=on", "-S"];
        let args = args.map(str::to_owned).to_vec();
        let machine = Machine { arguments, args, ..Machine::default() };

        let warnings: Vec<String> = machine.relative_path_warnings().collect();

        let expected =
            ["`-serial file:out.log`", "`-D qemu.log`", "`mon.sock` is `/mon.sock`", "`boot/x.elf`", "`raw.img` is"];
        assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
        for (warning, expected) in warnings.iter().zip(expected) {
            assert!(warning.contains(expected), "{warning}");
        }
    }
}
