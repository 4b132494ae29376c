//! Measures whole processes of the release build against the fastest program that does the same work.
//!
//! A missed bar is reported and is not a failure: other load on the machine can be its cause.

mod agent;
mod baseline;
mod checkpoint;
mod compare;
mod config;
mod disk;
mod env;
mod features;
mod guest;
mod help;
mod host;
mod large;
mod machine;
mod metrics;
mod monitor;
mod page;
mod postgres;
mod row;
mod script;
mod store;
mod summary;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::ValueEnum;
use maqet_testkit::TestHome;

use self::env::Env;
use self::row::{Row, table};
use crate::failure::{Failure, OrFailure};
use crate::guard::Guard;
use crate::task::{remark, step, warning};
use crate::workspace::Workspace;
use crate::{Result, leak, program, tools};

#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    /// Rounds of each comparison
    #[arg(long, value_name = "N", default_value_t = 21, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Measure only this, without updating docs/performance.md
    #[arg(long, value_name = "WORK", value_enum)]
    only: Vec<Work>,
    /// Measure this program instead of building one
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Do not update docs/performance.md
    #[arg(long)]
    no_write: bool,
}

/// What can be measured on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Work {
    Ls,
    Postgres,
    Status,
    Large,
    Add,
    Start,
    Qmp,
    Stop,
    Snapshot,
    Config,
    Help,
    Metrics,
    Features,
    Guest,
    Checkpoint,
}

impl Work {
    fn measure(self, env: &Env<'_>) -> Result<Vec<Row>> {
        match self {
            Self::Ls => store::ls(env),
            Self::Postgres => postgres::postgres(env),
            Self::Status => store::status(env),
            Self::Large => large::large(env),
            Self::Add => store::add(env),
            Self::Start => machine::start(env),
            Self::Qmp => machine::qmp(env),
            Self::Stop => machine::stop(env),
            Self::Snapshot => disk::snapshot(env),
            Self::Config => config::config(env),
            Self::Help => help::help(env),
            Self::Metrics => metrics::metrics(env),
            Self::Features => features::features(env),
            Self::Guest => guest::guest(env),
            Self::Checkpoint => checkpoint::checkpoint(env),
        }
    }
}

impl Bench {
    pub(crate) fn run(&self, workspace: &Workspace) -> Result<()> {
        tools::ensure_for_bench()?;
        let binary = self.binary(workspace)?;
        let facts = host::facts(self.binary.is_none().then_some(workspace), &binary);

        let started = Instant::now();
        let home = TestHome::with_binary(installed(&binary)?);
        let folder = home.root().to_owned();
        let guard = Guard::over(&folder)?;
        let measured = self.measure(&Env { workspace, home: &home, runs: usize::from(self.runs) });
        drop(home);
        guard.dismiss();
        let rows = measured?;
        leak::check(&folder)?;

        anstream::print!("{}", table(&rows));
        if self.only.is_empty() && !self.no_write {
            write(workspace, &page::page(&self.command(), &facts, &rows))?;
        }
        for row in rows.iter().filter(|row| !row.is_met()) {
            warning(&format!("missed: {}, {}", row.work, row.bar));
        }
        step(&format!("Done in {} s", started.elapsed().as_secs()));
        Ok(())
    }

    fn binary(&self, workspace: &Workspace) -> Result<PathBuf> {
        if let Some(given) = &self.binary {
            return given.canonicalize().or_failure(|| format!("cannot find `{}`", given.display()));
        }
        step("Building maqet for release");
        build(workspace, &[])
    }

    fn measure(&self, env: &Env<'_>) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for work in Work::value_variants() {
            if self.only.is_empty() || self.only.contains(work) {
                let name = work.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
                step(&format!("Measuring `{name}`"));
                rows.extend(work.measure(env)?);
            }
        }
        Ok(rows)
    }

    /// Returns the command that repeats the measurement.
    fn command(&self) -> String {
        let binary = self.binary.as_ref().map(|path| format!(" --binary {}", path.display())).unwrap_or_default();
        format!("cargo xtask bench --runs {}{binary}", self.runs)
    }
}

/// Builds maqet for release with these options of cargo, and returns its path.
fn build(workspace: &Workspace, features: &[&str]) -> Result<PathBuf> {
    program::run(workspace.cargo(["build", "--release", "--package", "maqet-cli"]).args(features))?;
    workspace.released_maqet().ok_or_else(|| Failure::new("the target directory has no release directory"))
}

/// Returns a copy of a program, as `cargo install` makes one.
///
/// A file that the linker has just written is in the page cache page by page and starts more slowly than one that was
/// read or copied in larger pieces.
fn installed(built: &Path) -> Result<PathBuf> {
    copied(built, "installed")
}

/// Returns a copy of a program with another ending.
fn copied(built: &Path, ending: &str) -> Result<PathBuf> {
    let copy = built.with_extension(ending);
    let failed = || format!("cannot copy `{}`", built.display());
    if copy.exists() {
        fs::remove_file(&copy).or_failure(failed)?;
    }
    fs::copy(built, &copy).or_failure(failed)?;
    Ok(copy)
}

/// Builds an example of the library and returns its path.
fn example(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    program::run(&mut workspace.cargo(["build", "--release", "--package", "maqet", "--example", name]))?;
    let released = workspace.released_maqet().and_then(|maqet| Some(maqet.parent()?.join("examples").join(name)));
    released.ok_or_else(|| Failure::new("the target directory has no release directory"))
}

fn write(workspace: &Workspace, page: &str) -> Result<()> {
    let path: &Path = &workspace.root().join("docs/performance.md");
    fs::write(path, page).or_failure(|| format!("cannot write `{}`", path.display()))?;
    remark(&format!("written to {}", path.display()));
    Ok(())
}
