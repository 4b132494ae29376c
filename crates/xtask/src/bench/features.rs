//! What features cost that a command does not use: PostgreSQL with TLS, and OTLP.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::compare::{Comparison, output, timed};
use super::env::Env;
use super::row::{Bar, Row};
use super::{build, copied};
use crate::Result;

/// A command takes about a millisecond, and a few hundredths of that are to be seen.
const RUNS_PER_RUN: usize = 10;

pub(crate) fn features(env: &Env<'_>) -> Result<Vec<Row>> {
    let without = built(env, "without", &["--no-default-features"])?;
    let with = built(env, "with", &["--features", "otlp"])?;
    // The last build is the one that `target` shows.
    build(env.workspace, &[])?;
    output(env.maqet(["add", "--empty", "--name", "of-features"]))?;

    let commands: [&[&str]; 3] = [&["--help"], &["ls"], &["status", "of-features"]];
    commands.map(|arguments| compare(env, arguments, &with, &without)).into_iter().collect()
}

fn compare(env: &Env<'_>, arguments: &[&str], with: &Path, without: &Path) -> Result<Row> {
    let work = format!("`{}` with PostgreSQL, TLS, OTLP", arguments[0]);
    let comparison = env.compare(work, "maqet without them", Bar::Times(1.05));
    let run = |binary: &Path| -> Command { env.other(binary, arguments) };
    Comparison { runs: env.runs * RUNS_PER_RUN, ..comparison }.run(|_| timed(run(with)), |_| timed(run(without)))
}

fn built(env: &Env<'_>, name: &str, features: &[&str]) -> Result<PathBuf> {
    copied(&build(env.workspace, features)?, name)
}
