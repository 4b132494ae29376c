//! Commands of QMP as users type them: the arguments of `qmp run`, a line of `qmp shell`, `--json`.
//!
//! The input is a line for the schema of a real QEMU; or a schema, a form feed, and a line for that schema. Nothing
//! panics, every error has a message, and an accepted line is also accepted in its JSON form.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use maqet::domain::qmp::QmpCommand;
use maqet::domain::qmp::{DeviceProperties, Schema, SchemaError, TypeQuery, host_access};
use maqet::domain::text::quote;
use maqet::{CommandError, Explain, QmpArguments, QmpLine, completions, read_command};
use serde_json::{Value, json};

static REAL: LazyLock<Schema> = LazyLock::new(|| {
    let reply = include_str!("../../crates/domain/data/qmp-schema-7.2.json");
    Schema::from_reply(&serde_json::from_str(reply).expect("it is JSON")).expect("it is a schema")
});

/// Some of the properties of `virtio-blk-pci` (7.2).
static PROPERTIES: LazyLock<DeviceProperties> = LazyLock::new(|| {
    let reply = json!([
        {"name": "addr", "type": "int32"},
        {"name": "share-rw", "type": "bool"},
        {"name": "disable-legacy", "type": "OnOffAuto"},
        {"name": "queue-size", "type": "uint16"},
        {"name": "drive", "type": "str"},
    ]);
    DeviceProperties::from_reply(&reply).expect("these are properties")
});

fuzz_target!(|text: &str| {
    match text.split_once('\u{c}') {
        None => typed(&REAL, text),
        Some((reply, line)) => {
            if let Some(schema) = schema(reply) {
                typed(&schema, line);
            }
        }
    }
});

/// Returns a generated schema.
fn schema(reply: &str) -> Option<Schema> {
    match Schema::from_reply(&serde_json::from_str(reply).ok()?) {
        Ok(schema) => {
            let stored = Schema::from_text(schema.as_text().to_owned()).expect("a stored schema can be read");
            assert_eq!(stored.as_text(), schema.as_text());
            Some(stored)
        }
        Err(why) => {
            assert!(!why.to_string().is_empty());
            None
        }
    }
}

fn typed(schema: &Schema, line: &str) {
    let completed = completions(schema, line);
    assert!(line.is_char_boundary(completed.start));

    let line = match QmpLine::read(line) {
        Ok(Some(read)) => read,
        Ok(None) => return,
        Err(why) => return check_error(&why, &why.to_string()),
    };
    let QmpLine { command, arguments } = &line;
    if let QmpArguments::KeyValue(words) = arguments {
        let quoted: Vec<String> = std::iter::once(command).chain(words).map(|word| quote(word)).collect();
        assert_eq!(QmpLine::read(&quoted.join(" ")).as_ref(), Ok(&Some(line.clone())));
    }
    match read_command(schema, command, arguments, true) {
        Ok(read) => check(schema, command, arguments, &read),
        Err(why) => check_error(&why, &why.to_string()),
    }
}

fn check(schema: &Schema, name: &str, given: &QmpArguments, read: &QmpCommand) {
    let again = schema.command_from_json(name, read.arguments.clone());
    assert_eq!(again.as_ref(), Ok(read));
    match read_command(schema, name, given, false) {
        Ok(harmless) => assert_eq!((host_access(read), &harmless), (None, read)),
        Err(CommandError::HostAccess(refused)) => assert_eq!(host_access(read), Some(refused.access)),
        Err(other) => panic!("the same command is invalid without the option: {other}"),
    }
    if TypeQuery::properties_for(read).is_some() {
        match PROPERTIES.typed(read.clone()) {
            Ok(typed) => assert_eq!(PROPERTIES.typed(typed.clone()), Ok(typed)),
            Err(why) => check_error::<SchemaError>(&why, &why.to_string()),
        }
    }
    assert!(serde_json::to_value(read).is_ok_and(|value: Value| value.is_object()));
}

/// Checks every part of an error.
fn check_error<E: Explain + ?Sized>(why: &E, message: &str) {
    assert!(!message.is_empty() && !why.code().is_empty());
    assert!(why.hints().iter().all(|hint| !hint.is_empty()));
}
