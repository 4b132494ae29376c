//! Tests in a process of their own, for what a process has only once, such as being a subreaper.

use std::process::Command;

/// Set for a test that runs in a process of its own.
const INSIDE: &str = "MAQET_TEST_INSIDE";

/// Returns whether this process was started to run a single test.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs `body` in a process that runs only the test of this name, which includes its modules: `recovery::test_…`.
pub fn within(test: &str, body: fn()) {
    if is_inside() {
        return body();
    }
    let program = std::env::current_exe().expect("a program knows its path");
    if let Err(why) = run(Command::new(program), test) {
        panic!("{why}");
    }
}

/// Runs a test with `runner`, a command that starts this program.
pub(crate) fn run(mut runner: Command, test: &str) -> Result<(), String> {
    runner.args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let output = runner.output().map_err(|why| format!("cannot run `{}`: {why}", runner.get_program().display()))?;

    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // Rust's test runner succeeds if no test has this name.
    if output.status.success() && stdout.contains("test result: ok. 1 passed;") {
        return Ok(());
    }
    Err(format!("`{test}` failed in a process of its own: {}\n{stdout}{stderr}", output.status))
}
