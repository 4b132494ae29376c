//! All checks and tests, the fastest to fail first.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use maqet_testkit::{namespaces, process, variable};

use crate::check::cargo_step;
use crate::failure::OrFailure;
use crate::guard::Guard;
use crate::task::{step, warning};
use crate::workspace::Workspace;
use crate::{Result, check, fault_points, guest, leak, tools};

#[derive(Debug, clap::Args)]
pub(crate) struct Test {
    /// Also run the tests that take minutes
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
            .or_failure(|| "cannot create a directory in /tmp".to_owned())?
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
    check::format(workspace)?;
    check::lints(workspace)?;
    // Code without fault points. The example has Cargo choose the features of dependencies as for tests.
    let without = ["clippy", "--workspace", "--lib", "--bins", "--example", "one_session", "--", "--deny", "warnings"];
    cargo_step("Lints without features", &mut workspace.cargo(without))?;
    fuzz_targets(workspace)?;
    check::policy(workspace)?;
    cargo_step("Build", &mut workspace.cargo(["build", "--workspace", "--all-targets"]))?;
    step("CLI with fault points");
    fault_points::build(workspace)?;
    cargo_step("Tests", &mut tests(test, workspace, folder))?;
    report_skipped();
    Ok(())
}

/// Checks the targets in `fuzz/`, a separate workspace, without the fuzzer, which is C++ and not needed here.
fn fuzz_targets(workspace: &Workspace) -> Result<()> {
    const MANIFEST: [&str; 2] = ["--manifest-path", "fuzz/Cargo.toml"];
    let format = ["fmt", MANIFEST[0], MANIFEST[1], "--check"];
    cargo_step("Format of fuzz targets", &mut workspace.cargo(format))
        .map_err(|failure| failure.hint("run `cargo fmt --manifest-path fuzz/Cargo.toml`"))?;
    let clippy = ["clippy", MANIFEST[0], MANIFEST[1], "--locked", "--no-default-features", "--", "--deny", "warnings"];
    cargo_step("Lints of fuzz targets", &mut workspace.cargo(clippy)).map_err(|failure| {
        failure.hint("if its lock file is outdated, run `cargo update --manifest-path fuzz/Cargo.toml --workspace`")
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

/// Names the tests that were skipped; their own output is lost among thousands of lines.
fn report_skipped() {
    if let Some(lack) = namespaces::lack() {
        warning(&format!("SKIPPED: network cards on taps and bridges: cannot create a network namespace ({lack})"));
    }
}

fn no_leaks(folder: &Path) -> Result<()> {
    step("No processes or files left behind");
    leak::check(folder)
}
