//! Pauses of random length, so that those who wait for one thing do not keep in step.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use crate::limits::{QUEUE_JITTER, QUEUE_PAUSE};

/// Sleeps a little.
pub async fn pause() {
    tokio::time::sleep(random_pause()).await;
}

fn random_pause() -> Duration {
    // Every `RandomState` has keys of its own, made from the kernel's random source.
    let random = RandomState::new().build_hasher().finish();
    let part = u32::try_from(random % 1024).unwrap_or_default();
    QUEUE_PAUSE + QUEUE_JITTER * part / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_random_pause_stays_in_its_bounds_and_varies() {
        let pauses: Vec<Duration> = (0..64).map(|_| random_pause()).collect();

        assert!(pauses.iter().all(|pause| (QUEUE_PAUSE..=QUEUE_PAUSE + QUEUE_JITTER).contains(pause)));
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
    }
}
