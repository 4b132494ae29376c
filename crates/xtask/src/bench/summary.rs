//! Median and percentiles of measurements.

use std::time::Duration;

/// The median and the 10th and 90th percentile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) median: Duration,
    pub(crate) p10: Duration,
    pub(crate) p90: Duration,
}

impl Summary {
    /// Summarises `samples`; all zero if there are none.
    pub(crate) fn new(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        let at = |percent| quantile(&samples, percent);
        Self { median: at(50), p10: at(10), p90: at(90) }
    }
}

/// Returns the sample nearest to the percentile.
fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last * percent + 50) / 100).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(milliseconds: impl IntoIterator<Item = u64>, expected: [u64; 3]) {
        let summary = Summary::new(milliseconds.into_iter().map(Duration::from_millis).collect());

        let found = [summary.p10, summary.median, summary.p90].map(|duration| duration.as_millis());
        assert_eq!(found, expected.map(u128::from));
    }

    #[test]
    fn test_summary_any_order_is_sorted_first() {
        check((0..=20).rev(), [2, 10, 18]);
    }

    #[test]
    fn test_summary_one_outlier_does_not_move_the_median() {
        check([3, 2, 1, 9_000, 2], [1, 2, 9_000]);
    }

    #[test]
    fn test_summary_one_or_no_sample_is_itself_or_zero() {
        check([7], [7, 7, 7]);
        check([], [0, 0, 0]);
    }
}
