//! Where a definition has a file or an option that QEMU reports.

use std::path::Path;

use super::Machine;
use super::keys::file_options::{files_of, is_searched};
use crate::qemu::{OptionString, switch_values};

/// A switch of a command line, with its argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwitchArgument<'a> {
    /// The switch, without its hyphen.
    pub switch: &'a str,
    /// Its argument.
    pub argument: &'a str,
}

impl<'a> SwitchArgument<'a> {
    /// Returns the switch that names `file`; one that takes files before another one with this value.
    pub fn with_file(args: &'a [String], file: &str) -> Option<Self> {
        let takes_it = |one: &Self| files_of(one.switch, one.argument, &one.options()).contains(&file);
        let has_it = |one: &Self| one.options().iter().any(|option| option.value == file);
        Self::all(args).find(takes_it).or_else(|| Self::all(args).find(has_it))
    }

    /// Returns the switch that has an option.
    pub fn with_option(args: &'a [String], key: &str) -> Option<Self> {
        Self::all(args).find(|one| one.options().get(key).is_some())
    }

    /// Returns whether QEMU searches its own directories for a name without `/` there.
    pub fn is_searched(self, file: &str) -> bool {
        let options = self.options();
        let key = options.iter().find(|option| option.value == file).map_or("", |option| option.key.as_str());
        is_searched(self.switch, key)
    }

    fn all(args: &'a [String]) -> impl Iterator<Item = Self> {
        switch_values(args).map(|(switch, argument)| Self { switch, argument })
    }

    fn options(self) -> OptionString {
        OptionString::parse(self.switch, self.argument)
    }
}

impl Machine {
    /// Returns where the definition has a switch, for a hint: the key that adds it, or the switch under `arguments` or
    /// `args`; in backticks. `file` is the file in it.
    pub fn shown_location(&self, of: SwitchArgument<'_>, file: &str) -> String {
        let SwitchArgument { switch, argument } = of;
        // Those of several switches are joined.
        let is_joined = switch == "machine" && self.has_switch("machine");
        let is_of_user = |(name, value): (&str, Option<&str>)| name == switch && value == Some(argument);
        let key = match switch {
            _ if is_joined || self.user_switches().any(is_of_user) => None,
            "serial" | "display" | "machine" | "accel" => Some(switch),
            "bios" | "pflash" => Some("firmware"),
            "cpu" => Some("cpu_model"),
            "smp" => Some("cpu"),
            "m" => Some("memory"),
            "audiodev" => Some("sound"),
            _ => None,
        };
        let id = of.options().get("id").map(str::to_owned);
        let is_storage = matches!(switch, "blockdev" | "fsdev" | "chardev") && key.is_none();
        let storage = self.storage.iter().filter(|_| is_storage).find(|storage| {
            storage.file.as_deref() == Some(Path::new(file)) || id.as_deref() == Some(storage.name.as_str())
        });
        match (key, storage) {
            (Some(key), _) => format!("`{key}`"),
            (None, Some(storage)) => format!("`{}` under `storage`", storage.name),
            (None, None) => format!("`-{switch} {argument}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::reading::read;

    fn args(args: &[&str]) -> Vec<String> {
        args.iter().map(|arg| (*arg).to_owned()).collect()
    }

    #[test]
    fn test_with_file_finds_the_switch_that_takes_it() {
        for (line, file, expected) in [
            (&["-name", "/a", "-fsdev", "local,id=f,path=/a", "-device", "virtio-9p-pci,fsdev=f"][..], "/a", "fsdev"),
            (&["-device", "x,unknown=/a", "-kernel", "/a"], "/a", "kernel"),
            (&["-device", "x,unknown=/a"], "/a", "device"),
            (&["-blockdev", r#"{"driver":"file","filename":"/a,b"}"#], "/a,b", "blockdev"),
            (&["-drive", "file=/a,,b"], "/a,b", "drive"),
            (&["--serial", "unix:/a,server=on"], "/a", "serial"),
            (&["-display", "vnc=unix:/a"], "/a", "display"),
            (&["-drive", "file=/a.bak"], "/a", "none"),
        ] {
            let line = args(line);
            let found = SwitchArgument::with_file(&line, file);

            assert_eq!(found.map_or("none", |one| one.switch), expected, "{line:?}");
        }
    }

    #[test]
    fn test_is_searched_where_qemu_has_files_of_its_own() {
        for (switch, argument, is_searched) in [
            ("-bios", "x.fd", true),
            ("-option-rom", "x.fd", true),
            ("-device", "e1000,romfile=x.fd", true),
            ("-machine", "q35,firmware=x.fd", true),
            ("-device", "loader,file=x.fd", false),
            ("-device", "u2f-emulated,cert=x.fd,romfile=y", false),
            ("-kernel", "x.fd", false),
        ] {
            let line = args(&[switch, argument]);
            let found = SwitchArgument::with_file(&line, "x.fd").unwrap();

            assert_eq!(found.is_searched("x.fd"), is_searched, "{switch} {argument}");
        }
    }

    #[test]
    fn test_shown_location_is_the_key_or_the_switch_of_the_user() {
        let shown = |definition: &str, line: &[&str], file: &str| {
            let line = args(line);
            read(definition).0.shown_location(SwitchArgument::with_file(&line, file).unwrap(), file)
        };
        let serial = ["-serial", "file:/a"];

        assert_eq!(shown(r#"{"serial": "file:/a"}"#, &serial, "/a"), "`serial`");
        assert_eq!(shown(r#"{"args": ["-serial", "file:/a"]}"#, &serial, "/a"), "`-serial file:/a`");
        assert_eq!(shown("{}", &["-drive", "file=/a,if=pflash"], "/a"), "`-drive file=/a,if=pflash`");
        let storage = r#"{"storage": [{"name": "one", "file": "/a"}, {"name": "two", "file": "/b"}]}"#;
        let node = r#"{"driver":"file","filename":"/b"}"#;
        assert_eq!(shown(storage, &["-blockdev", node], "/b"), "`two` under `storage`");
        assert_eq!(shown(r#"{"firmware": "/a.fd"}"#, &["-bios", "/a.fd"], "/a.fd"), "`firmware`");
        assert_eq!(
            shown(r#"{"arguments": [{"fsdev": "local,id=one,path=/b"}]}"#, &["-fsdev", "local,id=one,path=/b"], "/b"),
            "`-fsdev local,id=one,path=/b`"
        );
    }

    #[test]
    fn test_shown_location_of_an_option_is_the_key_that_adds_it() {
        let shown = |definition: &str, line: &[&str], option: &str| {
            let line = args(line);
            read(definition).0.shown_location(SwitchArgument::with_option(&line, option).unwrap(), "")
        };
        let line = ["-cpu", "qemu64,vmx=x", "-machine", "q35,usb=maybe", "-device", "e1000,mac=x"];

        assert_eq!(shown(r#"{"machine": {"type": "q35", "usb": "maybe"}}"#, &line, "usb"), "`machine`");
        assert_eq!(shown(r#"{"arguments": [{"machine": "usb=maybe"}]}"#, &line, "usb"), "`-machine q35,usb=maybe`");
        assert_eq!(shown("{}", &line, "vmx"), "`cpu_model`");
        assert_eq!(shown("{}", &line, "mac"), "`-device e1000,mac=x`");
    }
}
