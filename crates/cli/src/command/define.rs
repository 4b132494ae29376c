//! `maqet add` and `maqet apply`.

use std::path::{Path, PathBuf};

use maqet::domain::config::{Problem, ProblemKind};
use maqet::operation::Start;
use maqet::{Document, ErrorReport, ImageMismatches, InsecureFiles, LogFailure, Maqet, operation, read_document};

use super::input;
use crate::args::{AddArgs, ApplyArgs};
use crate::render::Output;

pub(super) async fn add(maqet: &Maqet, args: AddArgs, output: &Output) -> Result<u8, ErrorReport> {
    let overrides = args.overrides;
    let documents = documents(maqet, &args.files, output).await?;
    let mut operation = operation::Add::new(documents).set(overrides.set).lenient(overrides.lenient);
    operation.name = args.name;
    operation.memory = overrides.memory;
    operation.cpu = overrides.cpu;
    operation.empty = args.empty;
    let added = maqet.run(operation).await?;
    warn(&added.warnings, output);
    if !args.start {
        return output.finish(&added);
    }

    let start = maqet.run(Start::new(added.id.clone()));
    let started = output.progress(&format!("starting `{}`", added.name), start).await.inspect_err(|_| {
        output.note(&format!("defined `{}`, but it failed to start", added.name));
    })?;
    note_mismatches(&started.mismatches, output);
    warn_of_log_failure(started.log_failure.as_ref(), output);
    warn_of_start(&started.vm.name, &started.warnings, output);
    output.finish(&started)
}

pub(super) async fn apply(maqet: &Maqet, args: ApplyArgs, output: &Output) -> Result<u8, ErrorReport> {
    let overrides = args.overrides;
    let documents = documents(maqet, &args.files, output).await?;
    let mut operation = operation::Apply::new(args.vm)
        .documents(documents)
        .set(overrides.set)
        .lenient(overrides.lenient)
        .dry_run(args.dry_run);
    operation.memory = overrides.memory;
    operation.cpu = overrides.cpu;
    let applied = maqet.run(operation).await?;
    warn(&applied.warnings, output);
    note_mismatches(&applied.mismatches, output);
    output.finish(&applied)
}

/// Notes which images differ from their definition.
pub(super) fn note_mismatches(mismatches: &ImageMismatches, output: &Output) {
    for note in mismatches.notes() {
        output.note(&format!("note: {note}"));
    }
}

/// Warns of what QEMU complained about at a start.
pub(super) fn warn_of_start(vm: &str, warnings: &[String], output: &Output) {
    for warning in warnings {
        output.note(&format!("warning: `{vm}`: {warning}"));
    }
}

/// Warns of events and logs that cannot be written.
pub(super) fn warn_of_log_failure(failure: Option<&LogFailure>, output: &Output) {
    if let Some(failure) = failure {
        output.note(&format!("warning: {failure}"));
    }
}

/// Warns of keys that were ignored, and of what is probably not meant.
pub(super) fn warn(warnings: &[Problem], output: &Output) {
    for problem in warnings {
        let location = problem.location.as_ref().map(|location| format!("{location}: ")).unwrap_or_default();
        let warning = match problem.kind {
            ProblemKind::Warning => problem.title(),
            ProblemKind::UnknownKey | ProblemKind::Missing | ProblemKind::Invalid => {
                format!("ignored `{}`: {}", problem.path.escape_debug(), problem.message)
            }
        };
        output.note(&format!("warning: {location}{warning}"));
        if let Some(help) = problem.help.as_ref().filter(|_| problem.kind == ProblemKind::Warning) {
            output.note(&format!("  hint: {help}"));
        }
    }
}

/// Reads configuration files; `-` is standard input.
pub(super) async fn documents(maqet: &Maqet, paths: &[PathBuf], output: &Output) -> Result<Vec<Document>, ErrorReport> {
    let mut documents = Vec::with_capacity(paths.len());
    for path in paths {
        documents.push(document(path, maqet.settings().insecure_files, output).await?);
    }
    Ok(documents)
}

/// Reads a configuration file. Standard input needs no check of its writers: the caller opened it.
async fn document(path: &Path, insecure_files: InsecureFiles, output: &Output) -> Result<Document, ErrorReport> {
    if path == Path::new("-") {
        let folder = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let read = |stream| Ok(Maqet::read_stream(stream, input::STANDARD_INPUT, folder)?);
        return input::from_standard_input(output, read).await;
    }
    Ok(read_document(path, insecure_files)?)
}
