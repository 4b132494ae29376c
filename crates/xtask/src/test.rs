//! All checks and tests, the fastest to fail first.

use std::ffi::OsString;
use std::num::NonZero;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::ScopedJoinHandle;
use std::time::Instant;
use std::{env, iter, thread};

use maqet_testkit::qemu::{UNPACKED_VERSION, Unpacked};
use maqet_testkit::{namespaces, pid_namespace, process, qemu as kit_qemu, variable};

use crate::check::cargo_step;
use crate::failure::{Failure, OrFailure};
use crate::guard::Guard;
use crate::task::{step, warning};
use crate::workspace::Workspace;
use crate::{Result, check, fault_points, guest, leak, qemu, tools};

#[derive(Debug, clap::Args)]
pub(crate) struct Test {
    /// Also run the tests that take minutes
    #[arg(long)]
    long: bool,

    /// Run the tests on this QEMU only
    #[arg(long, value_enum)]
    qemu: Option<Choice>,
}

/// A QEMU to run the tests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Choice {
    /// The QEMU of the system, which all tests run on
    System,
    /// QEMU 10.0 from Debian's backports, which the tests that use QEMU run on
    #[value(name = UNPACKED_VERSION)]
    Unpacked,
}

const ALL_TESTS: [&str; 1] = ["--workspace"];

/// The binaries with tests that use QEMU, of the whole workspace, so that nothing is built again.
const QEMU_TESTS: [&str; 5] = ["--workspace", "--test=it", "--test=guests", "--test=terminal", "--test=examples"];

/// Modules of `it` whose tests are about configuration files and databases: no QEMU makes a difference to them, so they run
/// on that of the system only.
const ONCE: [&str; 7] =
    ["config::", "databases_moved::", "guides::", "lost_databases::", "postgres::", "schema::", "settings::"];

impl Test {
    pub(crate) fn run(&self, workspace: &Workspace) -> Result<()> {
        let started = Instant::now();
        if tools::may_ask() {
            tools::ensure_for_tests()?;
        }
        let folder = tempfile::Builder::new()
            .prefix("mq")
            .tempdir_in("/tmp")
            .or_failure(|| "cannot create a directory in /tmp".to_owned())?
            .keep();
        let guard = Guard::over(&folder)?;
        let failed = AtomicBool::new(false);
        let outcome = thread::scope(|scope| {
            // Downloaded and unpacked while the compiler works, so that it costs a fresh clone little time.
            let programs = scope.spawn(|| self.programs(workspace).inspect_err(|_| failed.store(true, Relaxed)));
            let built = build(workspace, &failed);
            let unpacked = joined(programs)?;
            built.and_then(|()| tests(self, workspace, unpacked, &folder))
        });
        let leaks = no_leaks(&folder);
        process::kill_naming(&folder);
        let removed = std::fs::remove_dir_all(&folder);
        guard.dismiss();

        outcome.and(leaks)?;
        removed.or_failure(|| format!("cannot remove `{}`", folder.display()))?;
        step(&format!("All passed in {} s", started.elapsed().as_secs()));
        Ok(())
    }

    /// Installs and builds what the tests use besides maqet; returns the QEMU as [`Self::unpacked_qemu`].
    fn programs<'a>(&self, workspace: &'a Workspace) -> Result<Option<&'a Unpacked>> {
        tools::ensure_for_tests()?;
        guest::ensure(workspace.guest())?;
        let unpacked = self.unpacked_qemu(workspace)?;
        guest::ensure_debian(workspace.guest())?;
        Ok(unpacked)
    }

    /// Returns the QEMU to run the tests on besides that of the system, unpacked.
    fn unpacked_qemu<'a>(&self, workspace: &'a Workspace) -> Result<Option<&'a Unpacked>> {
        let unpacked = workspace.unpacked_qemu();
        match (self.qemu, qemu::lack()) {
            (Some(Choice::Unpacked), Some(lack)) => {
                Err(Failure::new(format!("cannot unpack QEMU {UNPACKED_VERSION}: {lack}")))
            }
            (Some(Choice::System), _) | (None, Some(_)) => Ok(None),
            (Some(Choice::Unpacked) | None, None) => qemu::ensure(unpacked).map(|_| Some(unpacked)),
        }
    }
}

/// Checks and builds everything that is tested, until that is done or `failed` is set.
fn build(workspace: &Workspace, failed: &AtomicBool) -> Result<()> {
    let steps = [check::format, check::lints, check::policy, binaries];
    for step in steps {
        if failed.load(Relaxed) {
            break;
        }
        step(workspace)?;
    }
    Ok(())
}

fn binaries(workspace: &Workspace) -> Result<()> {
    // The lints were those of code with fault points.
    check::build_step("Build", &mut workspace.cargo(["build", "--workspace", "--all-targets"]))?;
    step("CLI with fault points");
    fault_points::build(workspace)
}

/// Waits for a thread.
fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn tests(test: &Test, workspace: &Workspace, unpacked: Option<&Unpacked>, folder: &Path) -> Result<()> {
    let cargo_test = |arguments| {
        let mut command = cargo_test(test, workspace, folder, arguments);
        if test.qemu.is_none() && unpacked.is_some() {
            command.env(variable::BOTH_QEMUS, "1");
        }
        command
    };
    let mut outcome = Ok(());
    if test.qemu != Some(Choice::Unpacked) {
        let mut tests = cargo_test(&ALL_TESTS);
        outcome = cargo_step(&format!("Tests with QEMU {}", kit_qemu::version()), &mut tests);
    }
    if let Some(unpacked) = unpacked {
        let version = kit_qemu::version_of(&unpacked.emulator());
        let mut tests = cargo_test(&QEMU_TESTS);
        if test.qemu.is_none() {
            tests.arg("--").args(ONCE.iter().flat_map(|module| ["--skip", module]));
        }
        tests.env("PATH", first_in_path(&unpacked.programs())).env(variable::QEMU_VERSION, UNPACKED_VERSION);
        // Whatever failed before: a run tells all that fails.
        outcome = outcome.and(cargo_step(&format!("Tests with QEMU {version}"), &mut tests));
    }
    report_skipped(test);
    outcome
}

fn cargo_test(test: &Test, workspace: &Workspace, folder: &Path, arguments: &[&str]) -> Command {
    // A machine that runs this once, as CI does, then learns of every failed test and not only of those of one binary.
    let mut command = workspace.cargo(["test", "--no-fail-fast"]);
    command
        .args(arguments)
        .env(variable::BINARY, workspace.maqet())
        .env(variable::FAULTY_BINARY, workspace.faulty_maqet())
        .env(variable::GUEST, workspace.guest().folder())
        .env(variable::UNPACKED_QEMU, workspace.unpacked_qemu().folder())
        .env(variable::TEST_ROOT, folder)
        .env("RUST_TEST_THREADS", test_threads().to_string())
        // A snapshot that differs fails, and nothing is written beside the source.
        .env("INSTA_UPDATE", "no");
    if test.long {
        command.env(variable::LONG, "1");
    }
    command
}

/// Returns how many tests run at once: twice as many as there are cores, as most of them wait for a guest, a timeout or a
/// disk more than they compute. That leaves a quarter of the CPU time unused; with three times as many, guests that boot
/// GRUB were too slow for their deadlines.
fn test_threads() -> usize {
    2 * thread::available_parallelism().map_or(2, NonZero::get)
}

fn first_in_path(folder: &Path) -> OsString {
    let rest = env::var_os("PATH").unwrap_or_default();
    let folders = iter::once(folder.to_owned()).chain(env::split_paths(&rest));
    // A folder with a colon cannot be in PATH; the tests then fail because they run on another version.
    env::join_paths(folders).unwrap_or(rest)
}

/// Names the tests that were skipped; their own output is lost among thousands of lines.
fn report_skipped(test: &Test) {
    match (test.qemu, qemu::lack()) {
        (None, Some(lack)) => warning(&format!("SKIPPED: all tests with QEMU {UNPACKED_VERSION}: {lack}")),
        (Some(Choice::System), _) => warning(&format!("SKIPPED: all tests with QEMU {UNPACKED_VERSION}, as requested")),
        (Some(Choice::Unpacked), _) => warning("SKIPPED: all tests with the QEMU of the system, as requested"),
        (None, None) => {}
    }
    if let Some(lack) = namespaces::lack() {
        warning(&format!("SKIPPED: network cards on taps and bridges: cannot create a network namespace ({lack})"));
    }
    if let Some(lack) = pid_namespace::lack() {
        warning(&format!("SKIPPED: VMs of other PID namespaces: cannot create one ({lack})"));
    }
}

fn no_leaks(folder: &Path) -> Result<()> {
    step("No processes or files left behind");
    leak::check(folder)
}
