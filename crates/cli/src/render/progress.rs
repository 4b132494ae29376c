//! Progress on standard error while an operation takes long.

use std::cell::Cell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle as BarStyle};
use maqet::ProgressStream;
use serde_json::json;

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
    /// Returns the line for an operation that has taken `time`; `keys` are done and in total.
    fn line(self, message: &str, time: Duration, keys: Option<(u64, u64)>) -> String {
        let seconds = time.as_secs();
        match (self, keys) {
            (Self::Json, None) => json!({ "progress": { "message": message, "seconds": seconds } }).to_string(),
            (Self::Json, Some((done, total))) => {
                let progress = json!({ "message": message, "seconds": seconds, "done": done, "total": total });
                json!({ "progress": progress }).to_string()
            }
            (Self::Hidden | Self::Text, None) => format!("{message}: still working after {seconds} s"),
            (Self::Hidden | Self::Text, Some((done, total))) => format!("{message}: {done} of {total} keys"),
        }
    }
}

/// An operation that takes less shows no progress.
const DELAY: Duration = Duration::from_millis(700);

/// How often a line is written where standard error is not a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// How often the spinner moves.
const SPINNER_INTERVAL: Duration = Duration::from_millis(100);

/// Waits for `work` and shows a spinner on a terminal, a line every ten seconds elsewhere.
pub(super) async fn show<T>(style: ProgressStyle, message: &str, work: impl Future<Output = T>) -> T {
    let message = &*escape_control(message);
    tokio::pin!(work);
    if style == ProgressStyle::Hidden {
        return work.await;
    }
    let began = Instant::now();
    if let Ok(done) = tokio::time::timeout(DELAY, &mut work).await {
        return done;
    }
    if std::io::stderr().is_terminal() {
        let spinner = spinner(message);
        let done = work.await;
        spinner.finish_and_clear();
        return done;
    }
    loop {
        match tokio::time::timeout(LINE_INTERVAL, &mut work).await {
            Ok(done) => return done,
            Err(_) => anstream::eprintln!("{}", style.line(message, began.elapsed(), None)),
        }
    }
}

/// Waits for `work`, which presses keys, and shows a bar on a terminal, a line every ten seconds elsewhere.
pub(super) async fn show_keys<T>(
    style: ProgressStyle,
    message: &str,
    mut reports: ProgressStream,
    keys: &Cell<Option<(u64, u64)>>,
    work: impl Future<Output = T>,
) -> T {
    let message = &*escape_control(message);
    tokio::pin!(work);
    let began = Instant::now();
    let is_terminal = std::io::stderr().is_terminal();
    let mut bar = None;
    let mut last_line = began;
    let done = loop {
        let report = tokio::select! {
            done = &mut work => break done,
            Some(report) = reports.next() => report,
        };
        keys.set(report.total.map(|total| (report.done, total)));
        if style == ProgressStyle::Hidden {
            continue;
        }
        if is_terminal && began.elapsed() >= DELAY {
            let bar = bar.get_or_insert_with(|| key_bar(message, report.total.unwrap_or_default()));
            bar.set_position(report.done);
            bar.set_prefix(format!("{:#}", HumanDuration(report.eta().unwrap_or_default())));
        } else if !is_terminal && last_line.elapsed() >= LINE_INTERVAL {
            last_line = Instant::now();
            anstream::eprintln!("{}", style.line(message, began.elapsed(), keys.get()));
        }
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    done
}

fn key_bar(message: &str, total: u64) -> ProgressBar {
    styled(ProgressBar::new(total), "{msg} [{bar:30}] {pos}/{len} keys ({prefix} left)", message)
}

fn spinner(message: &str) -> ProgressBar {
    let spinner = styled(ProgressBar::new_spinner(), "{spinner} {msg} ({elapsed})", message);
    spinner.enable_steady_tick(SPINNER_INTERVAL);
    spinner
}

fn styled(bar: ProgressBar, template: &str, message: &str) -> ProgressBar {
    let bar = bar.with_message(message.to_owned());
    match BarStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_progress_line_is_text_or_json() {
        let (message, time) = ("stopping `a\"b`", Duration::from_millis(10_900));
        let keys = Some((3, 9));

        assert_eq!(ProgressStyle::Text.line(message, time, None), "stopping `a\"b`: still working after 10 s");
        assert_eq!(ProgressStyle::Text.line(message, time, keys), "stopping `a\"b`: 3 of 9 keys");
        let json = |keys| ProgressStyle::Json.line(message, time, keys).parse::<serde_json::Value>().unwrap();
        assert_eq!(json(None), json!({ "progress": { "message": message, "seconds": 10 } }));
        assert_eq!(json(keys), json!({ "progress": { "message": message, "seconds": 10, "done": 3, "total": 9 } }));
    }
}
