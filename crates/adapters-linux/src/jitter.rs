//! Pauses of random length, so that processes that wait for the same thing do not retry in step.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use crate::limits::{RETRY_INTERVAL, RETRY_JITTER};

/// Sleeps before the next retry.
pub async fn retry_pause() {
    tokio::time::sleep(random_pause(RETRY_INTERVAL, RETRY_JITTER)).await;
}

/// Returns a random pause from `min` to `min + span`.
pub fn random_pause(min: Duration, span: Duration) -> Duration {
    min + span * (random_number() % 1024) / 1024
}

/// Returns a random number, which is not a secret.
pub fn random_number() -> u32 {
    // Every `RandomState` has its own keys, from the random source of the kernel.
    let random = RandomState::new().build_hasher().finish();
    u32::try_from(random & u64::from(u32::MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_random_pause_is_bounded_and_varies() {
        let pauses: Vec<Duration> = (0..64).map(|_| random_pause(RETRY_INTERVAL, RETRY_JITTER)).collect();

        assert!(pauses.iter().all(|pause| (RETRY_INTERVAL..=RETRY_INTERVAL + RETRY_JITTER).contains(pause)));
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
    }
}
