//! Measuring two ways to do the same work, by turns.

use std::io::{Read, Seek};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::row::{Bar, Row};
use super::summary::Summary;
use crate::chore::remark;
use crate::failure::{Failure, OrFailure};
use crate::{Result, program};

/// Rounds that are run and not counted: they fill the page cache and the caches of both sides.
const WARM_UP: usize = 2;

/// Two ways to do the same work.
#[derive(Debug)]
pub(crate) struct Race {
    pub(crate) work: String,
    pub(crate) limit: &'static str,
    pub(crate) bar: Bar,
    pub(crate) runs: usize,
}

impl Race {
    /// Runs both sides by turns, so that what else the machine does meets both, and sums up.
    ///
    /// Each side is told the number of the round and returns how long the measured part of it took.
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
        let row = Row { work, limit, bar, ours: Summary::of(ours), theirs: Summary::of(theirs) };

        let [ours, theirs] = [row.ours, row.theirs].map(|side| side.median.as_secs_f64() * 1e3);
        let verdict = if row.is_met() { "met" } else { "MISSED" };
        remark(&format!("{}: {ours:.1} ms against {theirs:.1} ms of {}, {verdict}", row.work, row.limit));
        Ok(row)
    }
}

/// Runs a command to its end, reading all it prints, and returns how long that took.
pub(crate) fn timed(command: Command) -> Result<Duration> {
    let (took, _) = told(command)?;
    Ok(took)
}

/// Runs a command to its end and returns how long that took and what it printed.
pub(crate) fn told(command: Command) -> Result<(Duration, String)> {
    ended(command, 0)
}

/// Does the same with a command that is to end with `code`.
pub(crate) fn ended(mut command: Command, code: i32) -> Result<(Duration, String)> {
    let shown = program::shown(&command);
    let what = || format!("cannot run `{shown}`");
    // A file and not a pipe: nobody has to read it meanwhile.
    let mut errors = tempfile::tempfile().or_failure(what)?;
    let copy = errors.try_clone().or_failure(what)?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(copy);
    let mut output = Vec::new();

    let began = Instant::now();
    let mut child = command.spawn().or_failure(what)?;
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut output).or_failure(what)?;
    }
    let status = child.wait().or_failure(what)?;
    let took = began.elapsed();

    if status.code() != Some(code) {
        let mut said = String::new();
        errors.rewind().and_then(|()| errors.read_to_string(&mut said)).or_failure(what)?;
        return Err(Failure::new(format!("`{shown}` ended with {status}")).because(said.trim().to_owned()));
    }
    Ok((took, String::from_utf8_lossy(&output).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn test_run_sides_take_turns_and_the_warm_up_does_not_count() {
        let turns = RefCell::new(String::new());
        let race = Race { work: "x".to_owned(), limit: "y", bar: Bar::Times(1.0), runs: 1 };
        let side = |name, last| {
            let turns = &turns;
            move |round| {
                turns.borrow_mut().push(name);
                Ok(Duration::from_secs(if round < WARM_UP { 100 } else { last }))
            }
        };

        let row = race.run(side('o', 1), side('t', 2)).unwrap();

        assert_eq!(turns.into_inner(), "ototot");
        assert_eq!([row.ours.median, row.theirs.median].map(|median| median.as_secs()), [1, 2]);
    }

    #[test]
    fn test_timed_failing_command_tells_what_it_said() {
        let mut command = program::command("sh");
        command.args(["-c", "echo why >&2; exit 3"]);

        let failure = timed(command).unwrap_err();

        assert_eq!(std::error::Error::source(&failure).unwrap().to_string(), "why");
    }

    #[test]
    fn test_ended_with_the_code_that_is_due_is_no_failure() {
        let ends = |code: &str| {
            let mut command = program::command("sh");
            command.args(["-c", &format!("exit {code}")]);
            ended(command, 2).is_ok()
        };

        assert!(ends("2"));
        assert!(!ends("0") && !ends("3"));
    }

    #[test]
    fn test_told_more_than_a_pipe_holds_is_read_whole() {
        let mut command = program::command("head");
        command.args(["-c", "300000", "/dev/zero"]);

        assert_eq!(told(command).unwrap().1.len(), 300_000);
    }
}
