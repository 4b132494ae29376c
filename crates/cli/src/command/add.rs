//! `maqet add`.

use std::path::{Path, PathBuf};

use maqet::operation::Start;
use maqet::{Document, Maqet, operation, read_document};

use crate::arguments::Add;
use crate::exit;
use crate::failure::Failure;
use crate::progress;
use crate::render::Output;

/// Reads the files, defines the VM, and starts it if asked to.
pub(crate) async fn add(maqet: &Maqet, arguments: Add, output: &Output) -> Result<u8, Failure> {
    let documents = arguments.files.iter().map(|path| document(path)).collect::<Result<Vec<_>, _>>()?;
    let operation = operation::Add {
        documents,
        name: arguments.name,
        memory: arguments.memory,
        cpu: arguments.cpu,
        empty: arguments.empty,
    };
    let added = maqet.run(operation).await?;
    if !arguments.start {
        output.show(&added)?;
        return Ok(exit::DONE);
    }

    let start = maqet.run(Start { vm: added.id.clone(), timeout: None });
    let started = progress::shown(output.shows_progress, "starting", start).await.inspect_err(|_| {
        output.note(&format!("`{}` is defined and does not run", added.name));
    })?;
    output.show(&started)?;
    Ok(exit::DONE)
}

fn document(path: &Path) -> Result<Document, Failure> {
    if path == Path::new("-") {
        let folder = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        return Ok(Maqet::read_stream(std::io::stdin().lock(), "standard input", folder)?);
    }
    Ok(read_document(path)?)
}
