//! A histogram of durations with a fixed size.

use std::time::Duration;

/// How many buckets each power of two is divided into, so that a bucket is at most a quarter of its bound wide.
const PER_OCTAVE: usize = 4;

/// The shortest durations are counted in one bucket: below 2^4 µs.
const FIRST_OCTAVE: u32 = 4;

/// The number of powers of two: up to 2^31 µs, which is 36 minutes; longer durations are counted in the last bucket.
const OCTAVES: usize = 27;

/// The number of buckets: one for the shortest durations, those of the octaves, and one for the longest.
pub const BUCKETS: usize = OCTAVES * PER_OCTAVE + 2;

/// A quantile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantile {
    /// In percent.
    percent: u8,
}

impl Quantile {
    /// The median.
    pub const P50: Self = Self { percent: 50 };
    /// What 95 % are not above.
    pub const P95: Self = Self { percent: 95 };
    /// What 99 % are not above.
    pub const P99: Self = Self { percent: 99 };
}

/// Durations, counted in buckets whose width grows with the duration: quantiles are exact to an eighth where durations vary, and to a quarter at worst.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: [u32; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; BUCKETS] }
    }
}

impl Histogram {
    /// Restores a histogram from its counts.
    pub const fn from_counts(counts: [u32; BUCKETS]) -> Self {
        Self { counts }
    }

    /// Returns how many durations are in each bucket.
    pub const fn counts(&self) -> &[u32; BUCKETS] {
        &self.counts
    }

    /// Counts a duration.
    pub fn add(&mut self, duration: Duration) {
        if let Some(count) = self.counts.get_mut(bucket_of(duration)) {
            *count = count.saturating_add(1);
        }
    }

    /// Returns how many durations were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().copied().map(u64::from).sum()
    }

    /// Returns the duration that the given share of all does not exceed, interpolated within its bucket; `None` without
    /// durations.
    pub fn quantile(&self, quantile: Quantile) -> Option<Duration> {
        let wanted = (self.count() * u64::from(quantile.percent)).div_ceil(100).max(1);
        let mut before = 0;
        for (bucket, count) in self.counts.iter().copied().map(u64::from).enumerate() {
            if before + count >= wanted {
                let (low, high) = (lower_bound(bucket), lower_bound(bucket + 1));
                // In the middle of its share of the bucket.
                return Some(Duration::from_micros(low + (high - low) * (2 * (wanted - before) - 1) / (2 * count)));
            }
            before += count;
        }
        None
    }

    /// Returns, for each power of two, an upper bound and how many durations are below it, as far as some are above it.
    pub fn cumulative(&self) -> Vec<(Duration, u64)> {
        let mut below = 0;
        let mut octaves = Vec::with_capacity(OCTAVES + 1);
        for (bucket, count) in self.counts.iter().copied().map(u64::from).enumerate() {
            below += count;
            if bucket % PER_OCTAVE == 0 && bucket < BUCKETS - 1 {
                octaves.push((Duration::from_micros(lower_bound(bucket + 1)), below));
            }
        }
        octaves
    }
}

/// Returns the bucket that counts a duration.
fn bucket_of(duration: Duration) -> usize {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let Some(octave) = micros.checked_ilog2().and_then(|log| log.checked_sub(FIRST_OCTAVE)) else { return 0 };
    // The two bits after the highest one.
    let part = (micros >> (octave + FIRST_OCTAVE - 2)) & 3;
    let bucket = 1 + octave as usize * PER_OCTAVE + usize::try_from(part).unwrap_or_default();
    bucket.min(BUCKETS - 1)
}

/// Returns the shortest duration of a bucket in microseconds; the last bucket ends where another one would begin.
const fn lower_bound(bucket: usize) -> u64 {
    let Some(index) = bucket.checked_sub(1) else { return 0 };
    let (octave, part) = (index / PER_OCTAVE, (index % PER_OCTAVE) as u64);
    let base = 1_u64 << (FIRST_OCTAVE as usize + octave);
    base + part * (base / PER_OCTAVE as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn histogram(micros: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        micros.into_iter().map(Duration::from_micros).for_each(|duration| histogram.add(duration));
        histogram
    }

    proptest! {
        #[test]
        fn test_bucket_holds_durations_between_its_bounds(micros in 0..(1_u64 << 31)) {
            let bucket = bucket_of(Duration::from_micros(micros));

            prop_assert!((lower_bound(bucket)..lower_bound(bucket + 1)).contains(&micros), "{bucket}");
        }

        #[test]
        fn test_quantile_is_exact_to_a_quarter(mut micros in prop::collection::vec(16..(1_u64 << 31), 1..200)) {
            let found = histogram(micros.clone()).quantile(Quantile::P95).unwrap();

            micros.sort_unstable();
            let exact = Duration::from_micros(micros[(micros.len() * 95).div_ceil(100) - 1]);
            prop_assert!(found.abs_diff(exact) <= exact / 4, "{found:?} for {exact:?}");
        }
    }

    #[test]
    fn test_bucket_of_extreme_durations_is_first_and_last() {
        assert_eq!(bucket_of(Duration::ZERO), 0);
        assert_eq!(bucket_of(Duration::from_micros(15)), 0);
        assert_eq!(bucket_of(Duration::from_micros(16)), 1);
        assert_eq!(bucket_of(Duration::from_hours(1)), BUCKETS - 1);
        assert_eq!(bucket_of(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn test_quantile_without_durations_is_none() {
        assert_eq!(Histogram::default().quantile(Quantile::P50), None);
    }

    #[test]
    fn test_cumulative_counts_below_powers_of_two() {
        let cumulative = histogram([3, 20, 31, 32, 1 << 40]).cumulative();

        assert_eq!(
            cumulative[..3],
            [16, 32, 64].map(Duration::from_micros).into_iter().zip([1, 3, 4]).collect::<Vec<_>>()[..]
        );
        assert_eq!(cumulative.last(), Some(&(Duration::from_micros(1 << 31), 4)));
    }
}
