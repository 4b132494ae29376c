//! Measures whole processes of the release build against the least that could do the same work.
//!
//! It measures and tells; a missed bar is no failure, because what else a machine does can miss it too.

mod bare;
mod config;
mod disk;
mod ground;
mod help;
mod host;
mod machine;
mod page;
mod race;
mod row;
mod store;
mod summary;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::ValueEnum;
use maqet_testkit::TestHome;

use self::ground::Ground;
use self::row::{Row, table};
use crate::chore::{remark, step, warning};
use crate::failure::{Failure, OrFailure};
use crate::guard::Guard;
use crate::workspace::Workspace;
use crate::{Result, leak, program, tools};

#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    /// Rounds of each race
    #[arg(long, value_name = "N", default_value_t = 21, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Measure this work alone, and leave the page as it is
    #[arg(long, value_name = "WORD", value_enum)]
    only: Vec<Work>,
    /// Measure this program instead of building one
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Leave docs/performance.md as it is
    #[arg(long)]
    no_write: bool,
}

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Work {
    Ls,
    Status,
    Add,
    Start,
    Qmp,
    Stop,
    Snapshot,
    Config,
    Help,
}

impl Work {
    fn measure(self, ground: &Ground<'_>) -> Result<Vec<Row>> {
        match self {
            Self::Ls => store::ls(ground),
            Self::Status => store::status(ground),
            Self::Add => store::add(ground),
            Self::Start => machine::start(ground),
            Self::Qmp => machine::qmp(ground),
            Self::Stop => machine::stop(ground),
            Self::Snapshot => disk::snapshot(ground),
            Self::Config => config::config(ground),
            Self::Help => help::help(ground),
        }
    }
}

impl Bench {
    pub(crate) fn run(&self, workspace: &Workspace) -> Result<()> {
        tools::ensure_for_bench()?;
        let binary = self.binary(workspace)?;
        let session = example(workspace, "one_session")?;
        let facts = host::facts(self.binary.is_none().then_some(workspace), &binary);

        let started = Instant::now();
        let home = TestHome::with_binary(installed(&binary)?);
        let folder = home.root().to_owned();
        let guard = Guard::over(&folder)?;
        let measured = self.measure(&Ground { home: &home, runs: usize::from(self.runs), session: &session });
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
        program::run(&mut workspace.cargo(["build", "--release", "--package", "maqet-cli"]))?;
        workspace.released_maqet().ok_or_else(|| Failure::new("the target folder has no folder for releases"))
    }

    fn measure(&self, ground: &Ground<'_>) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for work in Work::value_variants() {
            if self.only.is_empty() || self.only.contains(work) {
                let name = work.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
                step(&format!("Measuring `{name}`"));
                rows.extend(work.measure(ground)?);
            }
        }
        Ok(rows)
    }

    /// Returns the command that does the same again.
    fn command(&self) -> String {
        let binary = self.binary.as_ref().map(|path| format!(" --binary {}", path.display())).unwrap_or_default();
        format!("cargo xtask bench --runs {}{binary}", self.runs)
    }
}

/// Returns a copy of a program, as `cargo install` makes one.
///
/// What a linker has just written lies in the page cache in single pages, and begins later than what was read or copied
/// in larger pieces, as everything is that was not built a moment ago.
fn installed(built: &Path) -> Result<PathBuf> {
    let copy = built.with_extension("installed");
    let failed = || format!("cannot copy `{}`", built.display());
    if copy.exists() {
        fs::remove_file(&copy).or_failure(failed)?;
    }
    fs::copy(built, &copy).or_failure(failed)?;
    Ok(copy)
}

/// Builds an example of the library and returns where it is.
fn example(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    program::run(&mut workspace.cargo(["build", "--release", "--package", "maqet", "--example", name]))?;
    let released = workspace.released_maqet().and_then(|maqet| Some(maqet.parent()?.join("examples").join(name)));
    released.ok_or_else(|| Failure::new("the target folder has no folder for releases"))
}

fn write(workspace: &Workspace, page: &str) -> Result<()> {
    let path: &Path = &workspace.root().join("docs/performance.md");
    fs::write(path, page).or_failure(|| format!("cannot write `{}`", path.display()))?;
    remark(&format!("written to {}", path.display()));
    Ok(())
}
