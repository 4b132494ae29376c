//! Standard input and output as bytes, each on its own thread.
//!
//! A full pipe or a suspended terminal blocks a write; on the thread of the runtime it would also block the reaction to
//! Ctrl-C and SIGTERM. The threads are never joined: they end with the process.

use std::io::{self, Write};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::mpsc::Permit;
use tokio::sync::{mpsc, oneshot};

/// How many pieces wait to be written or read before the sender has to wait.
const QUEUE_LENGTH: usize = 16;

/// Standard output, or standard error.
pub(crate) struct Stdout {
    sender: mpsc::Sender<Vec<u8>>,
    finished: oneshot::Receiver<io::Result<()>>,
}

impl Stdout {
    /// Starts the thread that writes.
    pub(crate) fn open() -> Self {
        Self::of(|piece| {
            let mut out = io::stdout().lock();
            out.write_all(piece).and_then(|()| out.flush())
        })
    }

    /// Does the same for standard error.
    pub(crate) fn open_stderr() -> Self {
        Self::of(|piece| io::stderr().lock().write_all(piece))
    }

    fn of(write: impl Fn(&[u8]) -> io::Result<()> + Send + 'static) -> Self {
        let (sender, mut receiver) = mpsc::channel::<Vec<u8>>(QUEUE_LENGTH);
        let (finish, finished) = oneshot::channel();
        std::thread::spawn(move || {
            let mut written = Ok(());
            while let Some(piece) = receiver.blocking_recv() {
                written = write(&piece);
                if written.is_err() {
                    break;
                }
            }
            // `Stdout` may have been dropped.
            let _ = finish.send(written);
        });
        Self { sender, finished }
    }

    /// Writes a piece, or queues it; returns whether standard output is still read.
    pub(crate) async fn write(&self, piece: Vec<u8>) -> bool {
        piece.is_empty() || self.sender.send(piece).await.is_ok()
    }

    /// Waits for room for a piece; `None` once standard output is no longer read. Cancel-safe.
    pub(crate) async fn reserve(&self) -> Option<Permit<'_, Vec<u8>>> {
        self.sender.reserve().await.ok()
    }

    /// Queues a piece, after [`reserve`](Self::reserve) has returned room for one.
    pub(crate) fn send(&self, piece: Vec<u8>) {
        // Without room, or a reader, there is nothing to be done with it.
        let _ = self.sender.try_send(piece);
    }

    /// Waits until everything is written; a closed pipe is not a failure.
    pub(crate) async fn finish(self) -> io::Result<()> {
        drop(self.sender);
        match self.finished.await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Ok(written) => written,
            Err(_) => Ok(()),
        }
    }
}

/// The size of one read: more than anyone types, and as much as a pipe passes on.
const READ_BYTES: usize = 4 << 10;

/// Standard input.
pub(crate) struct Stdin(mpsc::Receiver<Vec<u8>>);

impl Stdin {
    /// Starts the thread that reads.
    pub(crate) fn open() -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE_LENGTH);
        std::thread::spawn(move || {
            while let Some(piece) = read_stdin() {
                if sender.blocking_send(piece).is_err() {
                    break;
                }
            }
        });
        Self(receiver)
    }

    /// Waits for the next piece; `None` at the end or after an error.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        self.0.recv().await
    }
}

/// Reads the available bytes, without the buffer of the standard library, which would wait for more.
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
            // A process that shares standard input has made it non-blocking.
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(&stdin, PollFlags::IN)], None);
            }
            Err(_) => return None,
        }
    }
}
