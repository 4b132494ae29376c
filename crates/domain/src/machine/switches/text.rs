//! Values that QEMU cannot honor under maqet, whatever the rest of the definition.

use super::boot::boot_order;
use super::twice::address;
use super::{Refusal, UserSwitch};
use crate::config::unexpanded;
use crate::machine::keys::{CHARACTER_DEVICES, files_of};
use crate::network::MacAddress;
use crate::text::quote;

/// Switches of which the value `help` prints a list.
const WITH_HELP: [&str; 30] = [
    "L", "accel", "action", "add-fd", "audio", "audiodev", "boot", "chardev", "cpu", "d", "device", "display", "drive",
    "global", "iscsi", "machine", "msg", "netdev", "nic", "object", "overcommit", "plugin", "rtc", "run-with", "smp",
    "spice", "tpmdev", "trace", "vga", "vnc",
];

/// Switches of which only a further `help` prints a list: the first one is a value.
const WITH_HELP_FLAG: [&str; 8] = ["fsdev", "fw_cfg", "icount", "m", "mon", "name", "sandbox", "virtfs"];

/// Options of which the value `help` prints a list, with their switches.
const OPTIONS_WITH_HELP: [(&str, &str); 4] =
    [("audio", "model"), ("drive", "format"), ("net", "model"), ("nic", "model")];

/// Returns why QEMU cannot honor the value of a switch.
pub(super) fn refusal(switch: &UserSwitch<'_>, architecture: &str) -> Option<Refusal> {
    help(switch, architecture)
        .or_else(|| dump(switch, architecture))
        .or_else(|| terminal(switch))
        .or_else(|| identity(switch))
        .or_else(|| boot_order(switch))
        .or_else(|| mac_address(switch))
        .or_else(|| unexpanded_file(switch))
        .or_else(|| quoted_json(switch))
}

/// As copied from a shell, which removes the quotes; QEMU reads them as part of a name.
fn quoted_json(switch: &UserSwitch<'_>) -> Option<Refusal> {
    let text = switch.argument.trim();
    let inner = ["'", "\""].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))?;
    let is_json = inner.trim_start().starts_with('{') && inner.trim_end().ends_with('}');
    (is_json && switch.name != "append").then(|| Refusal {
        message: format!("{}: QEMU does not remove the quotes around the JSON", switch.shown(&switch.argument)),
        help: "remove them: no shell reads the argument".to_owned(),
    })
}

fn help(switch: &UserSwitch<'_>, architecture: &str) -> Option<Refusal> {
    let is_help = |part: &str| matches!(part, "help" | "?");
    let name = switch.name.as_str();
    let by_flag = switch.options.iter().any(|option| option.is_flag && is_help(&option.key));
    let by_name = (by_flag || is_help(switch.head())) && WITH_HELP.contains(&name);
    let by_name = by_name || by_flag && WITH_HELP_FLAG.contains(&name);
    let of_option = OPTIONS_WITH_HELP.iter().filter(|(known, _)| *known == name);
    let by_option = of_option.filter_map(|(_, key)| switch.option(key)).any(is_help);
    let by_events = name == "d" && switch.argument.split(',').any(|item| item == "trace:help");
    (by_name || by_option || by_events).then(|| Refusal {
        message: format!("{} prints a list and exits", switch.shown(&switch.argument)),
        help: format!("run `qemu-system-{architecture} -{} {}`", switch.name, switch.argument.escape_debug()),
    })
}

/// QEMU writes the device tree and exits with 0, as if a guest had ended (7.2, 10.0).
fn dump(switch: &UserSwitch<'_>, architecture: &str) -> Option<Refusal> {
    let file = switch.option("dumpdtb").filter(|_| switch.name == "machine")?;
    Some(Refusal {
        message: "with `dumpdtb` of the machine, QEMU writes a file and exits".to_owned(),
        help: format!(
            "remove it, and run `qemu-system-{architecture} -machine {},dumpdtb={} -display none`",
            switch.head(),
            quote(file)
        ),
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

/// QEMU opens a file of exactly that name.
fn unexpanded_file(switch: &UserSwitch<'_>) -> Option<Refusal> {
    let files = files_of(&switch.name, &switch.argument, &switch.options);
    let (message, help) = files.into_iter().filter(|_| !switch.is_key).find_map(unexpanded)?;
    Some(Refusal { message: format!("{}: {message}", switch.shown(&switch.argument)), help })
}

/// A card with such an address receives nothing, or what is meant for others.
fn mac_address(switch: &UserSwitch<'_>) -> Option<Refusal> {
    if !matches!(switch.name.as_str(), "device" | "nic" | "net") {
        return None;
    }
    let text = address(&switch.options)?;
    // QEMU reports what is not an address.
    let invalid = text.parse::<MacAddress>().err().filter(|invalid| !invalid.is_malformed())?;
    Some(Refusal { message: invalid.to_string(), help: "remove it: each card has an address of its own".to_owned() })
}
