//! How a checkpoint is taken: the first method that works, by what was found out about the VM and its QEMU.

use std::time::Duration;

use super::CheckpointMethod;
use crate::error::{Explain, Explanation, Fault};
use crate::qemu::QemuVersion;
use crate::size::ByteSize;

/// What was found out about a VM and its QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LadderFacts {
    /// Why QEMU refuses background snapshots, in its own words; `None` if it accepts them.
    pub background_refusal: Option<String>,
    /// Whether QEMU would resume a guest that is paused, over a background snapshot.
    pub would_resume: bool,
    /// How much of the memory is shared with other processes or files, in bytes.
    pub shared_bytes: u64,
    /// How much memory there is to write, in bytes.
    pub used_bytes: u64,
    /// How long the guest may be paused; `None` for any time.
    pub max_pause: Option<Duration>,
}

/// The method, and why it is that one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rung {
    /// The method.
    pub method: CheckpointMethod,
    /// Why.
    pub reason: String,
    /// How long the guest is paused, as far as that is known beforehand.
    pub estimate: Duration,
}

/// No method pauses the guest as briefly as requested.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the guest would be paused for about {} ms, longer than {} ms: {reason}", estimate.as_millis(), max_pause.as_millis())]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct PauseTooLong {
    pub estimate: Duration,
    pub max_pause: Duration,
    pub reason: String,
}

impl Explain for PauseTooLong {
    fn explain(&self) -> Explanation {
        Explanation::new("checkpoint.pause-refused", Fault::State)
            .hint("pass a longer `--max-pause`, or none")
            .hint("let QEMU track writes of the guest: `sysctl vm.unprivileged_userfaultfd=1` on the host")
    }
}

/// How fast QEMU writes the memory of a paused guest, in bytes a second: 787 MiB took 0.33 to 0.6 s (7.2, 10.0).
const SAVE_BYTES_PER_SECOND: u64 = 1_300_000_000;

/// How long a background snapshot pauses a guest: 10 to 14 ms and the standstill of its CPUs (7.2, 10.0).
const BACKGROUND_PAUSE: Duration = Duration::from_millis(50);

/// The most shared memory with which a background snapshot is chosen. QEMU reads all of it, and so allocates what was
/// never used, while the guest is paused (2 GiB: 1.3 s instead of 5 ms).
pub const MAX_SHARED_BYTES: u64 = 256 << 20;

/// Chooses the method.
///
/// A migration that copies the memory of a running guest in several passes is none of them: under TCG, QEMU 7.2 destroys
/// the guest (20 of 20 tried).
pub fn choose(facts: &LadderFacts) -> Result<Rung, PauseTooLong> {
    let (method, reason) = match &facts.background_refusal {
        Some(refusal) => {
            (CheckpointMethod::StopAndSave, format!("QEMU cannot track what the guest writes: {}", refusal.trim_end()))
        }
        None if facts.would_resume => (
            CheckpointMethod::StopAndSave,
            "the guest is paused, and this QEMU would resume it after a background snapshot".to_owned(),
        ),
        None if facts.shared_bytes > MAX_SHARED_BYTES => {
            let shared = ByteSize::from_bytes(facts.shared_bytes);
            (CheckpointMethod::StopAndSave, format!("{shared} of the memory are shared, and would all be allocated"))
        }
        None => (CheckpointMethod::BackgroundSnapshot, "QEMU tracks what the guest writes".to_owned()),
    };
    let estimate = match method {
        CheckpointMethod::BackgroundSnapshot => BACKGROUND_PAUSE,
        _ => Duration::from_millis(facts.used_bytes.max(facts.shared_bytes).div_ceil(SAVE_BYTES_PER_SECOND / 1000)),
    };
    match facts.max_pause {
        Some(max_pause) if estimate > max_pause => Err(PauseTooLong { estimate, max_pause, reason }),
        _ => Ok(Rung { method, reason, estimate }),
    }
}

/// Returns whether a background snapshot of this version can be canceled, and survives a file that cannot be written.
///
/// With 7.2 either leaves the guest hanging on its first write, for good (12 of 12 tried); with 10.0 it goes on (12 of
/// 12). A version in between counts as the older.
pub fn can_cancel_background(version: QemuVersion) -> bool {
    version.major >= 10
}

/// Returns whether a guest that is paused when a background snapshot begins stays so; else QEMU resumes it (7.2).
pub fn stays_paused_in_background(version: QemuVersion) -> bool {
    version.major >= 10
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> LadderFacts {
        LadderFacts {
            background_refusal: None,
            would_resume: false,
            shared_bytes: 0,
            used_bytes: 2_600_000_000,
            max_pause: None,
        }
    }

    #[test]
    fn test_choose_prefers_the_background() {
        let rung = choose(&LadderFacts { max_pause: Some(Duration::from_millis(60)), ..facts() }).unwrap();

        assert_eq!(rung.method, CheckpointMethod::BackgroundSnapshot);
    }

    #[test]
    fn test_choose_without_rights_pauses_and_says_why() {
        let refusal = Some("Background-snapshot is not supported by host kernel".to_owned());
        let facts = LadderFacts { background_refusal: refusal, ..facts() };

        let rung = choose(&facts).unwrap();

        assert_eq!(rung.method, CheckpointMethod::StopAndSave);
        assert_eq!(rung.estimate, Duration::from_secs(2));
        assert!(rung.reason.contains("not supported by host kernel"), "{}", rung.reason);
    }

    #[test]
    fn test_choose_shared_memory_is_not_filled() {
        let rung = choose(&LadderFacts { shared_bytes: 2 << 30, ..facts() }).unwrap();

        assert_eq!(rung.method, CheckpointMethod::StopAndSave);
        assert!(rung.reason.starts_with("2G"), "{}", rung.reason);
    }

    #[test]
    fn test_choose_paused_guest_is_not_resumed() {
        let rung = choose(&LadderFacts { would_resume: true, ..facts() }).unwrap();

        assert_eq!(rung.method, CheckpointMethod::StopAndSave);
    }

    #[test]
    fn test_choose_longer_than_allowed_is_refused() {
        let refusal = Some("no".to_owned());
        let facts = LadderFacts { background_refusal: refusal, max_pause: Some(Duration::from_millis(500)), ..facts() };

        let refused = choose(&facts).unwrap_err();

        assert_eq!(
            refused.to_string(),
            "the guest would be paused for about 2000 ms, longer than 500 ms: QEMU cannot track what the guest writes: no"
        );
    }
}
