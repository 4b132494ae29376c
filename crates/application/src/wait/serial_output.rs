//! Searching the serial output of a VM for a pattern, from a defined moment on.

use maqet_domain::port::Records;
use maqet_domain::vm::{BootNumber, Run, VmEntry};

use super::condition::Pattern;
use super::error::WaitError;
use super::since::SerialSince;
use crate::limits;

/// The position in the serial log, and the end of what was read.
pub(crate) struct SerialOutput {
    since: SerialSince,
    /// Whether it was looked at before.
    is_begun: bool,
    /// The boot that had ended by then: its output does not count.
    ended: Option<BootNumber>,
    boot: Option<BootNumber>,
    offset: u64,
    text: String,
}

impl SerialOutput {
    pub(crate) fn new(since: SerialSince) -> Self {
        Self { since, is_begun: false, ended: None, boot: None, offset: 0, text: String::new() }
    }

    /// Returns whether the output that counts matches; `is_live` is whether the VM is being started or runs.
    ///
    /// Errors: `SinceUnsupported`.
    pub(crate) async fn matches(
        &mut self,
        records: &dyn Records,
        entry: &VmEntry,
        is_live: bool,
        pattern: &Pattern,
    ) -> Result<bool, WaitError> {
        let Some(run) = &entry.run else {
            self.is_begun = true;
            return Ok(false);
        };
        if !self.is_begun {
            self.begin(records, entry, run, is_live).await?;
        }
        if self.ended == Some(run.boot) {
            return Ok(false);
        }
        if self.boot != Some(run.boot) {
            *self = Self { boot: Some(run.boot), offset: 0, text: String::new(), ..*self };
        }
        Ok(self.read(records, run, pattern).await)
    }

    /// Decides from where on the output of the last run counts.
    async fn begin(
        &mut self,
        records: &dyn Records,
        entry: &VmEntry,
        run: &Run,
        is_live: bool,
    ) -> Result<(), WaitError> {
        self.is_begun = true;
        let counts = match self.since {
            SerialSince::Now | SerialSince::Boot => is_live,
            SerialSince::BootsFrom(since) if run.started_at >= since => true,
            SerialSince::BootsFrom(_) if !is_live => false,
            SerialSince::BootsFrom(since) => {
                return Err(WaitError::SinceUnsupported { vm: entry.name.clone(), since });
            }
        };
        if !counts {
            self.ended = Some(run.boot);
        } else if self.since == SerialSince::Now {
            self.boot = Some(run.boot);
            self.offset = records.read(&run.paths.serial_log(), 0, 0).await.map_or(0, |log| log.length);
        }
        Ok(())
    }

    async fn read(&mut self, records: &dyn Records, run: &Run, pattern: &Pattern) -> bool {
        let log = run.paths.serial_log();
        while let Ok(chunk) = records.read(&log, self.offset, limits::SERIAL_WINDOW_BYTES).await {
            if chunk.length < self.offset {
                (self.offset, self.text) = (0, String::new());
                continue;
            }
            if chunk.bytes.is_empty() {
                break;
            }
            self.offset = chunk.offset + chunk.bytes.len() as u64;
            self.text.push_str(&String::from_utf8_lossy(&chunk.bytes));
            if pattern.matches(&self.text) {
                return true;
            }
            let mut kept = self.text.len().saturating_sub(limits::SERIAL_WINDOW_BYTES);
            while !self.text.is_char_boundary(kept) {
                kept += 1;
            }
            self.text.drain(..kept);
        }
        false
    }
}
