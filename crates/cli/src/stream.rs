//! Standard input and output byte by byte, each on a thread of its own.
//!
//! A pipe that nobody reads or a terminal that was halted blocks whoever writes to it; on the thread of the runtime it
//! would block the answer to Ctrl-C and SIGTERM too. The threads are not waited for: they end with the process.

use std::io::{self, Write};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::mpsc::Permit;
use tokio::sync::{mpsc, oneshot};

/// How many pieces wait to be written; more and the one who brings them waits.
const PIECES: usize = 16;

/// Standard output.
pub(crate) struct Stdout {
    pieces: mpsc::Sender<Vec<u8>>,
    ended: oneshot::Receiver<io::Result<()>>,
}

impl Stdout {
    /// Begins to write.
    pub(crate) fn open() -> Self {
        let (pieces, mut taken) = mpsc::channel::<Vec<u8>>(PIECES);
        let (end, ended) = oneshot::channel();
        std::thread::spawn(move || {
            let mut written = Ok(());
            while let Some(piece) = taken.blocking_recv() {
                let mut out = io::stdout().lock();
                written = out.write_all(&piece).and_then(|()| out.flush());
                if written.is_err() {
                    break;
                }
            }
            // Nobody may want to know any more.
            let _ = end.send(written);
        });
        Self { pieces, ended }
    }

    /// Writes a piece, or has it written soon; returns whether anybody reads still.
    pub(crate) async fn write(&self, piece: Vec<u8>) -> bool {
        piece.is_empty() || self.pieces.send(piece).await.is_ok()
    }

    /// Waits for room for a piece; nothing once nobody reads any more. Takes nothing if it is dropped.
    pub(crate) async fn room(&self) -> Option<Permit<'_, Vec<u8>>> {
        self.pieces.reserve().await.ok()
    }

    /// Waits until all is written; a reader that went away is no failure.
    pub(crate) async fn finish(self) -> io::Result<()> {
        drop(self.pieces);
        match self.ended.await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Ok(written) => written,
            Err(_) => Ok(()),
        }
    }
}

/// How much is read from standard input at once: more than anybody types, and what a pipe passes on at once.
const READ_BYTES: usize = 4 << 10;

/// Standard input.
pub(crate) struct Stdin(mpsc::Receiver<Vec<u8>>);

impl Stdin {
    /// Begins to read.
    pub(crate) fn open() -> Self {
        let (pieces, taken) = mpsc::channel(PIECES);
        std::thread::spawn(move || {
            while let Some(piece) = read_stdin() {
                if pieces.blocking_send(piece).is_err() {
                    break;
                }
            }
        });
        Self(taken)
    }

    /// Waits for the next piece; nothing once it has ended, or cannot be read.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        self.0.recv().await
    }
}

/// Reads what is there, past the buffer of the standard library, which would wait for more.
fn read_stdin() -> Option<Vec<u8>> {
    let stdin = io::stdin();
    let mut bytes = vec![0; READ_BYTES];
    loop {
        match rustix::io::read(&stdin, &mut bytes) {
            Ok(0) => return None,
            Ok(length) => {
                bytes.truncate(length);
                return Some(bytes);
            }
            Err(Errno::INTR) => {}
            // Whoever started us shares it with somebody who wants it so.
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(&stdin, PollFlags::IN)], None);
            }
            Err(_) => return None,
        }
    }
}
