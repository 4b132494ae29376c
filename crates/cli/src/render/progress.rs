//! Progress on standard error while an operation takes long.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::io::IsTerminal;
use std::pin::Pin;
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
    fn line(self, message: &str, time: Duration, state: &State) -> String {
        let seconds = time.as_secs();
        match self {
            Self::Json => {
                let mut progress = json!({ "message": message, "seconds": seconds });
                if let Some(stage) = &state.stage {
                    progress["stage"] = json!(stage);
                }
                if let Some(amount) = state.amount {
                    amount.add_to(&mut progress);
                }
                json!({ "progress": progress }).to_string()
            }
            Self::Hidden | Self::Text => match state.amount {
                Some(amount) => format!("{}: {amount}", state.of(message)),
                None => format!("{}: still working after {seconds} s", state.of(message)),
            },
        }
    }
}

/// How far the jobs of a command are.
#[derive(Debug, Clone, Default)]
struct State {
    /// What the last one that reported does at the moment.
    stage: Option<String>,
    amount: Option<Amount>,
}

impl State {
    fn of(&self, message: &str) -> String {
        match &self.stage {
            Some(stage) => format!("{message}: {}", escape_control(stage)),
            None => message.to_owned(),
        }
    }
}

/// How much of the work is done.
#[derive(Debug, Clone, Copy)]
struct Amount {
    unit: ProgressUnit,
    done: u64,
    total: Option<u64>,
    /// An estimate of the time until the end.
    left: Option<Duration>,
    /// How much is done in a second.
    rate: Option<f64>,
}

impl Amount {
    /// Returns the amount of a job; `None` if it is a single step, or only its time is known.
    fn from_report(report: &Progress) -> Option<Self> {
        let is_known = match report.total {
            Some(total) => total > 1,
            None => report.unit != ProgressUnit::Seconds,
        };
        let amount = Self {
            unit: report.unit,
            done: report.done,
            total: report.total,
            left: report.eta(),
            rate: report.rate().filter(|_| report.unit == ProgressUnit::Bytes),
        };
        is_known.then_some(amount)
    }

    /// Adds the amount of another job, which has the same unit, as one command runs them.
    fn add(self, other: Self) -> Self {
        let sum = |one: Option<u64>, other: Option<u64>| Some(one?.saturating_add(other?));
        Self {
            unit: self.unit,
            done: self.done.saturating_add(other.done),
            total: sum(self.total, other.total),
            left: self.left.max(other.left),
            rate: self.rate.zip(other.rate).map(|(one, other)| one + other),
        }
    }

    /// Adds its fields to a line of JSON.
    fn add_to(self, progress: &mut serde_json::Value) {
        progress["done"] = json!(self.done);
        progress["total"] = json!(self.total);
        progress["unit"] = json!(self.unit.to_string());
        if let Some(rate) = self.rate {
            progress["per_second"] = json!(whole(rate));
        }
        if let Some(left) = self.left {
            progress["seconds_left"] = json!(left.as_secs());
        }
    }
}

/// Returns a rate without its fraction.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate, and never negative")]
fn whole(rate: f64) -> u64 {
    rate as u64
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.unit, self.total) {
            (ProgressUnit::Bytes, Some(total)) => write!(f, "{} of {}", BinaryBytes(self.done), BinaryBytes(total))?,
            (ProgressUnit::Bytes, None) => write!(f, "{}", BinaryBytes(self.done))?,
            (unit, Some(total)) => write!(f, "{} of {total} {unit}", self.done)?,
            (unit, None) => write!(f, "{} {unit}", self.done)?,
        }
        self.rate.map_or(Ok(()), |rate| write!(f, ", {}/s", BinaryBytes(whole(rate))))
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

/// How often a line of JSON is written while bytes are counted: a program shows them, and no person reads the lines.
const JSON_INTERVAL: Duration = Duration::from_millis(400);

/// How often the spinner moves.
const SPINNER_INTERVAL: Duration = Duration::from_millis(100);

/// Waits for `work` and shows a spinner or a bar on a terminal, and elsewhere a line every ten seconds, or more often as
/// JSON while bytes are counted.
///
/// `shown` becomes how much is done according to the `reports`, and what is on the terminal.
pub(super) async fn show(
    style: ProgressStyle,
    message: &str,
    mut reports: ProgressStream,
    shown: &Shown,
    mut work: Pin<&mut dyn Future<Output = ()>>,
) {
    let message = &*escape_control(message);
    let began = Instant::now();
    let is_terminal = std::io::stderr().is_terminal();
    let mut last_shown = began;
    let mut shown_next = began + if is_terminal { DELAY } else { LINE_INTERVAL };
    let (mut jobs, mut state) = (BTreeMap::new(), State::default());
    let mut bar: Option<ProgressBar> = None;
    loop {
        tokio::select! {
            biased;
            () = &mut work => break,
            Some(report) = reports.next() => {
                if let Some(of_job) = Amount::from_report(&report) {
                    jobs.insert(report.job.id, of_job);
                } else if report.stage != state.stage {
                    // What was done before belongs to another stage.
                    jobs.remove(&report.job.id);
                }
                state = State { stage: report.stage, amount: jobs.values().copied().reduce(Amount::add) };
                shown.done.replace(state.amount.map(|amount| amount.to_string()));
                let counts_bytes = state.amount.is_some_and(|amount| amount.unit == ProgressUnit::Bytes);
                if counts_bytes && style == ProgressStyle::Json && !is_terminal {
                    shown_next = shown_next.min(last_shown + JSON_INTERVAL);
                }
                // Work that reports often and yields in between would be polled again at once, and signals be noticed
                // after hundreds of its steps.
                tokio::task::yield_now().await;
            }
            () = sleep_until(shown_next), if bar.is_none() && style != ProgressStyle::Hidden => {
                if is_terminal {
                    bar = Some(spinner(message));
                    shown.bar.replace(bar.clone());
                } else {
                    anstream::eprintln!("{}", style.line(message, began.elapsed(), &state));
                    last_shown = Instant::now();
                    shown_next = last_shown + LINE_INTERVAL;
                }
            }
        }
        if let Some(bar) = &bar {
            show_state(bar, message, &state);
        }
    }
    shown.clear();
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

/// Shows how far an operation is; a spinner becomes a bar once a total is known.
fn show_state(bar: &ProgressBar, message: &str, state: &State) {
    bar.set_message(state.of(message));
    let Some(amount) = state.amount else { return };
    let Some(total) = amount.total else {
        bar.set_message(format!("{}: {amount}", state.of(message)));
        return;
    };
    if bar.length().is_none()
        && let Ok(style) = BarStyle::with_template("{msg} [{bar:30}] {prefix}")
    {
        bar.set_style(style);
    }
    bar.set_length(total);
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
        Amount { unit, done, total: Some(total), left: None, rate: None }
    }

    fn state(amount: Option<Amount>) -> State {
        State { stage: None, amount }
    }

    #[test]
    fn test_progress_line_is_text_or_json() {
        let (message, time) = ("stopping `a\"b`", Duration::from_millis(10_900));
        let none = state(None);
        let keys = state(Some(amount(ProgressUnit::Keys, 3, 9)));

        assert_eq!(ProgressStyle::Text.line(message, time, &none), "stopping `a\"b`: still working after 10 s");
        assert_eq!(ProgressStyle::Text.line(message, time, &keys), "stopping `a\"b`: 3 of 9 keys");
        let json = |state| ProgressStyle::Json.line(message, time, state).parse::<serde_json::Value>().unwrap();
        assert_eq!(json(&none), json!({ "progress": { "message": message, "seconds": 10 } }));
        let progress = json!({ "message": message, "seconds": 10, "done": 3, "total": 9, "unit": "keys" });
        assert_eq!(json(&keys), json!({ "progress": progress }));
    }

    #[test]
    fn test_progress_line_has_stage_rate_and_time_left() {
        let (left, rate) = (Some(Duration::from_secs(4)), Some(2_097_152.5));
        let bytes = Amount { left, rate, total: None, ..amount(ProgressUnit::Bytes, 1 << 20, 0) };
        let saving = State { stage: Some("saving memory".to_owned()), amount: Some(bytes) };
        let time = Duration::from_secs(1);

        let text = ProgressStyle::Text.line("creating `s`", time, &saving);
        let json: serde_json::Value = ProgressStyle::Json.line("creating `s`", time, &saving).parse().unwrap();

        assert_eq!(text, "creating `s`: saving memory: 1.00 MiB, 2.00 MiB/s");
        let expected = json!({
            "message": "creating `s`", "seconds": 1, "stage": "saving memory", "done": 1_048_576, "total": null,
            "unit": "bytes", "per_second": 2_097_152, "seconds_left": 4,
        });
        assert_eq!(json["progress"], expected);
    }

    #[test]
    fn test_amount_has_the_unit_of_its_jobs() {
        let bytes = amount(ProgressUnit::Bytes, 1 << 20, 1 << 30);
        let (first, second) = (amount(ProgressUnit::Conditions, 1, 2), amount(ProgressUnit::Conditions, 0, 3));

        assert_eq!(bytes.to_string(), "1.00 MiB of 1.00 GiB");
        assert_eq!(first.add(second).to_string(), "1 of 5 conditions");
    }

    #[test]
    fn test_show_state_turns_the_spinner_into_a_bar() {
        let bar = ProgressBar::hidden();
        bar.unset_length();
        let left = Some(Duration::from_secs(4));

        show_state(&bar, "typing", &state(Some(Amount { left, ..amount(ProgressUnit::Keys, 3, 9) })));

        assert_eq!((bar.position(), bar.length(), bar.prefix()), (3, Some(9), "3 of 9 keys (4s left)".to_owned()));
    }
}
