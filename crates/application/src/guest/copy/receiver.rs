//! What a guest sends, on its way to its target.

use std::sync::Arc;

use maqet_domain::guest::copy::{MAX_FIRST_LINE_BYTES, SourceFacts};
use maqet_domain::port::{CopySummary, HostFileError, HostFiles, HostTarget, TargetRequest};
use tokio::sync::mpsc;

use crate::guest::streams::ExecStreams;

/// Where it goes.
pub(crate) enum Destination<'a> {
    /// To files of the host; the request lacks what is copied.
    Host(&'a dyn HostFiles, TargetRequest),
    /// To a stream of the caller.
    Stream(Arc<dyn ExecStreams>),
}

/// What has arrived.
pub(crate) enum Received {
    /// Not even the line that says what it is.
    Nothing,
    /// A file or a directory, which is to be completed.
    Host(Box<dyn HostTarget>),
    /// So many bytes, of so many that were announced.
    Stream(u64, Option<u64>),
}

impl Received {
    /// Gives it its name.
    pub(crate) async fn finish(self) -> Result<CopySummary, HostFileError> {
        match self {
            Self::Nothing => Err(HostFileError::Incomplete),
            Self::Host(target) => target.finish().await,
            Self::Stream(bytes, Some(size)) if bytes < size => Err(HostFileError::Incomplete),
            Self::Stream(bytes, _) => Ok(CopySummary { files: 1, bytes, ..CopySummary::default() }),
        }
    }
}

/// Takes all that comes; `announced` is called with the size, where it is known.
pub(crate) async fn receive(
    mut pieces: mpsc::Receiver<Vec<u8>>,
    destination: Destination<'_>,
    announced: impl Fn(u64),
) -> Result<Received, HostFileError> {
    let mut line = Vec::new();
    let facts = loop {
        let Some(piece) = pieces.recv().await else { return Ok(Received::Nothing) };
        line.extend(piece);
        if let Some(at) = line.iter().take(MAX_FIRST_LINE_BYTES).position(|byte| *byte == b'\n') {
            let rest = line.split_off(at + 1);
            let Some(facts) = SourceFacts::parse(&line[..at]) else { return Ok(Received::Nothing) };
            line = rest;
            break facts;
        }
        if line.len() >= MAX_FIRST_LINE_BYTES {
            return Ok(Received::Nothing);
        }
    };
    let size = match &facts {
        SourceFacts::File { size, .. } => *size,
        SourceFacts::Directory => None,
    };
    if let Some(size) = size {
        announced(size);
    }
    match destination {
        Destination::Host(files, request) => {
            let mut target = files.target(&TargetRequest { source: facts, ..request }).await?;
            let mut piece = Some(line);
            while let Some(mut bytes) = piece {
                // A write takes a thread: the more at once, the better.
                while let Ok(more) = pieces.try_recv() {
                    bytes.extend(more);
                }
                target.write(bytes).await?;
                piece = pieces.recv().await;
            }
            Ok(Received::Host(target))
        }
        Destination::Stream(streams) => {
            let mut passed = 0;
            let mut piece = Some(line);
            while let Some(mut bytes) = piece {
                let left = size.map_or(u64::MAX, |size| size - passed);
                bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                passed += bytes.len() as u64;
                if !bytes.is_empty() {
                    if !streams.writable(maqet_domain::guest::GuestStream::Out).await {
                        return Err(HostFileError::Incomplete);
                    }
                    streams.write(maqet_domain::guest::GuestStream::Out, bytes);
                }
                piece = pieces.recv().await;
            }
            Ok(Received::Stream(passed, size))
        }
    }
}
