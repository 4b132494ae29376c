//! Values that QEMU cannot honor under maqet, whatever the rest of the definition.

use super::{Refusal, UserSwitch};
use crate::network::MacAddress;

/// Switches of which the value `help` prints a list.
const WITH_HELP: [&str; 16] = [
    "accel", "audio", "audiodev", "chardev", "cpu", "d", "device", "display", "drive", "machine", "netdev", "nic",
    "object", "tpmdev", "trace", "vga",
];

/// The boot devices of libvirt and other programs, with QEMU's letters for them.
const BOOT_WORDS: [(&str, char); 9] = [
    ("hd", 'c'),
    ("disk", 'c'),
    ("hdd", 'c'),
    ("cdrom", 'd'),
    ("dvd", 'd'),
    ("network", 'n'),
    ("net", 'n'),
    ("fd", 'a'),
    ("floppy", 'a'),
];

/// Switches whose argument is a character device.
const CHARACTER_DEVICES: [&str; 7] = ["serial", "parallel", "monitor", "qmp", "qmp-pretty", "debugcon", "gdb"];

/// Returns why QEMU cannot honor the value of a switch.
pub(super) fn refusal(switch: &UserSwitch<'_>) -> Option<Refusal> {
    help(switch)
        .or_else(|| terminal(switch))
        .or_else(|| identity(switch))
        .or_else(|| boot_word(switch))
        .or_else(|| mac_address(switch))
}

fn help(switch: &UserSwitch<'_>) -> Option<Refusal> {
    let is_help = |part: &str| matches!(part, "help" | "?");
    let asks = is_help(switch.head()) || switch.options.iter().any(|option| option.is_flag && is_help(&option.key));
    (asks && WITH_HELP.contains(&switch.name.as_str())).then(|| Refusal {
        message: format!("{} prints a list and exits", switch.shown(&switch.argument)),
        help: format!("run `qemu-system-x86_64 -{} {}`", switch.name, switch.argument.escape_debug()),
    })
}

/// The standard input of QEMU is empty, and its output is the QEMU log.
fn terminal(switch: &UserSwitch<'_>) -> Option<Refusal> {
    let name = switch.name.as_str();
    let value = switch.head();
    let needs = match name {
        "display" => value == "curses",
        "chardev" => value == "stdio",
        _ => CHARACTER_DEVICES.contains(&name) && matches!(value, "stdio" | "mon:stdio"),
    };
    let help = match name {
        "serial" => "remove it: `maqet console VM` attaches to the first serial port",
        "monitor" | "qmp" | "qmp-pretty" => "remove it: `maqet qmp shell VM` is a monitor",
        "display" => "set `vnc=unix:PATH`, or use the serial console with `maqet console VM`",
        _ => "use a file or a socket: `file:PATH`, `unix:PATH,server=on,wait=off`",
    };
    needs.then(|| Refusal {
        message: format!("{} requires a terminal, and QEMU runs without one", switch.shown(value)),
        help: help.to_owned(),
    })
}

/// QEMU would run with another root directory or as another user.
fn identity(switch: &UserSwitch<'_>) -> Option<Refusal> {
    let key = ["chroot", "user"].into_iter().find(|key| switch.option(key).is_some())?;
    (switch.name == "run-with").then(|| Refusal {
        message: format!("`-run-with {key}=…` is not allowed: QEMU could not open the files of the VM"),
        help: "remove it, and run maqet as the user that QEMU is to run as".to_owned(),
    })
}

/// QEMU reads the letters of a word as so many devices, and refuses most of them without naming the right one.
fn boot_word(switch: &UserSwitch<'_>) -> Option<Refusal> {
    if switch.name != "boot" {
        return None;
    }
    let mut words = ["order", "once"].into_iter().filter_map(|key| switch.option(key));
    let (word, letter) = words.find_map(|word| BOOT_WORDS.iter().find(|(known, _)| *known == word))?;
    Some(Refusal {
        message: format!("{} is not a boot order of QEMU", switch.shown(word)),
        help: format!("write `{letter}`; several devices are several letters, as in `dc`"),
    })
}

/// A card with such an address receives nothing, or what is meant for others.
fn mac_address(switch: &UserSwitch<'_>) -> Option<Refusal> {
    if !matches!(switch.name.as_str(), "device" | "nic" | "net") {
        return None;
    }
    let text = switch.option("mac").or_else(|| switch.option("macaddr"))?;
    // QEMU reports what is not an address.
    let invalid = text.parse::<MacAddress>().err().filter(|invalid| !invalid.is_malformed())?;
    Some(Refusal { message: invalid.to_string(), help: "remove it: each card has an address of its own".to_owned() })
}
