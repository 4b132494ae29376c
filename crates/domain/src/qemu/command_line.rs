//! The command line of a machine, computed purely from its description.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{Switch, quote};
use crate::error::{Explain, Fault};
use crate::machine::{Machine, defaults};
use crate::vm::{MonitorRole, RunPlaces, VmId, VmName};

/// The accelerator that is really used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Accelerator {
    /// The host's virtualisation.
    Kvm,
    /// Software emulation.
    Tcg,
}

impl Accelerator {
    /// Returns QEMU's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// What a command line needs beside the machine: who it is and where its files are.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The VM's name.
    pub name: VmName,
    /// The VM's id, which becomes the guest's UUID.
    pub id: VmId,
    /// The binary, found.
    pub binary: PathBuf,
    /// The accelerator, decided.
    pub accelerator: Accelerator,
    /// The folder of disks that the definition gives no path.
    pub vm_storage: PathBuf,
    /// The files of the run.
    pub places: RunPlaces,
}

/// A path that cannot be part of a command line or of what is stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the path `{}` is not UTF-8", path.display())]
pub struct PathNotUtf8 {
    /// The path.
    pub path: PathBuf,
}

impl Explain for PathNotUtf8 {
    fn code(&self) -> &'static str {
        "host.path-not-utf8"
    }

    fn fault(&self) -> Fault {
        Fault::Host
    }

    fn hints(&self) -> Vec<String> {
        vec!["use folders whose names are UTF-8".to_owned()]
    }
}

/// A whole command line of QEMU.
///
/// Its `Display` is one line that can be pasted into a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    binary: PathBuf,
    words: Vec<String>,
}

impl CommandLine {
    /// Computes the command line of `machine` in `setting`.
    ///
    /// What the user gives under `arguments` or `args` replaces what maqet would give.
    pub fn of(machine: &Machine, setting: &Setting) -> Result<Self, PathNotUtf8> {
        let mut switches = identity(machine, setting);
        switches.extend(channels(machine, &setting.places)?);
        switches.extend(hardware(machine, setting.accelerator));
        switches.extend(storage(machine, &setting.vm_storage)?);
        switches.extend(machine.switches.iter().cloned());
        switches.extend(machine.arguments.iter().cloned());

        let words = switches.iter().flat_map(Switch::words).chain(machine.args.iter().cloned()).collect();
        Ok(Self { binary: setting.binary.clone(), words })
    }

    /// Returns the binary.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Returns the words after the binary.
    pub fn words(&self) -> &[String] {
        &self.words
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quote(&self.binary.to_string_lossy()))?;
        self.words.iter().try_for_each(|word| write!(f, " {}", quote(word)))
    }
}

/// Who the machine is, and what it may not do.
fn identity(machine: &Machine, setting: &Setting) -> Vec<Switch> {
    let confined = Switch::new("sandbox").head("on");
    let sandbox = defaults::SANDBOX.iter().fold(confined, |switch, (key, value)| switch.option(key, value));
    let ours = [
        Switch::new("name").option("guest", setting.name.as_str()),
        Switch::new("uuid").head(&setting.id.to_string()),
        sandbox,
    ];
    ours.into_iter().filter(|switch| !machine.gives(switch.name())).collect()
}

/// The monitors, the flight recorder, the serial console and the pid file.
fn channels(machine: &Machine, places: &RunPlaces) -> Result<Vec<Switch>, PathNotUtf8> {
    let mut switches = Vec::new();
    for role in MonitorRole::ALL {
        switches.push(socket(role.name(), &places.monitor(role))?);
        switches.push(monitor(role.name()));
    }
    let recorder = Switch::new("chardev").head("pipe").option("id", "events");
    switches.push(recorder.option("path", utf8(&places.recorder())?));
    switches.push(monitor("events"));
    if !machine.gives("pidfile") {
        switches.push(Switch::verbatim("pidfile", utf8(&places.pid_file())?));
    }
    if !machine.gives("serial") && !machine.gives("nographic") {
        let log = utf8(&places.serial_log())?.to_owned();
        switches.push(socket("serial0", &places.serial_socket())?.option("logfile", log).flag("logappend", true));
        switches.push(Switch::new("serial").head("chardev:serial0"));
    }
    Ok(switches)
}

fn socket(id: &str, path: &Path) -> Result<Switch, PathNotUtf8> {
    let switch = Switch::new("chardev").head("socket").option("id", id).option("path", utf8(path)?);
    Ok(switch.flag("server", true).flag("wait", false))
}

fn monitor(chardev: &str) -> Switch {
    Switch::new("mon").option("chardev", chardev).option("mode", "control")
}

fn hardware(machine: &Machine, accelerator: Accelerator) -> Vec<Switch> {
    let mut ours = Vec::new();
    if !machine.gives("enable-kvm") {
        ours.push(Switch::new("accel").head(accelerator.as_str()));
    }
    ours.push(Switch::new("m").head(&machine.memory.to_string()));
    ours.push(Switch::new("smp").head(&machine.cpu.to_string()));
    if !machine.gives("nographic") {
        ours.push(Switch::verbatim("display", machine.display.clone()));
    }
    ours.extend(machine.vga.clone().map(|vga| Switch::verbatim("vga", vga)));
    ours.retain(|switch| !machine.gives(switch.name()));
    ours
}

fn storage(machine: &Machine, vm_storage: &Path) -> Result<Vec<Switch>, PathNotUtf8> {
    let mut switches = Vec::new();
    let mut controllers: Vec<Switch> = Vec::new();
    for storage in &machine.storage {
        let path = storage.path(vm_storage);
        if let Some(controller) = storage.interface.controller()
            && !controllers.contains(&controller)
        {
            switches.push(controller.clone());
            controllers.push(controller);
        }
        switches.extend(storage.driver.back_end(storage, utf8(&path)?));
        switches.extend(storage.driver.front_end(storage));
    }
    Ok(switches)
}

fn utf8(path: &Path) -> Result<&str, PathNotUtf8> {
    path.to_str().ok_or_else(|| PathNotUtf8 { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Node;
    use crate::machine::builtin_handlers;
    use crate::storage::builtin_drivers;
    use crate::vm::BootNumber;

    fn command_line(definition: &str) -> CommandLine {
        let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
        let definition: Node = serde_json::from_str(definition).unwrap();
        let machine = Machine::check(&definition, &handlers).unwrap();
        let setting = Setting {
            name: VmName::parse("web").unwrap(),
            id: "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11".parse().unwrap(),
            binary: PathBuf::from("/usr/bin/qemu-system-x86_64"),
            accelerator: Accelerator::Tcg,
            vm_storage: PathBuf::from("/d/storage/web"),
            places: RunPlaces::of(Path::new("/r/web"), Path::new("/s/web"), BootNumber(1)),
        };
        CommandLine::of(&machine, &setting).unwrap()
    }

    /// Returns what follows each `-name`.
    fn given<'a>(line: &'a CommandLine, name: &str) -> Vec<&'a str> {
        let switch = format!("-{name}");
        line.words().windows(2).filter(|pair| pair[0] == switch).map(|pair| pair[1].as_str()).collect()
    }

    #[test]
    fn test_command_line_empty_definition_gets_the_defaults() {
        let line = command_line("{}");

        assert_eq!(given(&line, "m"), ["2G"]);
        assert_eq!(given(&line, "smp"), ["1"]);
        assert_eq!(given(&line, "display"), ["none"]);
        assert_eq!(given(&line, "accel"), ["tcg"]);
        assert_eq!(given(&line, "name"), ["guest=web"]);
        assert_eq!(given(&line, "sandbox").len(), 1);
        assert_eq!(given(&line, "mon").len(), 5);
    }

    #[test]
    fn test_command_line_argument_of_the_user_replaces_ours_once() {
        let line = command_line(r#"{"memory": "1G", "cpu": 4, "arguments": [{"m": 512}, {"smp": 2}]}"#);

        assert_eq!(given(&line, "m"), ["512"]);
        assert_eq!(given(&line, "smp"), ["2"]);
    }

    #[test]
    fn test_command_line_raw_serial_of_the_user_stays_the_first_serial() {
        let line = command_line(r#"{"args": ["-serial", "file:/tmp/x"]}"#);

        assert_eq!(given(&line, "serial"), ["file:/tmp/x"]);
    }

    #[test]
    fn test_command_line_disk_without_path_is_in_the_folder_of_the_vm() {
        let line = command_line(r#"{"storage": [{"name": "hdd"}]}"#);

        assert!(given(&line, "blockdev")[0].contains("filename=/d/storage/web/hdd.qcow2"));
        assert_eq!(given(&line, "device"), ["virtio-blk-pci,drive=hdd,id=hdd"]);
    }

    #[test]
    fn test_command_line_two_scsi_disks_share_one_controller() {
        let line =
            command_line(r#"{"storage": [{"name": "a", "interface": "scsi"}, {"name": "b", "interface": "scsi"}]}"#);

        let controllers = given(&line, "device").into_iter().filter(|d| d.starts_with("virtio-scsi-pci")).count();
        assert_eq!(controllers, 1);
    }

    #[test]
    fn test_command_line_shown_can_be_pasted_into_a_shell() {
        let line = command_line(r#"{"arguments": [{"append": "a b 'c'"}]}"#);

        assert!(line.to_string().ends_with(r"-append 'a b '\''c'\'''"), "{line}");
    }
}
