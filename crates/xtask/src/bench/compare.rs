//! Measuring two ways to do the same work, alternately.

use std::io::{Read, Seek};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::row::{Bar, Row};
use super::summary::Summary;
use crate::failure::{Failure, OrFailure};
use crate::task::remark;
use crate::{Result, program};

/// Rounds that are not counted: they fill the caches of both sides.
const WARM_UP: usize = 2;

/// Two ways to do the same work.
#[derive(Debug)]
pub(crate) struct Comparison {
    pub(crate) work: String,
    pub(crate) limit: &'static str,
    pub(crate) bar: Bar,
    pub(crate) runs: usize,
}

impl Comparison {
    /// Runs both sides alternately, so that other load affects both, and summarizes.
    ///
    /// Each side gets the number of the round and returns the duration of its measured part.
    pub(crate) fn run(
        self,
        mut ours: impl FnMut(usize) -> Result<Duration>,
        mut theirs: impl FnMut(usize) -> Result<Duration>,
    ) -> Result<Row> {
        let mut rounds = Vec::new();
        for round in 0..WARM_UP + self.runs {
            rounds.push((ours(round)?, theirs(round)?));
        }
        let (ours, theirs) = rounds.split_off(WARM_UP).into_iter().unzip();
        let Self { work, limit, bar, .. } = self;
        let row = Row { work, limit, bar, ours: Summary::new(ours), theirs: Summary::new(theirs) };

        let [ours, theirs] = [row.ours, row.theirs].map(|side| side.median.as_secs_f64() * 1e3);
        let verdict = if row.is_met() { "met" } else { "MISSED" };
        remark(&format!("{}: {ours:.1} ms against {theirs:.1} ms of {}, {verdict}", row.work, row.limit));
        Ok(row)
    }
}

/// Runs a command, reads all of its output, and returns the duration.
pub(crate) fn timed(command: Command) -> Result<Duration> {
    let (took, _) = output(command)?;
    Ok(took)
}

/// Runs a command and returns the duration and the output.
pub(crate) fn output(command: Command) -> Result<(Duration, String)> {
    output_with_code(command, 0)
}

/// Like [`output`], for a command that is expected to exit with `code`.
pub(crate) fn output_with_code(mut command: Command, code: i32) -> Result<(Duration, String)> {
    let shown = program::shown(&command);
    let what = || format!("cannot run `{shown}`");
    // A file needs no reader while the command runs, a pipe would.
    let mut errors = tempfile::tempfile().or_failure(what)?;
    let copy = errors.try_clone().or_failure(what)?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(copy);
    let mut stdout = Vec::new();

    let began = Instant::now();
    let mut child = command.spawn().or_failure(what)?;
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut stdout).or_failure(what)?;
    }
    let status = child.wait().or_failure(what)?;
    let took = began.elapsed();

    if status.code() != Some(code) {
        let mut stderr = String::new();
        errors.rewind().and_then(|()| errors.read_to_string(&mut stderr)).or_failure(what)?;
        return Err(Failure::new(format!("`{shown}` failed with {status}")).because(stderr.trim().to_owned()));
    }
    Ok((took, String::from_utf8_lossy(&stdout).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn test_run_sides_alternate_and_warm_up_is_not_counted() {
        let turns = RefCell::new(String::new());
        let comparison = Comparison { work: "x".to_owned(), limit: "y", bar: Bar::Times(1.0), runs: 1 };
        let side = |name, last| {
            let turns = &turns;
            move |round| {
                turns.borrow_mut().push(name);
                Ok(Duration::from_secs(if round < WARM_UP { 100 } else { last }))
            }
        };

        let row = comparison.run(side('o', 1), side('t', 2)).unwrap();

        assert_eq!(turns.into_inner(), "ototot");
        assert_eq!([row.ours.median, row.theirs.median].map(|median| median.as_secs()), [1, 2]);
    }

    #[test]
    fn test_timed_failing_command_reports_its_stderr() {
        let mut command = program::command("sh");
        command.args(["-c", "echo why >&2; exit 3"]);

        let failure = timed(command).unwrap_err();

        assert_eq!(std::error::Error::source(&failure).unwrap().to_string(), "why");
    }

    #[test]
    fn test_output_with_code_only_the_expected_code_is_success() {
        let is_expected = |code: &str| {
            let mut command = program::command("sh");
            command.args(["-c", &format!("exit {code}")]);
            output_with_code(command, 2).is_ok()
        };

        assert!(is_expected("2"));
        assert!(!is_expected("0") && !is_expected("3"));
    }

    #[test]
    fn test_output_longer_than_a_pipe_is_read_completely() {
        let mut command = program::command("head");
        command.args(["-c", "300000", "/dev/zero"]);

        assert_eq!(output(command).unwrap().1.len(), 300_000);
    }
}
