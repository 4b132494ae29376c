//! `args`: raw arguments of QEMU.

use super::arguments::NUL;
use crate::config::{Diagnostics, KeyPath, Node};
use crate::machine::Machine;
use crate::machine::switches::{RawItem, raw_items};
use crate::qemu::{RawPart, canonical, takes_value};

/// Switches whose value is not a list of options.
const PLAIN: [&str; 14] =
    ["D", "L", "append", "bios", "cdrom", "dtb", "hda", "hdb", "initrd", "k", "kernel", "loadvm", "mem-path", "uuid"];

/// Reads `args`; refused switches are reported with those that an item of `arguments` leaves out.
pub(super) fn apply(path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
    let items = report.list(path, node).unwrap_or_default();
    let mut switch = None;
    let mut is_after_misread = false;
    for ((index, item), part) in items.iter().enumerate().zip(raw_items(items)) {
        let at = path.index(index);
        let RawItem::Passed(part) = part else { continue };
        let Some(arg) = report.text(&at, item) else {
            continue;
        };
        if arg.contains('\0') {
            report.error(&at, item, NUL);
            continue;
        }
        if let RawPart::Switch(name) = part {
            switch = Some(name);
        }
        // A command line of the guest may begin like a switch, and that of a switch that is not known may be one.
        let is_value = matches!(part, RawPart::Value(_));
        if let Some(split) = split_switch(&arg).filter(|_| !is_value) {
            let help = Some(format!("write one entry for each: {split}"));
            report.error_with_help(&at, item, "QEMU gets each entry as one argument, with its spaces", help);
            continue;
        }
        // QEMU would take it for a disk image, or for an unknown switch, and it is neither.
        if let Some(help) = misread(&arg, switch).filter(|_| !is_value) {
            let message = format!("`{}` is neither a switch nor a value of one", arg.escape_debug());
            report.error_with_help(&at, item, message, Some(help));
            is_after_misread = true;
            continue;
        }
        // It may be the value of what was meant before it.
        if part == RawPart::Other && !std::mem::take(&mut is_after_misread) {
            let message = format!("QEMU takes `{}` for a disk image, whose format it would guess", arg.escape_debug());
            report.error_with_help(&at, item, message, Some(instead_of_image(&arg)));
            continue;
        }
        machine.args.push(arg);
    }
}

/// Returns what is meant by an argument that QEMU reads as something else: a switch without a hyphen or with `=`, or
/// options apart from those before them, which are of `switch`.
fn misread(arg: &str, switch: Option<&str>) -> Option<String> {
    let is_switch = |name: &str| takes_value(canonical(name)).is_some();
    let without_hyphen = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'));
    match (without_hyphen, arg.split_once('=')) {
        (None, None) => is_switch(arg).then(|| format!("write it with a hyphen: `-{arg}`")),
        (Some(rest), _) => {
            let (name, value) = rest.split_once('=').filter(|(name, _)| is_switch(name))?;
            Some(format!("write two entries: `-{name}`, `{}`", value.escape_debug()))
        }
        // A path may contain `=`.
        (None, Some((key, _))) => {
            let is_option =
                !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            let help = match switch.filter(|name| takes_value(name) != Some(false)) {
                Some("append") => "write it in the entry before it, after a space",
                Some(name) if !PLAIN.contains(&name) => "write it in the entry before it, after a comma",
                Some(_) | None => "write the switch that it belongs to before it, such as `-append`",
            };
            is_option.then(|| help.to_owned())
        }
    }
}

/// Returns what is meant by an argument that QEMU takes for a disk image.
fn instead_of_image(arg: &str) -> String {
    if let Some(split) = split_switch(&format!("-{arg}")) {
        return format!("write one entry for each: {split}");
    }
    let arg = arg.escape_debug();
    format!("set it under `storage`, as in `{{name: disk, type: raw, file: {arg}}}`, or write `-hda` before it")
}

/// Returns the words of an argument that begins with a switch of QEMU and a space, as entries of a list.
fn split_switch(arg: &str) -> Option<String> {
    let (first, _) = arg.split_once(char::is_whitespace)?;
    let name = first.strip_prefix("--").or_else(|| first.strip_prefix('-'))?;
    let is_switch = takes_value(canonical(name)).is_some();
    let words = || arg.split_whitespace().map(|word| format!("`{}`", word.escape_debug()));
    is_switch.then(|| words().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw_problems(json: &str) -> Vec<(String, String)> {
        let item = |json: &str| serde_json::from_str::<Node>(json).unwrap();
        let mut report = Diagnostics::default();
        apply(&KeyPath::top("args"), &item(json), &mut Machine::default(), &mut report);
        let problems = report.into_problems().into_iter();
        problems.map(|problem| (problem.path, problem.help.unwrap_or_default())).collect()
    }

    #[test]
    fn test_raw_switch_and_value_in_one_entry_is_refused() {
        for (json, index, help) in [
            (r#"["-device e1000,netdev=n"]"#, 0, "write one entry for each: `-device`, `e1000,netdev=n`"),
            (r#"["-nographic", "--m  512"]"#, 1, "write one entry for each: `--m`, `512`"),
            (r#"["-smp 2 -m 1G"]"#, 0, "write one entry for each: `-smp`, `2`, `-m`, `1G`"),
        ] {
            assert_eq!(raw_problems(json), [(format!("args[{index}]"), help.to_owned())], "{json}");
        }
        for json in [r#"["-append", "-m x=1"]"#, r#"["-append", "-v debug=1"]"#, r#"["-name", "a b"]"#, r#"["-v x"]"#] {
            assert_eq!(raw_problems(json), [], "{json}");
        }
        for (json, index, help) in [
            (r#"["m", "512"]"#, 0, "write it with a hyphen: `-m`"),
            (r#"["-S", "-m=512"]"#, 1, "write two entries: `-m`, `512`"),
            (r#"["-device", "e1000", "netdev=n"]"#, 2, "write it in the entry before it, after a comma"),
            (r#"["-append", "quiet", "root=/dev/vda"]"#, 2, "write it in the entry before it, after a space"),
            (r#"["-kernel", "/k", "a=b"]"#, 2, "write the switch that it belongs to before it, such as `-append`"),
            (r#"["-S", "a=b"]"#, 1, "write the switch that it belongs to before it, such as `-append`"),
            (r#"["a=b"]"#, 0, "write the switch that it belongs to before it, such as `-append`"),
            (r#"["-append", {"-foo": null}, "-x", "m"]"#, 3, "write it with a hyphen: `-m`"),
        ] {
            assert_eq!(raw_problems(json), [(format!("args[{index}]"), help.to_owned())], "{json}");
        }
        for json in [r#"["-name", "m"]"#, r#"["-hda", "/d/a=b.img"]"#, r#"["-append", "a=b"]"#, r#"["-x", "s"]"#] {
            assert_eq!(raw_problems(json), [], "{json}");
        }
        for (json, index, file) in [
            (r#"["/etc/hostname"]"#, 0, "/etc/hostname"),
            (r#"["-S", "disk.img"]"#, 1, "disk.img"),
            (r#"["-m", "1G", "/d/a=b.img", "-S"]"#, 2, "/d/a=b.img"),
        ] {
            let help = format!(
                "set it under `storage`, as in `{{name: disk, type: raw, file: {file}}}`, or write `-hda` before it"
            );
            assert_eq!(raw_problems(json), [(format!("args[{index}]"), help)], "{json}");
        }
        let apart = "write one entry for each: `-device`, `e1000`".to_owned();
        assert_eq!(raw_problems(r#"["device e1000"]"#), [("args[0]".to_owned(), apart)]);
        let whole = raw_problems(r#""-m 1G -smp 2""#);
        assert_eq!(whole, [("args".to_owned(), r#"write it as a list: `["-m", "1G", "-smp", "2"]`"#.to_owned())]);
    }
}
