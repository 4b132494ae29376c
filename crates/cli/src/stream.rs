//! Standard input and output byte by byte, each on a thread of its own.
//!
//! A pipe that nobody reads or a terminal that was halted blocks whoever writes to it; on the thread of the runtime it
//! would block the answer to Ctrl-C and SIGTERM too. The threads are not waited for: they end with the process.

use std::io::{self, Write};

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
