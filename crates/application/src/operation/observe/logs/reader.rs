//! Reading a log in pieces, and while it grows.

use std::path::PathBuf;

use maqet_domain::port::{LockName, RecordError, Records, Store};
use maqet_domain::vm::{Phase, VmId};

use super::{LogError, LogInfo, LogKind};
use crate::log::keeper::LogKeeper;
use crate::vm::observe::Observer;
use crate::{App, Error, limits};

/// How many of the last bytes read are kept, to find the position again in a file that was truncated.
const TAIL_BYTES: usize = 256;

/// Reads a log of a VM from its start or its last lines to its end, and further while it grows.
pub struct LogReader<'a> {
    records: &'a dyn Records,
    keeper: LogKeeper,
    store: &'a dyn Store,
    observer: Observer<'a>,
    vm: VmId,
    file: PathBuf,
    about: LogInfo,
    /// Where the next read starts.
    position: u64,
    /// The length of the file at the last read.
    length: u64,
    /// The last bytes read.
    tail: Vec<u8>,
}

impl<'a> LogReader<'a> {
    pub(super) async fn open(
        app: &'a App,
        vm: VmId,
        file: PathBuf,
        about: LogInfo,
        lines: Option<usize>,
    ) -> Result<Self, Error> {
        let records = &*app.ports.records;
        let length = match records.read(&file, 0, 0).await {
            Ok(chunk) => chunk.length,
            Err(RecordError::NotFound { .. }) if about.log == LogKind::Maqet => {
                return Err(LogError::NotFound { vm: about.name }.into());
            }
            Err(error) => return Err(error.into()),
        };
        let (store, observer) = (&*app.ports.store, app.observer());
        let keeper = LogKeeper::new(app);
        let (position, tail) = (0, Vec::new());
        let mut reader = Self { records, keeper, store, observer, vm, file, about, position, length, tail };
        if let Some(lines) = lines {
            reader.skip_to_last_lines(lines, length).await?;
        }
        Ok(reader)
    }

    /// Returns the log that is read.
    pub fn about(&self) -> &LogInfo {
        &self.about
    }

    /// Returns the length of the file at the last read, in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns where the next read starts, in bytes.
    pub fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn into_info(self) -> LogInfo {
        self.about
    }

    /// Skips all but the last `bytes`.
    pub(super) fn skip_to_last(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.position = self.position.max(self.length.saturating_sub(bytes));
    }

    /// Skips all but the last `lines` lines before the position `end`; an incomplete line at the end counts.
    ///
    /// Errors: [`Error::Record`] if the file was deleted or cannot be read.
    pub async fn skip_to_last_lines(&mut self, lines: usize, end: u64) -> Result<(), Error> {
        self.position = self.start_of_last(lines, end).await?;
        Ok(())
    }

    /// Returns the next piece; an empty one at the end of the file.
    ///
    /// Errors: [`Error::Record`] if the file was deleted or cannot be read.
    pub async fn read(&mut self) -> Result<Vec<u8>, Error> {
        let mut chunk = self.records.read(&self.file, self.position, limits::LOG_CHUNK_BYTES).await?;
        if chunk.length < self.position {
            // The file was truncated or replaced: continue after the last bytes read, if they are still in it.
            let content = self.records.read(&self.file, 0, limits::MAX_LOG_TEXT_BYTES).await?.bytes;
            self.position = u64::try_from(end_of(&self.tail, &content)).unwrap_or_default();
            chunk = self.records.read(&self.file, self.position, limits::LOG_CHUNK_BYTES).await?;
        }
        // Past a hole whose content was dropped.
        self.position = chunk.offset + u64::try_from(chunk.bytes.len()).unwrap_or_default();
        self.length = chunk.length;
        self.tail.extend_from_slice(&chunk.bytes);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL_BYTES));
        Ok(chunk.bytes)
    }

    /// Waits for the next piece; `None` once the log is complete: the boot is over, or, for maqet's own log, the VM was
    /// removed.
    ///
    /// Errors: those of [`read`](Self::read).
    pub async fn follow(&mut self) -> Result<Option<Vec<u8>>, Error> {
        loop {
            if self.keeper.is_due() {
                self.keeper.keep_newest_output(&self.vm).await;
            }
            // Checked before the read, so that the read includes the last output.
            let may_grow = self.may_grow().await?;
            match self.read().await {
                Ok(piece) if !piece.is_empty() => return Ok(Some(piece)),
                Ok(_) => {}
                // The logs of a VM are removed with it.
                Err(Error::Record(RecordError::NotFound { .. })) if !may_grow || self.is_vm_removed().await? => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
            if !may_grow {
                return Ok(None);
            }
            tokio::time::sleep(limits::LOG_POLL_INTERVAL).await;
        }
    }

    async fn is_vm_removed(&self) -> Result<bool, Error> {
        Ok(self.store.by_id(&self.vm).await?.is_none())
    }

    /// Returns whether a process may still write to the log.
    async fn may_grow(&self) -> Result<bool, Error> {
        let Some(vm) = self.store.by_id(&self.vm).await? else {
            return Ok(false);
        };
        let Some(boot) = self.about.boot else {
            return Ok(true);
        };
        match vm.entry.run {
            Some(run) if run.boot == boot && !matches!(run.phase, Phase::Ended(_)) => {
                let is_locked = async || self.observer.locks.holder(&LockName::Vm(self.vm)).await.is_some();
                let is_alive = self.observer.live_process(&run).await.is_some();
                Ok(is_alive || (run.phase == Phase::Starting && is_locked().await))
            }
            Some(_) | None => Ok(false),
        }
    }

    async fn start_of_last(&self, lines: usize, length: u64) -> Result<u64, Error> {
        let step = u64::try_from(limits::LOG_CHUNK_BYTES).unwrap_or(u64::MAX);
        let mut remaining = lines;
        let mut end = length;
        if lines == 0 {
            return Ok(end);
        }
        while end > 0 {
            let start = end.saturating_sub(step);
            let wanted = usize::try_from(end - start).unwrap_or(limits::LOG_CHUNK_BYTES);
            let chunk = self.records.read(&self.file, start, wanted).await?;
            if chunk.offset >= end {
                // What was before that was dropped.
                return Ok(end);
            }
            let within = usize::try_from(end - chunk.offset).unwrap_or(usize::MAX);
            for (index, _) in chunk.bytes.iter().take(within).enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
                let next = chunk.offset + u64::try_from(index).unwrap_or_default() + 1;
                // No line follows the last line break of the file.
                if next >= length {
                    continue;
                }
                remaining -= 1;
                if remaining == 0 {
                    return Ok(next);
                }
            }
            end = start;
        }
        Ok(0)
    }
}

/// Returns where the last occurrence of `tail` in `content` ends; 0 if there is none.
fn end_of(tail: &[u8], content: &[u8]) -> usize {
    if tail.is_empty() {
        return 0;
    }
    content.windows(tail.len()).rposition(|part| part == tail).map_or(0, |start| start + tail.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_end_of_tail_is_found_or_zero() {
        assert_eq!(end_of(b"two\n", b"one\ntwo\nthree\n"), 8);
        assert_eq!(end_of(b"other", b"one\ntwo\n"), 0);
        assert_eq!(end_of(b"", b"one"), 0);
        assert_eq!(end_of(b"longer than all", b"one"), 0);
    }
}
