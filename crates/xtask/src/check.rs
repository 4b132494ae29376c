//! The checks and tests that need no QEMU, and the steps shared with `test`.

use std::process::Command;
use std::time::Instant;

use serde::Deserialize;

use crate::failure::Failure;
use crate::task::{prompt, step};
use crate::workspace::Workspace;
use crate::{Result, dependencies, program};

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let started = Instant::now();
    format(workspace)?;
    lints(workspace)?;
    policy(workspace)?;
    cargo_step("Tests", &mut fast_tests(workspace))?;
    step(&format!("All passed in {} s", started.elapsed().as_secs()));
    Ok(())
}

pub(crate) fn format(workspace: &Workspace) -> Result<()> {
    cargo_step("Format", &mut workspace.cargo(["fmt", "--all", "--check"]))
        .map_err(|failure| failure.hint("run `cargo fmt --all`"))
}

pub(crate) fn lints(workspace: &Workspace) -> Result<()> {
    let clippy = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "--deny", "warnings"];
    cargo_step("Lints", &mut workspace.cargo(clippy))
}

pub(crate) fn policy(workspace: &Workspace) -> Result<()> {
    step("Dependencies");
    dependencies::check(workspace)
}

/// Returns the tests in the crates, of operations and of the architecture.
///
/// They are built with the features of the whole workspace, so that `cargo xtask test` builds nothing again.
fn fast_tests(workspace: &Workspace) -> Command {
    let targets = ["--workspace", "--lib", "--bins", "--test=operations", "--test=architecture"];
    let mut command = workspace.cargo(["test", "--quiet"]);
    command.args(targets).env("INSTA_UPDATE", "no");
    command
}

/// Runs a Cargo command as a step.
pub(crate) fn cargo_step(name: &str, command: &mut Command) -> Result<()> {
    announce(name, command);
    program::run(command).map_err(|failure| failed(name, failure))
}

/// Runs a build as a step, in which the warnings of the compiler count as errors.
///
/// `-D warnings` would be another set of flags, with which Cargo builds everything again, dependencies included.
pub(crate) fn build_step(name: &str, command: &mut Command) -> Result<()> {
    announce(name, command);
    let mut has_warned = false;
    program::lines(command.arg("--message-format=json-diagnostic-rendered-ansi"), |line| {
        let message = serde_json::from_str::<Line>(line).ok().and_then(|line| line.message);
        if let Some(Diagnostic { level, rendered: Some(text) }) = message {
            anstream::eprint!("{text}");
            has_warned |= level == "warning";
        }
    })
    .map_err(|failure| failed(name, failure))?;
    if has_warned { Err(failed(name, Failure::new("the compiler printed a warning"))) } else { Ok(()) }
}

/// A line that Cargo prints about a build.
#[derive(Debug, Deserialize)]
struct Line {
    message: Option<Diagnostic>,
}

/// What the compiler says about code.
#[derive(Debug, Deserialize)]
struct Diagnostic {
    level: String,
    rendered: Option<String>,
}

fn announce(name: &str, command: &Command) {
    step(name);
    prompt(&program::shown(command).replacen(&command.get_program().to_string_lossy().into_owned(), "cargo", 1));
}

fn failed(name: &str, failure: Failure) -> Failure {
    Failure::new(format!("step `{name}` failed")).because(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Cargo prints about a crate with an unused variable, shortened.
    const WARNING: &str = r#"{"reason":"compiler-message","target":{"name":"w"},"message":{"rendered":"warning: unused variable: `x`\n","level":"warning"}}"#;

    fn printing(lines: &[&str]) -> Command {
        let mut command = program::command("printf");
        command.arg("%s\\n").args(lines);
        command
    }

    #[test]
    fn test_build_step_warning_of_the_compiler_fails() {
        let artifact = r#"{"reason":"compiler-artifact","target":{"name":"w"},"fresh":true}"#;

        let clean = build_step("Build", &mut printing(&[artifact, r#"{"reason":"build-finished","success":true}"#]));
        let warned = build_step("Build", &mut printing(&[artifact, WARNING]));

        assert!(clean.is_ok(), "{clean:?}");
        assert!(warned.is_err());
    }
}
