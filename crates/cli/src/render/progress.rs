//! Progress on standard error while an operation takes long.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{BinaryBytes, HumanDuration, ProgressBar, ProgressStyle as BarStyle};
use maqet::{Progress, ProgressStream, ProgressUnit};
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::sanitize::escape_control;

/// How progress is shown where standard error is not a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProgressStyle {
    /// Not at all, on a terminal neither.
    Hidden,
    /// As lines of text.
    Text,
    /// As lines of JSON.
    Json,
}

impl ProgressStyle {
    /// Returns the line for an operation that has taken `time`.
    fn line(self, message: &str, time: Duration, amount: Option<Amount>) -> String {
        let seconds = time.as_secs();
        match (self, amount) {
            (Self::Json, None) => json!({ "progress": { "message": message, "seconds": seconds } }).to_string(),
            (Self::Json, Some(Amount { unit, done, total, .. })) => {
                let unit = unit.to_string();
                let progress =
                    json!({ "message": message, "seconds": seconds, "done": done, "total": total, "unit": unit });
                json!({ "progress": progress }).to_string()
            }
            (Self::Hidden | Self::Text, None) => format!("{message}: still working after {seconds} s"),
            (Self::Hidden | Self::Text, Some(amount)) => format!("{message}: {amount}"),
        }
    }
}

/// How much of the work is done.
#[derive(Debug, Clone, Copy)]
struct Amount {
    unit: ProgressUnit,
    done: u64,
    total: u64,
    /// An estimate of the time until the end.
    left: Option<Duration>,
}

impl Amount {
    /// Returns the amount of a job; `None` if its total is not known, or it is a single step.
    fn from_report(report: &Progress) -> Option<Self> {
        let total = report.total.filter(|&total| total > 1)?;
        Some(Self { unit: report.unit, done: report.done, total, left: report.eta() })
    }

    /// Adds the amount of another job, which has the same unit, as one command runs them.
    fn add(self, other: Self) -> Self {
        let (done, total) = (self.done.saturating_add(other.done), self.total.saturating_add(other.total));
        Self { unit: self.unit, done, total, left: self.left.max(other.left) }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            ProgressUnit::Bytes => write!(f, "{} of {}", BinaryBytes(self.done), BinaryBytes(self.total)),
            unit => write!(f, "{} of {} {unit}", self.done, self.total),
        }
    }
}

/// What was shown of the progress.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// How much of the last work was done, as in `3 of 9 keys`.
    pub(super) done: RefCell<Option<String>>,
    /// What is on the terminal.
    bar: RefCell<Option<ProgressBar>>,
}

impl Shown {
    /// Removes the spinner or bar from the terminal, whose line is free then.
    pub(super) fn clear(&self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// An operation that takes less shows no progress.
const DELAY: Duration = Duration::from_millis(700);

/// How often a line is written where standard error is not a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// How often the spinner moves.
const SPINNER_INTERVAL: Duration = Duration::from_millis(100);

/// Waits for `work` and shows a spinner or a bar on a terminal, a line every ten seconds elsewhere.
///
/// `shown` becomes how much is done according to the `reports`, and what is on the terminal.
pub(super) async fn show<T>(
    style: ProgressStyle,
    message: &str,
    mut reports: ProgressStream,
    shown: &Shown,
    work: impl Future<Output = T>,
) -> T {
    let message = &*escape_control(message);
    tokio::pin!(work);
    let began = Instant::now();
    let is_terminal = std::io::stderr().is_terminal();
    let mut shown_next = began + if is_terminal { DELAY } else { LINE_INTERVAL };
    let (mut jobs, mut amount) = (BTreeMap::new(), None);
    let mut bar: Option<ProgressBar> = None;
    let output = loop {
        tokio::select! {
            biased;
            output = &mut work => break output,
            Some(report) = reports.next() => {
                let Some(of_job) = Amount::from_report(&report) else { continue };
                jobs.insert(report.job.id, of_job);
                amount = jobs.values().copied().reduce(Amount::add);
                shown.done.replace(amount.map(|amount| amount.to_string()));
            }
            () = sleep_until(shown_next), if bar.is_none() && style != ProgressStyle::Hidden => {
                if is_terminal {
                    bar = Some(spinner(message));
                    shown.bar.replace(bar.clone());
                } else {
                    anstream::eprintln!("{}", style.line(message, began.elapsed(), amount));
                    shown_next += LINE_INTERVAL;
                }
            }
        }
        if let (Some(bar), Some(amount)) = (&bar, amount) {
            show_amount(bar, amount);
        }
    };
    shown.clear();
    output
}

fn spinner(message: &str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = BarStyle::with_template("{spinner} {msg} ({elapsed})") {
        spinner.set_style(style);
    }
    spinner.set_message(message.to_owned());
    spinner.enable_steady_tick(SPINNER_INTERVAL);
    spinner
}

/// Shows an amount; a spinner becomes a bar.
fn show_amount(bar: &ProgressBar, amount: Amount) {
    if bar.length().is_none()
        && let Ok(style) = BarStyle::with_template("{msg} [{bar:30}] {prefix}")
    {
        bar.set_style(style);
    }
    bar.set_length(amount.total);
    bar.set_position(amount.done);
    bar.set_prefix(match amount.left {
        Some(left) => format!("{amount} ({:#} left)", HumanDuration(left)),
        None => amount.to_string(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(unit: ProgressUnit, done: u64, total: u64) -> Amount {
        Amount { unit, done, total, left: None }
    }

    #[test]
    fn test_progress_line_is_text_or_json() {
        let (message, time) = ("stopping `a\"b`", Duration::from_millis(10_900));
        let keys = Some(amount(ProgressUnit::Keys, 3, 9));

        assert_eq!(ProgressStyle::Text.line(message, time, None), "stopping `a\"b`: still working after 10 s");
        assert_eq!(ProgressStyle::Text.line(message, time, keys), "stopping `a\"b`: 3 of 9 keys");
        let json = |keys| ProgressStyle::Json.line(message, time, keys).parse::<serde_json::Value>().unwrap();
        assert_eq!(json(None), json!({ "progress": { "message": message, "seconds": 10 } }));
        let progress = json!({ "message": message, "seconds": 10, "done": 3, "total": 9, "unit": "keys" });
        assert_eq!(json(keys), json!({ "progress": progress }));
    }

    #[test]
    fn test_amount_has_the_unit_of_its_jobs() {
        let bytes = amount(ProgressUnit::Bytes, 1 << 20, 1 << 30);
        let (first, second) = (amount(ProgressUnit::Conditions, 1, 2), amount(ProgressUnit::Conditions, 0, 3));

        assert_eq!(bytes.to_string(), "1.00 MiB of 1.00 GiB");
        assert_eq!(first.add(second).to_string(), "1 of 5 conditions");
    }

    #[test]
    fn test_show_amount_turns_the_spinner_into_a_bar() {
        let bar = ProgressBar::hidden();
        bar.unset_length();
        let left = Some(Duration::from_secs(4));

        show_amount(&bar, Amount { left, ..amount(ProgressUnit::Keys, 3, 9) });

        assert_eq!((bar.position(), bar.length(), bar.prefix()), (3, Some(9), "3 of 9 keys (4s left)".to_owned()));
    }
}
