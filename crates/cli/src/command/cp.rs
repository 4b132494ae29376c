//! `maqet cp`.

use std::io::{self, Write};
use std::sync::Arc;

use async_trait::async_trait;
use indicatif::BinaryBytes;
use maqet::domain::guest::GuestStream;
use maqet::domain::guest::copy::CopyPlace;
use maqet::operation::{Copied, Cp, ExecVia};
use maqet::{ErrorReport, ExecStreams, Maqet};
use tokio::sync::Mutex;

use crate::args::CpArgs;
use crate::error::output_failed;
use crate::exit_code;
use crate::render::sanitize::escape_control;
use crate::render::{Output, TextOutput};
use crate::stream::{Stdin, Stdout};

/// How many of the skipped entries are named.
const MAX_NAMED: usize = 5;

/// Copies files; returns the exit code.
pub(super) async fn run(maqet: &Maqet, args: CpArgs, output: &Output) -> Result<u8, ErrorReport> {
    let (reads, writes) = (args.source == CopyPlace::Stream, args.target == CopyPlace::Stream);
    let cp = Cp::new(args.source, args.target)
        .recursive(args.recursive)
        .preserve(args.preserve)
        .verify(args.verify)
        .exclude(args.exclude)
        .timeout(args.timeout)
        .via(args.via);
    if !reads && !writes {
        let copied = output.progress("copying", maqet.run(cp)).await?;
        note(&copied, output);
        return output.finish(&copied);
    }
    let streams =
        Arc::new(Streams { stdin: reads.then(|| Mutex::new(Stdin::open())), stdout: writes.then(Stdout::open) });
    let copied = output.progress("copying", maqet.run(cp.streams(Arc::clone(&streams) as _))).await;
    if let Some(stdout) = Arc::into_inner(streams).and_then(|streams| streams.stdout) {
        stdout.finish().await.map_err(output_failed)?;
    }
    let copied = copied?;
    note(&copied, output);
    // Standard output may be the copy.
    if writes {
        if !output.is_text() {
            output.show_beside(&copied);
        }
        return Ok(exit_code::DONE);
    }
    output.finish(&copied)
}

fn note(copied: &Copied, output: &Output) {
    if !output.is_text() {
        return;
    }
    if copied.via == ExecVia::Agent
        && let Some(refused) = copied.refused.first()
    {
        output.note(&format!("copied by the guest agent alone, which is slow: {}", refused.reason));
    }
    for skipped in copied.summary.skipped.iter().take(MAX_NAMED) {
        output.note(&format!("not copied: `{}`: {}", escape_control(&skipped.path), skipped.reason));
    }
    let more = copied.summary.skipped_count.saturating_sub(MAX_NAMED as u64);
    if more > 0 {
        output.note(&format!("not copied: {more} more"));
    }
}

/// Standard input or output, as one side of a copy.
struct Streams {
    stdin: Option<Mutex<Stdin>>,
    stdout: Option<Stdout>,
}

#[async_trait]
impl ExecStreams for Streams {
    fn has_input(&self) -> bool {
        self.stdin.is_some()
    }

    async fn read(&self) -> Vec<u8> {
        match &self.stdin {
            Some(stdin) => stdin.lock().await.next().await.unwrap_or_default(),
            None => Vec::new(),
        }
    }

    async fn writable(&self, _: GuestStream) -> bool {
        match &self.stdout {
            Some(stdout) => stdout.reserve().await.is_some(),
            None => false,
        }
    }

    fn write(&self, _: GuestStream, bytes: Vec<u8>) {
        if let Some(stdout) = &self.stdout {
            stdout.send(bytes);
        }
    }
}

impl TextOutput for Copied {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let files = if self.summary.files == 1 { "file" } else { "files" };
        let seconds = std::time::Duration::from_millis(self.duration_ms).as_secs_f32();
        let verified = if self.verified { ", verified" } else { "" };
        writeln!(
            out,
            "copied {} {files} ({}) to `{}` in {seconds:.1} s{verified}",
            self.summary.files,
            BinaryBytes(self.summary.bytes),
            escape_control(&self.target),
        )
    }
}
