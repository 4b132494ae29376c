//! A row of the table: the same work by maqet and by the limit, and whether maqet meets the bar.

use std::fmt::{self, Write};
use std::time::Duration;

use super::summary::Summary;

/// How much longer than the limit maqet may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bar {
    /// A multiple of the limit.
    Times(f64),
    /// The limit and a number of milliseconds.
    Plus(u64),
    /// A multiple of the limit, and a number of milliseconds.
    TimesPlus(f64, u64),
    /// A number of milliseconds, whatever the limit takes.
    Within(u64),
}

impl Bar {
    /// Returns whether `ours` meets the bar if the limit takes `theirs`.
    fn is_met(self, ours: Duration, theirs: Duration) -> bool {
        match self {
            Self::Times(factor) => ours <= theirs.mul_f64(factor),
            Self::Plus(more) => ours <= theirs + Duration::from_millis(more),
            Self::TimesPlus(factor, more) => ours <= theirs.mul_f64(factor) + Duration::from_millis(more),
            Self::Within(most) => ours <= Duration::from_millis(most),
        }
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Times(factor) => write!(f, "≤ {} × limit", rounded(*factor)),
            Self::Plus(more) => write!(f, "≤ limit + {more} ms"),
            Self::TimesPlus(factor, more) => write!(f, "≤ {} × limit + {more} ms", rounded(*factor)),
            Self::Within(most) => write!(f, "≤ {most} ms"),
        }
    }
}

/// Returns a factor with as many digits as a bar needs.
fn rounded(factor: f64) -> f64 {
    (factor * 1e3).round() / 1e3
}

/// The result of a comparison.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) work: String,
    pub(crate) limit: &'static str,
    pub(crate) bar: Bar,
    pub(crate) ours: Summary,
    pub(crate) theirs: Summary,
}

impl Row {
    pub(crate) fn is_met(&self) -> bool {
        self.bar.is_met(self.ours.median, self.theirs.median)
    }

    /// Returns the cells in the order of [`HEAD`].
    fn cells(&self) -> [String; 8] {
        let (ours, theirs) = (milliseconds(self.ours.median), milliseconds(self.theirs.median));
        [
            self.work.clone(),
            self.limit.to_owned(),
            spread(self.ours),
            spread(self.theirs),
            format!("{:+.1}", ours - theirs),
            format!("{:.2}", ours / theirs),
            self.bar.to_string(),
            if self.is_met() { "met" } else { "**missed**" }.to_owned(),
        ]
    }
}

const HEAD: [&str; 8] = ["work", "limit", "maqet, ms", "limit, ms", "difference, ms", "ratio", "bar", ""];

/// Formats rows as an aligned Markdown table.
pub(crate) fn table(rows: &[Row]) -> String {
    let lines: Vec<[String; 8]> = std::iter::once(HEAD.map(str::to_owned)).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; 8] = std::array::from_fn(width);

    let rule = widths.map(|width| format!("{}|", "-".repeat(width + 2))).concat();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!(" {cell:width$} |"));
        // Writing into a `String` cannot fail.
        let _ = writeln!(text, "|{}", cells.collect::<String>());
        if number == 0 {
            let _ = writeln!(text, "|{rule}");
        }
    }
    text
}

fn spread(summary: Summary) -> String {
    let [median, p10, p90] = [summary.median, summary.p10, summary.p90].map(milliseconds);
    format!("{median:.1} ({p10:.1}–{p90:.1})")
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bar: Bar, ours: u64, theirs: u64, expected: bool) {
        assert_eq!(bar.is_met(Duration::from_millis(ours), Duration::from_millis(theirs)), expected, "{bar}");
    }

    #[test]
    fn test_bar_times_is_met_up_to_the_multiple() {
        check(Bar::Times(2.5), 25, 10, true);
        check(Bar::Times(2.5), 26, 10, false);
    }

    #[test]
    fn test_bar_plus_is_met_up_to_the_sum() {
        check(Bar::Plus(8), 18, 10, true);
        check(Bar::Plus(8), 19, 10, false);
    }

    #[test]
    fn test_bar_times_plus_is_met_up_to_the_sum() {
        check(Bar::TimesPlus(1.5, 15), 30, 10, true);
        check(Bar::TimesPlus(1.5, 15), 31, 10, false);
        assert_eq!(Bar::TimesPlus(1.5, 15).to_string(), "≤ 1.5 × limit + 15 ms");
        assert_eq!(Bar::Times(1.0 / 0.7).to_string(), "≤ 1.429 × limit");
    }

    #[test]
    fn test_bar_within_does_not_depend_on_the_limit() {
        check(Bar::Within(6), 6, 1, true);
        check(Bar::Within(6), 7, 100, false);
    }

    #[test]
    fn test_table_of_a_row_is_aligned_markdown() {
        let summary = |median| Summary {
            median: Duration::from_micros(median),
            p10: Duration::from_micros(median / 2),
            p90: Duration::from_micros(median * 2),
        };
        let row = Row {
            work: "`ls`".to_owned(),
            limit: "sqlite3",
            bar: Bar::Times(2.0),
            ours: summary(5_000),
            theirs: summary(2_000),
        };

        let table = table(&[row]);

        let last: Vec<&str> = table.lines().last().unwrap().split('|').map(str::trim).collect();
        assert_eq!(table.lines().count(), 3);
        let expected = ["", "`ls`", "sqlite3", "5.0 (2.5–10.0)", "2.0 (1.0–4.0)", "+3.0", "2.50", "≤ 2 × limit"];
        assert_eq!(last[..8], expected);
        assert_eq!(last[8..], ["**missed**", ""]);
    }
}
