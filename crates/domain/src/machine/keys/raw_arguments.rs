//! `args`: raw arguments of QEMU.

use super::arguments::{NUL, check_allowed};
use crate::config::{Diagnostics, KeyPath, Node};
use crate::machine::Machine;
use crate::machine::switches::canonical;
use crate::qemu::takes_value;

/// Reads `args`.
pub(super) fn apply(path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
    let items = report.list(path, node).unwrap_or_default();
    for (index, item) in items.iter().enumerate() {
        let at = path.index(index);
        if item.deletion().is_some() {
            continue;
        }
        let Some(arg) = report.text(&at, item) else {
            continue;
        };
        if arg.contains('\0') {
            report.error(&at, item, NUL);
            continue;
        }
        // A command line of the guest may begin like a switch.
        let before = index.checked_sub(1).and_then(|before| items[before].as_text());
        let is_value = before.is_some_and(is_switch_with_value);
        // That of a switch that is not known.
        let may_be_value = before.is_some_and(|before| is_value || is_unknown_switch(before));
        if let Some(split) = split_switch(&arg).filter(|_| !is_value) {
            let help = Some(format!("write one entry for each: {split}"));
            report.error_with_help(&at, item, "QEMU gets each entry as one argument, with its spaces", help);
            continue;
        }
        // QEMU would take it for a disk image, or for an unknown switch.
        if let Some(help) = misread(&arg).filter(|_| !may_be_value) {
            let message = format!("`{}` is neither a switch nor a value of one", arg.escape_debug());
            report.error_with_help(&at, item, message, Some(help));
            continue;
        }
        if let Some(name) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) {
            check_allowed(&at, item, canonical(name), report);
        }
        machine.args.push(arg);
    }
}

/// Returns whether a raw argument is a switch with a value.
fn is_switch_with_value(arg: &str) -> bool {
    let name = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'));
    name.is_some_and(|name| takes_value(canonical(name)) == Some(true))
}

/// Returns what is meant by an argument that QEMU reads as something else: a switch without a hyphen or with `=`, or
/// options apart from those before them.
fn misread(arg: &str) -> Option<String> {
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
            is_option.then(|| "write it in the entry before it, after a comma".to_owned())
        }
    }
}

fn is_unknown_switch(arg: &str) -> bool {
    let name = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'));
    name.is_some_and(|name| takes_value(canonical(name)).is_none())
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
        ] {
            assert_eq!(raw_problems(json), [(format!("args[{index}]"), help.to_owned())], "{json}");
        }
        for json in
            [r#"["-name", "m"]"#, r#"["/d/a=b.img"]"#, r#"["disk.img"]"#, r#"["-append", "a=b"]"#, r#"["-x", "s"]"#]
        {
            assert_eq!(raw_problems(json), [], "{json}");
        }
        let whole = raw_problems(r#""-m 1G -smp 2""#);
        assert_eq!(whole, [("args".to_owned(), r#"write it as a list: `["-m", "1G", "-smp", "2"]`"#.to_owned())]);
    }
}
