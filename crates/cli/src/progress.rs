//! A sign of life while something takes long.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::render::printable::printable;

/// What takes less needs no sign of life.
const PATIENCE: Duration = Duration::from_millis(700);

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How often a spinner turns.
const TURN_EVERY: Duration = Duration::from_millis(100);

/// Waits for `work`, showing on standard error that it goes on: a spinner on a terminal, a line
/// every ten seconds elsewhere.
pub(crate) async fn shown<T>(shows: bool, what: &str, work: impl Future<Output = T>) -> T {
    let what = &*printable(what);
    tokio::pin!(work);
    if !shows {
        return work.await;
    }
    if let Ok(done) = tokio::time::timeout(PATIENCE, &mut work).await {
        return done;
    }
    if std::io::stderr().is_terminal() { with_spinner(what, work).await } else { with_lines(what, work).await }
}

async fn with_spinner<T>(what: &str, work: impl Future<Output = T>) -> T {
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        spinner.set_style(style);
    }
    spinner.set_message(what.to_owned());
    spinner.enable_steady_tick(TURN_EVERY);
    let done = work.await;
    spinner.finish_and_clear();
    done
}

async fn with_lines<T>(what: &str, work: impl Future<Output = T>) -> T {
    let began = Instant::now();
    tokio::pin!(work);
    loop {
        match tokio::time::timeout(LINE_EVERY, &mut work).await {
            Ok(done) => return done,
            Err(_) => anstream::eprintln!("{what}: still working after {} s", began.elapsed().as_secs()),
        }
    }
}
