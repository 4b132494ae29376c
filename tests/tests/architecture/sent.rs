//! A running QEMU is sent only commands that are known to do no harm (`maqet_domain::qmp::sent`).

use std::collections::BTreeSet;

use maqet_domain::qmp::sent::{SENT, SENT_WITHOUT_VM};

use crate::assert_none;
use crate::source::RustFile;
use crate::workspace::{shipped, text};

/// Functions whose first argument is the name of a command or a line of the human monitor.
const SENDERS: [&str; 3] = ["QmpCommand::new", "QmpCommand::human_monitor", "QmpCommand::human_monitor_with"];

/// Where the name of a command is not a literal argument of a sender: the text that has it instead, and the names.
const COMPUTED: [(&str, &str, &[&str]); 7] = [
    ("crates/application/src/operation/vm/power.rs", "*command", &["cont", "stop", "system_reset", "system_wakeup"]),
    (
        "crates/application/src/operation/device/medium.rs",
        "execute",
        &["blockdev-close-tray", "blockdev-insert-medium", "blockdev-open-tray", "blockdev-remove-medium"],
    ),
    ("crates/application/src/qmp.rs", "QUERY_SCHEMA", &["query-qmp-schema"]),
    ("crates/application/src/upgrade/forwards.rs", "&line", &["hostfwd_add", "hostfwd_remove"]),
    ("crates/application/src/vm/power_button.rs", "command", &["system_powerdown", "system_wakeup"]),
    // To a fresh process.
    ("crates/adapters-qemu/src/builds.rs", "name", &["quit"]),
    // The user's own command.
    ("crates/domain/src/qmp/schema.rs", "name", &[]),
];

/// Commands that the session itself sends: whether QEMU lives, out of band and in the main loop.
const PINGS: (&str, [&str; 2]) = ("crates/adapters-qemu/src/qmp/session.rs", ["query-yank", "query-version"]);

fn files() -> Vec<&'static RustFile> {
    ["domain", "application", "adapters-qemu", "maqet", "cli"].map(shipped).concat()
}

/// Returns the literal names of commands outside of tests: arguments of senders, and values of the field `execute`.
fn literals(files: &[&RustFile]) -> BTreeSet<String> {
    let texts = files.iter().flat_map(|file| &file.texts).filter(|text| !text.for_tests);
    let is_command = |detail: &str| detail == "execute" || SENDERS.contains(&detail);
    texts.filter(|text| is_command(&text.detail)).map(|text| text.name.clone()).collect()
}

/// Returns what is given to a sender in a source text and is not a literal.
fn computed(source: &str) -> Vec<&str> {
    let after = SENDERS.iter().flat_map(|sender| source.split(&format!("{sender}(")).skip(1).collect::<Vec<_>>());
    after.filter(|rest| !rest.trim_start().starts_with('"')).filter_map(|rest| rest.split(')').next()).collect()
}

#[test]
fn test_commands_sent_to_running_qemu_are_listed() {
    let mut in_code = literals(&files());
    in_code.extend(COMPUTED.iter().flat_map(|(_, _, names)| *names).map(|name| (*name).to_owned()));
    in_code.extend(PINGS.1.map(str::to_owned));
    in_code.retain(|name| !SENT_WITHOUT_VM.contains(&name.as_str()));
    let listed: BTreeSet<String> = SENT.iter().map(|sent| sent.name.to_owned()).collect();

    let unlisted = in_code.difference(&listed).map(|name| format!("`{name}` is sent, but not listed"));
    let unused = listed.difference(&in_code).map(|name| format!("`{name}` is listed, but not sent"));
    assert_none("maqet_domain::qmp::sent lists the commands", &unlisted.chain(unused).collect::<Vec<_>>());
}

#[test]
fn test_commands_with_computed_names_are_known() {
    let mut unknown = Vec::new();
    for file in files() {
        for argument in computed(&text(&file.path)) {
            if !COMPUTED.iter().any(|(path, known, _)| *path == file.path && *known == argument) {
                unknown.push(format!("{}: {argument}", file.path));
            }
        }
    }
    for (path, argument, names) in COMPUTED {
        let source = text(path);
        let is_there = computed(&source).contains(&argument);
        let missing = names.iter().any(|name| !source.contains(&format!("\"{name}\"")));
        if !is_there || missing {
            unknown.push(format!("{path}: {argument} is not there, or not one of its names"));
        }
    }
    let session = text(PINGS.0);
    unknown
        .extend(PINGS.1.iter().filter(|name| !session.contains(&format!("\"{name}\""))).map(|name| (*name).to_owned()));

    assert_none("names of commands are literals, or listed here", &unknown);
}

#[test]
fn test_commands_that_load_modules_go_to_fresh_processes_only() {
    let files = files();
    let texts = files.iter().flat_map(|file| file.texts.iter().map(move |text| (&file.path, text)));
    let loaders = texts.filter(|(_, text)| !text.for_tests && SENT_WITHOUT_VM.contains(&text.name.as_str()));
    // The list itself, the query that is not a command, and the list of commands that users may run.
    let known = ["sent.rs", "device.rs", "host_access/list.rs"].map(|name| format!("crates/domain/src/qmp/{name}"));
    let elsewhere =
        loaders.filter(|(path, _)| !known.contains(path)).map(|(path, text)| format!("{path}: {}", text.name));

    assert_none("only a fresh process is asked to load modules", &elsewhere.collect::<Vec<_>>());
}

#[test]
fn test_sent_planted_command_is_found() {
    let file = RustFile::new(
        "f",
        "fn f() { QmpCommand::new(\"qom-list-types\"); QmpCommand::human_monitor(\"info qtree\");
         QmpCommand { execute: \"quit\".to_owned(), arguments } }",
    );

    assert_eq!(literals(&[&file]), ["info qtree", "qom-list-types", "quit"].map(str::to_owned).into());
    assert_eq!(computed("QmpCommand::new(name).with(1) QmpCommand::new(\"x\")"), ["name"]);
}
