//! `maqet add` and `maqet apply`.

use std::path::{Path, PathBuf};

use maqet::domain::config::Problem;
use maqet::operation::Start;
use maqet::{Document, Maqet, SizeMismatch, Writers, operation, read_document};

use super::given;
use crate::arguments::{Add, Apply};
use crate::exit;
use crate::failure::Failure;
use crate::progress;
use crate::render::Output;

/// Reads the files, defines the VM, and starts it if asked to.
pub(crate) async fn add(maqet: &Maqet, arguments: Add, output: &Output) -> Result<u8, Failure> {
    let operation = operation::Add {
        documents: documents(maqet, &arguments.files, output).await?,
        name: arguments.name,
        memory: arguments.over.memory,
        cpu: arguments.over.cpu,
        set: arguments.over.set,
        empty: arguments.empty,
        lenient: arguments.over.lenient,
    };
    let added = maqet.run(operation).await?;
    warn(&added.warnings, output);
    if !arguments.start {
        output.show(&added)?;
        return Ok(exit::DONE);
    }

    let start = maqet.run(Start { vm: added.id.clone(), timeout: None });
    let started = progress::shown(output.shows_progress, "starting", start).await.inspect_err(|_| {
        output.note(&format!("`{}` is defined and does not run", added.name));
    })?;
    note_size_mismatches(&started.size_mismatches, output);
    output.show(&started)?;
    Ok(exit::DONE)
}

/// Says which images keep their size.
pub(super) fn note_size_mismatches(kept: &[SizeMismatch], output: &Output) {
    for kept in kept {
        output.note(&format!("note: {kept}"));
    }
}

/// Changes a definition and shows what is different.
pub(crate) async fn apply(maqet: &Maqet, arguments: Apply, output: &Output) -> Result<u8, Failure> {
    let operation = operation::Apply {
        documents: documents(maqet, &arguments.files, output).await?,
        vm: arguments.vm,
        memory: arguments.over.memory,
        cpu: arguments.over.cpu,
        set: arguments.over.set,
        lenient: arguments.over.lenient,
        dry_run: arguments.dry_run,
    };
    let applied = maqet.run(operation).await?;
    warn(&applied.warnings, output);
    note_size_mismatches(&applied.size_mismatches, output);
    output.show(&applied)?;
    Ok(exit::DONE)
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
        documents.push(document(path, maqet.settings().writers, output).await?);
    }
    Ok(documents)
}

/// Standard input is taken whoever can write it: whoever runs us has opened it for us.
async fn document(path: &Path, writers: Writers, output: &Output) -> Result<Document, Failure> {
    if path == Path::new("-") {
        let folder = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let read = |stream| Ok(Maqet::read_stream(stream, given::STANDARD_INPUT, folder)?);
        return given::from_standard_input(output, read).await;
    }
    Ok(read_document(path, writers)?)
}
