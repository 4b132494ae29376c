//! The checks and tests that need no QEMU, and the steps shared with `test`.

use std::process::Command;
use std::time::Instant;

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
    step(name);
    prompt(&program::shown(command).replacen(&command.get_program().to_string_lossy().into_owned(), "cargo", 1));
    program::run(command).map_err(|failure| Failure::new(format!("step `{name}` failed")).because(failure))
}
