//! All checks and tests, in the order in which they fail fastest.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use maqet_testkit::{namespaces, process, variable};

use crate::task::{prompt, step, warning};
use crate::failure::{Failure, OrFailure};
use crate::guard::Guard;
use crate::workspace::Workspace;
use crate::{Result, fault_points, guest, leak, program, tools};

#[derive(Debug, clap::Args)]
pub(crate) struct Test {
    /// Run the tests that take minutes, too
    #[arg(long)]
    long: bool,
}

impl Test {
    pub(crate) fn run(&self, workspace: &Workspace) -> Result<()> {
        let started = Instant::now();
        tools::ensure()?;
        guest::ensure(workspace.guest())?;

        let folder = tempfile::Builder::new()
            .prefix("mq")
            .tempdir_in("/tmp")
            .or_failure(|| "cannot make a folder in /tmp".to_owned())?
            .keep();
        let guard = Guard::over(&folder)?;
        let outcome = steps(self, workspace, &folder);
        let leaks = no_leaks(&folder);
        process::kill_naming(&folder);
        let removed = std::fs::remove_dir_all(&folder);
        guard.dismiss();

        outcome.and(leaks)?;
        removed.or_failure(|| format!("cannot remove `{}`", folder.display()))?;
        step(&format!("All passed in {} s", started.elapsed().as_secs()));
        Ok(())
    }
}

fn steps(test: &Test, workspace: &Workspace, folder: &Path) -> Result<()> {
    cargo_step("Format", &mut workspace.cargo(["fmt", "--all", "--check"]))
        .map_err(|failure| failure.hint("format with `cargo fmt --all`"))?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "--deny", "warnings"];
    cargo_step("Lints", &mut workspace.cargo(clippy))?;
    // What is compiled where a feature is off is seen by nobody else.
    let bare = ["clippy", "--package", "maqet-domain", "--all-targets", "--", "--deny", "warnings"];
    cargo_step("Lints without features", &mut workspace.cargo(bare))?;
    fuzz_targets(workspace)?;
    cargo_step("Build", &mut workspace.cargo(["build", "--workspace", "--all-targets"]))?;
    step("The CLI with fault points");
    fault_points::build(workspace)?;
    cargo_step("Tests", &mut tests(test, workspace, folder))?;
    skipped();
    dependencies(workspace)
}

/// Checks the targets of `fuzz/`, a workspace of its own, without the fuzzer: that is C++, and nothing here runs it.
fn fuzz_targets(workspace: &Workspace) -> Result<()> {
    const MANIFEST: &str = "--manifest-path=fuzz/Cargo.toml";
    let format = ["fmt", MANIFEST, "--check"];
    cargo_step("Format of fuzz targets", &mut workspace.cargo(format))
        .map_err(|failure| failure.hint("format with `cargo fmt --manifest-path fuzz/Cargo.toml`"))?;
    let clippy = ["clippy", MANIFEST, "--locked", "--no-default-features", "--", "--deny", "warnings"];
    cargo_step("Lints of fuzz targets", &mut workspace.cargo(clippy)).map_err(|failure| {
        failure.hint("if its lock file is behind: `cargo update --manifest-path fuzz/Cargo.toml --workspace`")
    })
}

fn tests(test: &Test, workspace: &Workspace, folder: &Path) -> Command {
    let mut command = workspace.cargo(["test", "--workspace"]);
    command
        .env(variable::BINARY, workspace.maqet())
        .env(variable::FAULTY_BINARY, workspace.faulty_maqet())
        .env(variable::GUEST, workspace.guest().folder())
        .env(variable::TEST_ROOT, folder)
        // A snapshot that differs fails, and nothing is written beside the source.
        .env("INSTA_UPDATE", "no");
    if test.long {
        command.env(variable::LONG, "1");
    }
    command
}

/// Tells which tests did nothing, at the end: what they say by themselves stands among thousands of lines.
fn skipped() {
    if let Some(lack) = namespaces::lack() {
        warning(&format!("SKIPPED: cards on taps and bridges; this host has no networks of a test's own ({lack})"));
    }
}

fn dependencies(workspace: &Workspace) -> Result<()> {
    if program::find("cargo-deny").is_none() {
        warning(
            "SKIPPED: bans, licences and sources of dependencies; to check them: cargo install --locked cargo-deny",
        );
        return Ok(());
    }
    cargo_step("Dependencies", &mut workspace.cargo(["deny", "check", "bans", "licenses", "sources"]))
}

fn no_leaks(folder: &Path) -> Result<()> {
    step("Nothing left behind");
    leak::check(folder)
}

fn cargo_step(name: &str, command: &mut Command) -> Result<()> {
    step(name);
    prompt(&program::shown(command).replacen(&command.get_program().to_string_lossy().into_owned(), "cargo", 1));
    program::run(command).map_err(|failure| Failure::new(format!("step `{name}` failed")).because(failure))
}
