//! What is kept of many measurements of one thing.

use std::time::Duration;

/// The middle of the measurements and where the outer tenths begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) median: Duration,
    pub(crate) p10: Duration,
    pub(crate) p90: Duration,
}

impl Summary {
    /// Sums up `samples`; all zero when there are none.
    pub(crate) fn of(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        let at = |percent| quantile(&samples, percent);
        Self { median: at(50), p10: at(10), p90: at(90) }
    }
}

/// Returns the sample below which `percent` of the others lie, the nearer one where there is none exactly.
fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last * percent + 50) / 100).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(milliseconds: impl IntoIterator<Item = u64>, expected: [u64; 3]) {
        let summary = Summary::of(milliseconds.into_iter().map(Duration::from_millis).collect());

        let found = [summary.p10, summary.median, summary.p90].map(|duration| duration.as_millis());
        assert_eq!(found, expected.map(u128::from));
    }

    #[test]
    fn test_summary_any_order_is_sorted_first() {
        check((0..=20).rev(), [2, 10, 18]);
    }

    #[test]
    fn test_summary_one_outlier_moves_no_median() {
        check([3, 2, 1, 9_000, 2], [1, 2, 9_000]);
    }

    #[test]
    fn test_summary_few_samples_are_all_there_is() {
        check([7], [7, 7, 7]);
        check([], [0, 0, 0]);
    }
}
