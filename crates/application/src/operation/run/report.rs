//! Runs as test cases, in the XML that CI systems read as `JUnit`'s.

use std::fmt::Write;
use std::time::Duration;

use super::{RunOutcome, RunResult};
use crate::report::ErrorReport;

/// A run as a test case.
#[derive(Debug)]
#[non_exhaustive]
pub struct TestCase {
    /// Its name.
    pub name: String,
    /// What became of it, or why it was not begun.
    pub result: Result<RunResult, ErrorReport>,
}

impl TestCase {
    /// Makes a test case of a run.
    pub fn new(name: impl Into<String>, result: Result<RunResult, ErrorReport>) -> Self {
        Self { name: name.into(), result }
    }

    /// Returns whether the command exited with 0.
    pub fn has_passed(&self) -> bool {
        !self.is_error() && self.result.as_ref().is_ok_and(|result| result.exit_code == 0)
    }

    /// Returns whether nothing is known of what the command says: the VM did not boot, for example.
    pub fn is_error(&self) -> bool {
        !self.result.as_ref().is_ok_and(RunResult::is_verdict)
    }

    fn duration(&self) -> Duration {
        let steps = self.result.as_ref().map(|result| result.steps.iter().map(|step| step.duration_ms).sum());
        Duration::from_millis(steps.unwrap_or_default())
    }

    /// Returns what went wrong: its kind, a line about it, and more.
    fn problem(&self) -> Option<(String, String, String)> {
        let described = |report: &ErrorReport| {
            let more = report.causes.iter().chain(&report.hints).cloned().collect::<Vec<_>>().join("\n");
            (report.code.to_owned(), report.message.clone(), more)
        };
        match &self.result {
            Err(report) | Ok(RunResult { error: Some(report), .. }) => Some(described(report)),
            Ok(_) if self.has_passed() => None,
            Ok(result) => {
                let line = match (result.outcome, result.signal) {
                    (RunOutcome::Signalled, Some(signal)) => format!("the command was killed by signal {signal}"),
                    (RunOutcome::TimedOut, _) => "the command timed out".to_owned(),
                    (RunOutcome::VmEnded, _) => "the VM ended under the command".to_owned(),
                    (RunOutcome::Interrupted, _) => "interrupted".to_owned(),
                    (_, _) => format!("the command exited with {}", result.exit_code),
                };
                let more = result.reason.iter().chain(&result.serial).cloned().collect::<Vec<_>>().join("\n");
                Some((result.outcome.to_string(), line, more))
            }
        }
    }
}

/// Returns a document of test cases, in the form of `JUnit`.
///
/// A case of which nothing is known is an error, one whose command failed a failure.
pub fn junit(cases: &[TestCase]) -> String {
    let count = |is: fn(&TestCase) -> bool| cases.iter().filter(|case| is(case)).count();
    let failures = count(|case| !case.has_passed() && !case.is_error());
    let errors = count(TestCase::is_error);
    let seconds = |duration: Duration| format!("{:.3}", duration.as_secs_f64());
    let total = seconds(cases.iter().map(TestCase::duration).sum());
    let counts = format!("tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\" time=\"{total}\"", cases.len());
    let mut document = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n  <testsuite name=\"maqet run\" {counts}>\n"
    );
    for case in cases {
        let (name, time) = (escaped(&case.name), seconds(case.duration()));
        // Writing to a string cannot fail.
        let _ = writeln!(document, "    <testcase classname=\"maqet.run\" name=\"{name}\" time=\"{time}\">");
        if let Some((kind, line, more)) = case.problem() {
            let element = if case.is_error() { "error" } else { "failure" };
            let (kind, line, more) = (escaped(&kind), escaped(&line), escaped(&more));
            let _ = writeln!(document, "      <{element} type=\"{kind}\" message=\"{line}\">{more}</{element}>");
        }
        if let Ok(result) = &case.result {
            for (element, text) in ["system-out", "system-err"].iter().zip(&result.output) {
                if !text.is_empty() {
                    let _ = writeln!(document, "      <{element}>{}</{element}>", escaped(text));
                }
            }
        }
        document.push_str("    </testcase>\n");
    }
    document.push_str("  </testsuite>\n</testsuites>\n");
    document
}

/// Returns a text for XML; characters that XML 1.0 cannot have are replaced.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\t' => escaped.push_str("&#9;"),
            '\r' => {}
            letter if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use maqet_domain::error::{Explanation, Fault};

    use super::super::{RunPhase, RunStep};
    use super::*;

    fn result(outcome: RunOutcome, exit_code: u8) -> RunResult {
        RunResult {
            id: "i".to_owned(),
            name: "n".to_owned(),
            exit_code,
            signal: None,
            outcome,
            phase: RunPhase::Command,
            reason: None,
            error: None,
            stage: None,
            serial: Vec::new(),
            template: None,
            rebuilt: None,
            steps: vec![RunStep { phase: RunPhase::Boot, duration_ms: 1_500 }],
            command: None,
            copied: Vec::new(),
            collected: Vec::new(),
            kept: false,
            not_removed: None,
            warnings: Vec::new(),
            is_interrupted: false,
            output: Default::default(),
        }
    }

    #[test]
    fn test_interrupted_case_is_an_error_whatever_its_code() {
        let case = TestCase::new("a", Ok(result(RunOutcome::Interrupted, 0)));

        let document = junit(std::slice::from_ref(&case));

        assert!(!case.has_passed());
        assert!(document.contains("errors=\"1\"") && document.contains("<error type=\"interrupted\""), "{document}");
    }

    #[test]
    fn test_junit_tells_failures_from_errors() {
        let mut failed = result(RunOutcome::Exited, 3);
        failed.output = ["1 < 2\u{1b}[m".to_owned(), String::new()];
        let mut ended = result(RunOutcome::VmEnded, 255);
        ended.reason = Some("the VM has stopped: the guest's kernel panicked".to_owned());
        ended.serial = vec!["Kernel panic".to_owned()];
        let refused = ErrorReport::new("no VM `x`", Explanation::new("vm.not-found", Fault::NotFound).hint("run it"));
        let cases = [
            TestCase::new("good", Ok(result(RunOutcome::Exited, 0))),
            TestCase::new("a \"b\" & c", Ok(failed)),
            TestCase::new("ended", Ok(ended)),
            TestCase::new("refused", Err(refused)),
        ];

        let document = junit(&cases);

        let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="4" failures="1" errors="2" time="4.500">
  <testsuite name="maqet run" tests="4" failures="1" errors="2" time="4.500">
    <testcase classname="maqet.run" name="good" time="1.500">
    </testcase>
    <testcase classname="maqet.run" name="a &quot;b&quot; &amp; c" time="1.500">
      <failure type="exited" message="the command exited with 3"></failure>
      <system-out>1 &lt; 2�[m</system-out>
    </testcase>
    <testcase classname="maqet.run" name="ended" time="1.500">
      <error type="vm-ended" message="the VM ended under the command">the VM has stopped: the guest's kernel panicked&#10;Kernel panic</error>
    </testcase>
    <testcase classname="maqet.run" name="refused" time="0.000">
      <error type="vm.not-found" message="no VM `x`">run it</error>
    </testcase>
  </testsuite>
</testsuites>
"#;
        assert_eq!(document, expected);
    }
}
