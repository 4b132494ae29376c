//! A sign of life while something takes long.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle as BarStyle};
use maqet::ProgressStream;
use serde_json::json;

use super::sanitize::escape_control;

/// How a sign of life is shown where there is no terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProgressStyle {
    /// Not at all, on a terminal neither.
    None,
    /// A line of words.
    Words,
    /// A line of JSON.
    Json,
}

impl ProgressStyle {
    /// Returns the line for work that takes this long, and has done so many of so many keys if it can tell.
    fn line(self, what: &str, time: Duration, come: Option<(u64, u64)>) -> String {
        let seconds = time.as_secs();
        match (self, come) {
            (Self::Json, None) => json!({ "progress": { "doing": what, "seconds": seconds } }).to_string(),
            (Self::Json, Some((done, total))) => {
                let progress = json!({ "doing": what, "seconds": seconds, "done": done, "total": total });
                json!({ "progress": progress }).to_string()
            }
            (Self::None | Self::Words, None) => format!("{what}: still working after {seconds} s"),
            (Self::None | Self::Words, Some((done, total))) => format!("{what}: {done} of {total} keys"),
        }
    }
}

/// What takes less needs no sign of life.
const PATIENCE: Duration = Duration::from_millis(700);

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How often a spinner turns.
const TURN_EVERY: Duration = Duration::from_millis(100);

/// Waits for `work`, showing on standard error that it goes on: a spinner on a terminal, a line
/// every ten seconds elsewhere.
pub(crate) async fn shown<T>(signs: ProgressStyle, what: &str, work: impl Future<Output = T>) -> T {
    let what = &*escape_control(what);
    tokio::pin!(work);
    if signs == ProgressStyle::None {
        return work.await;
    }
    if let Ok(done) = tokio::time::timeout(PATIENCE, &mut work).await {
        return done;
    }
    if std::io::stderr().is_terminal() { with_spinner(what, work).await } else { with_lines(signs, what, work).await }
}

/// Does the same for work that tells how far it has come: a bar on a terminal, a line every ten seconds elsewhere.
pub(crate) async fn counted<T>(
    signs: ProgressStyle,
    what: &str,
    mut reports: ProgressStream,
    work: impl Future<Output = T>,
) -> T {
    let what = &*escape_control(what);
    tokio::pin!(work);
    if signs == ProgressStyle::None {
        return work.await;
    }
    let began = Instant::now();
    let is_terminal = std::io::stderr().is_terminal();
    let mut bar = None;
    let mut last_line = began;
    let done = loop {
        let report = tokio::select! {
            done = &mut work => break done,
            Some(report) = reports.next() => report,
        };
        if is_terminal && began.elapsed() >= PATIENCE {
            let bar = bar.get_or_insert_with(|| counting_bar(what, report.total.unwrap_or_default()));
            bar.set_position(report.done);
            bar.set_prefix(format!("{:#}", HumanDuration(report.eta().unwrap_or_default())));
        } else if !is_terminal && last_line.elapsed() >= LINE_EVERY {
            last_line = Instant::now();
            anstream::eprintln!(
                "{}",
                signs.line(what, began.elapsed(), report.total.map(|total| (report.done, total)))
            );
        }
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    done
}

fn counting_bar(what: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    if let Ok(style) = BarStyle::with_template("{msg} [{bar:30}] {pos}/{len} keys ({prefix} left)") {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}

async fn with_spinner<T>(what: &str, work: impl Future<Output = T>) -> T {
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = BarStyle::with_template("{spinner} {msg} ({elapsed})") {
        spinner.set_style(style);
    }
    spinner.set_message(what.to_owned());
    spinner.enable_steady_tick(TURN_EVERY);
    let done = work.await;
    spinner.finish_and_clear();
    done
}

async fn with_lines<T>(signs: ProgressStyle, what: &str, work: impl Future<Output = T>) -> T {
    let began = Instant::now();
    tokio::pin!(work);
    loop {
        match tokio::time::timeout(LINE_EVERY, &mut work).await {
            Ok(done) => return done,
            Err(_) => anstream::eprintln!("{}", signs.line(what, began.elapsed(), None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_line_of_signs_is_words_or_json() {
        let (what, time) = ("stopping `a\"b`", Duration::from_millis(10_900));
        let come = (3, 9);

        assert_eq!(ProgressStyle::Words.line(what, time, None), "stopping `a\"b`: still working after 10 s");
        assert_eq!(ProgressStyle::Words.line(what, time, Some(come)), "stopping `a\"b`: 3 of 9 keys");
        let read = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        assert_eq!(
            read(&ProgressStyle::Json.line(what, time, None)),
            json!({ "progress": { "doing": what, "seconds": 10 } })
        );
        assert_eq!(
            read(&ProgressStyle::Json.line(what, time, Some(come))),
            json!({ "progress": { "doing": what, "seconds": 10, "done": 3, "total": 9 } })
        );
    }
}
