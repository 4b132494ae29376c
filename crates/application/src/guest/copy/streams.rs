//! The streams of a copy, on the side of the host.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use maqet_domain::guest::copy::{Sha256, SourceFacts, file_end};
use maqet_domain::guest::{GuestStream, Nonce, ProcessSignal};
use maqet_domain::port::{CopySummary, HostFileError, HostSource};
use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc};

use crate::guest::streams::ExecStreams;
use crate::limits;

/// The streams of a script that receives or sends.
pub(crate) struct CopyStreams {
    upload: Option<AsyncMutex<Upload>>,
    output: Mutex<Option<mpsc::Sender<Vec<u8>>>>,
    errors: Mutex<Vec<u8>>,
    stop: Notify,
    done: AtomicU64,
}

impl CopyStreams {
    /// The streams of a script that receives.
    pub(crate) fn receiving(upload: Upload) -> Arc<Self> {
        Arc::new(Self::new(Some(upload), None))
    }

    /// The streams of a script that sends, and what comes.
    pub(crate) fn sending() -> (Arc<Self>, mpsc::Receiver<Vec<u8>>) {
        let (sender, receiver) = mpsc::channel(limits::COPY_PIECES_AHEAD);
        (Arc::new(Self::new(None, Some(sender))), receiver)
    }

    /// The streams of a script of which only the errors are of interest.
    pub(crate) fn none() -> Arc<Self> {
        Arc::new(Self::new(None, None))
    }

    fn new(upload: Option<Upload>, output: Option<mpsc::Sender<Vec<u8>>>) -> Self {
        Self {
            upload: upload.map(AsyncMutex::new),
            output: Mutex::new(output),
            errors: Mutex::default(),
            stop: Notify::new(),
            done: AtomicU64::new(0),
        }
    }

    /// Ends the script, whose result is no longer of use.
    pub(crate) fn stop(&self) {
        self.stop.notify_one();
    }

    /// Tells the reader that nothing more comes.
    pub(crate) fn end_output(&self) {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Returns how many bytes went over the stream so far.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Returns what the script wrote to its standard error.
    pub(crate) fn errors(&self) -> String {
        String::from_utf8_lossy(&self.errors.lock().unwrap_or_else(PoisonError::into_inner)).trim().to_owned()
    }

    /// Returns what was sent, and why not all of it was.
    pub(crate) async fn sent(&self) -> (CopySummary, Option<HostFileError>) {
        match &self.upload {
            Some(upload) => {
                let mut upload = upload.lock().await;
                (upload.summary(), upload.error.take())
            }
            None => (CopySummary::default(), None),
        }
    }

    /// Passes on a piece, once there is room; returns whether it is still of use.
    pub(crate) async fn pass_on(&self, bytes: Vec<u8>) -> bool {
        self.done.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        match self.sender() {
            Some(sender) => sender.send(bytes).await.is_ok(),
            None => false,
        }
    }

    fn sender(&self) -> Option<mpsc::Sender<Vec<u8>>> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl ExecStreams for CopyStreams {
    fn has_input(&self) -> bool {
        self.upload.is_some()
    }

    async fn read(&self) -> Vec<u8> {
        let Some(upload) = &self.upload else { return Vec::new() };
        let bytes = upload.lock().await.next().await;
        self.done.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        bytes
    }

    async fn writable(&self, stream: GuestStream) -> bool {
        if stream == GuestStream::Err {
            return true;
        }
        match self.sender() {
            Some(sender) => sender.reserve().await.is_ok(),
            None => false,
        }
    }

    fn write(&self, stream: GuestStream, bytes: Vec<u8>) {
        if stream == GuestStream::Err {
            let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
            let room = limits::MAX_COPY_MESSAGE_BYTES.saturating_sub(errors.len());
            errors.extend_from_slice(&bytes[..bytes.len().min(room)]);
            return;
        }
        self.done.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if let Some(sender) = self.sender() {
            // There is room, unless it is no longer read.
            let _ = sender.try_send(bytes);
        }
    }

    async fn signal(&self) -> ProcessSignal {
        self.stop.notified().await;
        ProcessSignal::Term
    }
}

/// What is sent to a guest.
pub(crate) struct Upload {
    content: Content,
    /// The ID of the copy, which ends a file.
    file: Option<Nonce>,
    sha256: Option<Sha256>,
    sent: u64,
    is_over: bool,
    error: Option<HostFileError>,
}

/// From where it is read.
pub(crate) enum Content {
    /// Files of the host.
    Host(Box<dyn HostSource>),
    /// A stream of the caller.
    Stream(Arc<dyn ExecStreams>),
}

impl Upload {
    pub(crate) fn new(content: Content, facts: &SourceFacts, id: &Nonce, is_verified: bool) -> Self {
        let is_file = matches!(facts, SourceFacts::File { .. });
        Self {
            content,
            file: is_file.then(|| id.clone()),
            sha256: (is_file && is_verified).then(Sha256::default),
            sent: 0,
            is_over: false,
            error: None,
        }
    }

    /// Returns the next bytes; none at the end, and after an error, so that the guest lacks the end. Cancel safe.
    pub(crate) async fn next(&mut self) -> Vec<u8> {
        if self.is_over {
            return Vec::new();
        }
        let read = match &mut self.content {
            Content::Host(source) => source.read().await,
            Content::Stream(streams) => Ok(streams.read().await),
        };
        match read {
            Ok(bytes) if !bytes.is_empty() => {
                self.sent += bytes.len() as u64;
                if let Some(sha256) = &mut self.sha256 {
                    sha256.update(&bytes);
                }
                bytes
            }
            Ok(_) => {
                self.is_over = true;
                let digest = self.sha256.take().map(Sha256::finish);
                self.file.as_ref().map(|id| file_end(id, self.sent, digest)).unwrap_or_default()
            }
            Err(error) => {
                (self.is_over, self.error) = (true, Some(error));
                Vec::new()
            }
        }
    }

    fn summary(&self) -> CopySummary {
        match &self.content {
            Content::Host(source) => source.summary(),
            Content::Stream(_) => CopySummary { files: 1, bytes: self.sent, ..CopySummary::default() },
        }
    }
}
