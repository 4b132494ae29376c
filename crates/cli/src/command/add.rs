//! `maqet add` and `maqet apply`.

use std::path::{Path, PathBuf};

use maqet::domain::config::Problem;
use maqet::operation::Start;
use maqet::{Document, InsecureFiles, Maqet, SizeMismatch, operation, read_document};

use super::input;
use crate::args::{AddArgs, ApplyArgs};
use crate::exit_code;
use crate::failure::Failure;
use crate::render::Output;
use crate::render::progress;

/// Reads the files, defines the VM, and starts it if asked to.
pub(crate) async fn add(maqet: &Maqet, args: AddArgs, output: &Output) -> Result<u8, Failure> {
    let documents = documents(maqet, &args.files, output).await?;
    let mut operation = operation::Add::new(documents)
        .name(args.name)
        .memory(args.over.memory)
        .cpu(args.over.cpu)
        .set(args.over.set)
        .lenient(args.over.lenient);
    operation.empty = args.empty;
    let added = maqet.run(operation).await?;
    warn(&added.warnings, output);
    if !args.start {
        output.show(&added)?;
        return Ok(exit_code::DONE);
    }

    let start = maqet.run(Start::new(added.id.clone()));
    let started = progress::shown(output.shows_progress, "starting", start).await.inspect_err(|_| {
        output.note(&format!("`{}` is defined and does not run", added.name));
    })?;
    note_size_mismatches(&started.size_mismatches, output);
    output.show(&started)?;
    Ok(exit_code::DONE)
}

/// Says which images keep their size.
pub(super) fn note_size_mismatches(kept: &[SizeMismatch], output: &Output) {
    for kept in kept {
        output.note(&format!("note: {kept}"));
    }
}

/// Changes a definition and shows what is different.
pub(crate) async fn apply(maqet: &Maqet, args: ApplyArgs, output: &Output) -> Result<u8, Failure> {
    let operation = operation::Apply::new(args.vm)
        .documents(documents(maqet, &args.files, output).await?)
        .memory(args.over.memory)
        .cpu(args.over.cpu)
        .set(args.over.set)
        .lenient(args.over.lenient)
        .dry_run(args.dry_run);
    let applied = maqet.run(operation).await?;
    warn(&applied.warnings, output);
    note_size_mismatches(&applied.size_mismatches, output);
    output.show(&applied)?;
    Ok(exit_code::DONE)
}

/// Says which keys were left out.
pub(crate) fn warn(warnings: &[Problem], output: &Output) {
    for problem in warnings {
        let place = problem.place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
        output.note(&format!("warning: {place}left out `{}`: {}", problem.path.escape_debug(), problem.message));
    }
}

/// Reads files; `-` is standard input.
pub(crate) async fn documents(maqet: &Maqet, paths: &[PathBuf], output: &Output) -> Result<Vec<Document>, Failure> {
    let mut documents = Vec::with_capacity(paths.len());
    for path in paths {
        documents.push(document(path, maqet.settings().insecure_files, output).await?);
    }
    Ok(documents)
}

/// Standard input is taken whoever can write it: whoever runs us has opened it for us.
async fn document(path: &Path, insecure_files: InsecureFiles, output: &Output) -> Result<Document, Failure> {
    if path == Path::new("-") {
        let folder = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let read = |stream| Ok(Maqet::read_stream(stream, input::STANDARD_INPUT, folder)?);
        return input::from_standard_input(output, read).await;
    }
    Ok(read_document(path, insecure_files)?)
}
