//! A log that is read piece by piece, and as it grows.

use std::path::PathBuf;

use maqet_domain::port::{LockName, RecordError};
use maqet_domain::vm::{Phase, VmId};

use super::{LogError, LogInfo, LogKind};
use crate::{App, Error, limits};

/// How much of what was read last is remembered, to find the place again in a log that was cut.
const REMEMBERED_BYTES: usize = 256;

/// Reads a log of a VM, from its beginning or its last lines on, as far as it goes and further as it grows.
pub struct LogReader<'a> {
    app: &'a App,
    vm: VmId,
    file: PathBuf,
    about: LogInfo,
    position: u64,
    length: u64,
    last: Vec<u8>,
}

impl<'a> LogReader<'a> {
    pub(super) async fn open(
        app: &'a App,
        vm: VmId,
        file: PathBuf,
        about: LogInfo,
        lines: Option<usize>,
    ) -> Result<Self, Error> {
        let length = match app.ports.records.read(&file, 0, 0).await {
            Ok(chunk) => chunk.length,
            Err(RecordError::NotFound { .. }) if about.log == LogKind::Maqet => {
                return Err(LogError::NothingRecorded { vm: about.name }.into());
            }
            Err(error) => return Err(error.into()),
        };
        let mut reader = Self { app, vm, file, about, position: 0, length, last: Vec::new() };
        if let Some(lines) = lines {
            reader.position = reader.begin_of_last(lines).await?;
        }
        Ok(reader)
    }

    /// Returns which log it is.
    pub fn about(&self) -> &LogInfo {
        &self.about
    }

    /// Returns how long the log was when it was last looked at, in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn into_info(self) -> LogInfo {
        self.about
    }

    /// Leaves out all but the last `bytes`.
    pub(super) fn skip_to_last(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.position = self.position.max(self.length.saturating_sub(bytes));
    }

    /// Returns the next piece; an empty one when all that there is was read.
    ///
    /// Errors: the log is gone, or cannot be read any more.
    pub async fn read(&mut self) -> Result<Vec<u8>, Error> {
        let records = &self.app.ports.records;
        let mut chunk = records.read(&self.file, self.position, limits::LOG_CHUNK_BYTES).await?;
        if chunk.length < self.position {
            // It was cut, or begun anew: on from where we were, if that is still in it.
            let whole = records.read(&self.file, 0, limits::MAX_LOG_TEXT_BYTES).await?.bytes;
            self.position = u64::try_from(end_of(&self.last, &whole)).unwrap_or_default();
            chunk = records.read(&self.file, self.position, limits::LOG_CHUNK_BYTES).await?;
        }
        self.position += u64::try_from(chunk.bytes.len()).unwrap_or_default();
        self.length = chunk.length;
        self.last.extend_from_slice(&chunk.bytes);
        self.last.drain(..self.last.len().saturating_sub(REMEMBERED_BYTES));
        Ok(chunk.bytes)
    }

    /// Waits for the next piece; `None` once nothing more can come: the boot is over, or, for maqet's own log, the VM
    /// is gone.
    ///
    /// Errors: the log cannot be read any more.
    pub async fn follow(&mut self) -> Result<Option<Vec<u8>>, Error> {
        loop {
            // Asked before it is read, so that what was written last is read still.
            let grows = self.grows().await?;
            match self.read().await {
                Ok(piece) if !piece.is_empty() => return Ok(Some(piece)),
                Ok(_) => {}
                // With the VM its logs go.
                Err(Error::Record(RecordError::NotFound { .. })) if !grows || self.is_gone().await? => return Ok(None),
                Err(error) => return Err(error),
            }
            if !grows {
                return Ok(None);
            }
            tokio::time::sleep(limits::LOG_POLL_INTERVAL).await;
        }
    }

    async fn is_gone(&self) -> Result<bool, Error> {
        Ok(self.app.ports.store.by_id(&self.vm).await?.is_none())
    }

    /// Returns whether somebody may still write to the log.
    async fn grows(&self) -> Result<bool, Error> {
        let Some(vm) = self.app.ports.store.by_id(&self.vm).await? else {
            return Ok(false);
        };
        let Some(boot) = self.about.boot else {
            return Ok(true);
        };
        match vm.entry.run {
            Some(run) if run.boot == boot && !matches!(run.phase, Phase::Ended(_)) => {
                let is_underway = async || self.app.ports.locks.holder(&LockName::Vm(self.vm)).await.is_some();
                let lives = self.app.observer().live_process(&run).await.is_some();
                Ok(lives || (run.phase == Phase::Starting && is_underway().await))
            }
            Some(_) | None => Ok(false),
        }
    }

    /// Returns where the last `lines` lines begin; a line that is not ended counts.
    async fn begin_of_last(&self, lines: usize) -> Result<u64, Error> {
        let piece = u64::try_from(limits::LOG_CHUNK_BYTES).unwrap_or(u64::MAX);
        let mut to_find = lines;
        let mut end = self.length;
        if lines == 0 {
            return Ok(end);
        }
        while end > 0 {
            let begin = end.saturating_sub(piece);
            let length = usize::try_from(end - begin).unwrap_or(limits::LOG_CHUNK_BYTES);
            let bytes = self.app.ports.records.read(&self.file, begin, length).await?.bytes;
            for (index, _) in bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
                let next = begin + u64::try_from(index).unwrap_or_default() + 1;
                // The break that ends the last line begins no other.
                if next == self.length {
                    continue;
                }
                to_find -= 1;
                if to_find == 0 {
                    return Ok(next);
                }
            }
            end = begin;
        }
        Ok(0)
    }
}

/// Returns where in `text` what was read last ends; its beginning if that is not in it.
fn end_of(last: &[u8], text: &[u8]) -> usize {
    if last.is_empty() {
        return 0;
    }
    text.windows(last.len()).rposition(|part| part == last).map_or(0, |begin| begin + last.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_end_of_what_was_read_is_found_or_it_is_the_beginning() {
        assert_eq!(end_of(b"two\n", b"one\ntwo\nthree\n"), 8);
        assert_eq!(end_of(b"other", b"one\ntwo\n"), 0);
        assert_eq!(end_of(b"", b"one"), 0);
        assert_eq!(end_of(b"longer than all", b"one"), 0);
    }
}
