//! The command line of a QEMU without a guest, which works on images of a VM that is not running.

use std::path::PathBuf;

use super::{CommandLine, PathNotUtf8, monitor, socket, utf8};
use crate::machine::defaults;
use crate::qemu::Switch;
use crate::vm::{MonitorRole, RunPaths};

impl CommandLine {
    /// Returns the command line of a QEMU that has no machine, and the block nodes that `backends` create.
    pub fn image_server(binary: PathBuf, paths: &RunPaths, backends: Vec<Switch>) -> Result<Self, PathNotUtf8> {
        let sandbox = Switch::new("sandbox").head("on");
        let sandbox = defaults::SANDBOX.iter().fold(sandbox, |switch, (key, value)| switch.option(key, value));
        let mut switches = vec![Switch::new("machine").head("none"), Switch::new("display").head("none"), sandbox];
        for role in [MonitorRole::Command, MonitorRole::SessionOne] {
            switches.push(socket(role.name(), &paths.monitor(role))?);
            switches.push(monitor(role.name()));
        }
        switches.push(Switch::verbatim("pidfile", utf8(&paths.pid_file())?));
        switches.extend(backends);
        let flags = ["-S", "-nodefaults", "-no-user-config"].map(str::to_owned);
        let args = flags.into_iter().chain(switches.iter().flat_map(Switch::args)).collect();
        Ok(Self { binary, args, helpers: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::vm::BootNumber;

    #[test]
    fn test_image_server_has_no_machine_and_the_nodes() {
        let paths = RunPaths::new(Path::new("/r"), Path::new("/s"), BootNumber(1));
        let node = Switch::new("blockdev").option("driver", "file").option("filename", "/d/a,b");

        let line = CommandLine::image_server(PathBuf::from("/bin/qemu"), &paths, vec![node]).unwrap();

        let text = line.to_string();
        assert!(text.starts_with("/bin/qemu -S -nodefaults -no-user-config -machine none -display none -sandbox on,"));
        assert!(text.ends_with("-pidfile /r/b1/qemu.pid -blockdev driver=file,filename=/d/a,,b"), "{text}");
    }
}
