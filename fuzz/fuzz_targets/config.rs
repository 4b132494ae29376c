//! Configuration files, from their text to the command line of QEMU, or to diagnostics.
//!
//! The input is up to four files with a form feed between them, a character that YAML forbids. Nothing
//! panics, a valid configuration is the same after it was stored and read, and diagnostics can be shown.

#![no_main]

mod render;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use maqet::config::{Sources, differences, merge, origins, read, rebased, with_origins};
use maqet::domain::command_line::{Accelerator, CommandLine, LaunchContext, UefiFiles};
use maqet::domain::config::{Node, Problem};
use maqet::domain::machine::ConfigHandler;
use maqet::domain::machine::{Machine, builtin_handlers};
use maqet::domain::registry::Registry;
use maqet::domain::storage::{FileKinds, builtin_drivers};
use maqet::domain::vm::{BootNumber, RunPaths, VmName};
use maqet::{ConfigError, Document};

static HANDLERS: LazyLock<Registry<dyn ConfigHandler>> =
    LazyLock::new(|| builtin_handlers(&builtin_drivers().expect("names differ")).expect("names differ"));

fuzz_target!(|text: &str| {
    let documents: Vec<Document> = text
        .splitn(4, '\u{c}')
        .enumerate()
        .map(|(number, text)| Document::new(format!("{number}.yaml"), "/conf", text))
        .collect();
    let mut sources = Sources::default();
    for document in &documents {
        sources.add(document);
    }

    match merged(&documents) {
        Ok(definition) => check(&definition, sources),
        Err(problems) => check_problems(problems, sources),
    }
});

fn merged(documents: &[Document]) -> Result<Node, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut definition = Node::empty_map();
    for document in documents {
        match read(&document.name, &document.text) {
            Ok(node) => definition = merge(definition, rebased(node, &document.directory, &HANDLERS), &HANDLERS),
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() { Ok(definition) } else { Err(problems) }
}

fn check(definition: &Node, sources: Sources) {
    match Machine::check(definition, &HANDLERS) {
        Ok(machine) => {
            let shown = command_line(&machine);
            let stored = stored(definition);
            assert!(differences(definition, &stored).is_empty(), "{definition:?} is stored as {stored:?}");
            let again = Machine::check(&stored, &HANDLERS).expect("a stored definition is still valid");
            assert_eq!(command_line(&again), shown);
        }
        Err(problems) => check_problems(problems, sources),
    }
}

/// Returns a definition as it comes back from the database.
fn stored(definition: &Node) -> Node {
    let text = serde_json::to_string(definition).expect("a definition is JSON");
    let node = serde_json::from_str(&text).expect("a stored definition can be read");
    with_origins(node, &origins(definition))
}

/// Returns the line for a shell.
fn command_line(machine: &Machine) -> String {
    let setting = LaunchContext {
        name: VmName::parse("web").expect("a name"),
        id: "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11".parse().expect("an id"),
        binary: PathBuf::from("/usr/bin/qemu-system-x86_64"),
        architecture: "x86_64".to_owned(),
        accelerator: Accelerator::Tcg,
        vm_storage: PathBuf::from("/d/storage/web"),
        paths: RunPaths::new(Path::new("/r/web"), Path::new("/s/web"), BootNumber(1)),
        uefi: Some(UefiFiles {
            code: PathBuf::from("/fw/code.fd"),
            code_format: "raw".to_owned(),
            variables: PathBuf::from("/d/storage/web/uefi-vars.qcow2"),
            requires_smm: true,
        }),
        tpm: None,
        credentials: Vec::new(),
        file_kinds: FileKinds::default(),
        version: maqet::domain::qmp::versions::TESTED[0],
        is_root: false,
    };
    let line = CommandLine::new(machine, &setting).expect("paths from a text are UTF-8");
    // A program cannot be given an argument with a NUL.
    assert!(line.args().iter().all(|arg| !arg.contains('\0')), "{line}");
    line.to_string()
}

/// Checks that problems have a text in each form of output.
fn check_problems(problems: Vec<Problem>, sources: Sources) {
    assert!(!problems.is_empty(), "rejected without a message");
    let error = ConfigError::new(problems, sources);
    assert!(serde_json::to_string(&error.problems).is_ok());
    assert!(!error.to_string().is_empty());
    assert!(!render::snippet::render(&error.problems, &error.sources).is_empty());
}
