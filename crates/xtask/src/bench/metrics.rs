//! What it costs that operations are counted and measured.

use std::fs;
use std::time::Duration;

use super::compare::{Comparison, timed};
use super::env::Env;
use super::row::{Bar, Row};
use super::store::filled;
use crate::Result;
use crate::failure::OrFailure;

/// A command takes about a millisecond, and a few hundredths of that are to be seen.
const RUNS_PER_RUN: usize = 20;

pub(crate) fn metrics(env: &Env<'_>) -> Result<Vec<Row>> {
    let (counted, uncounted) = (filled(env, "store-counted", 1)?, filled(env, "store-uncounted", 1)?);
    // Where the file cannot be opened, nothing is counted.
    let file = env.database(&uncounted).with_file_name("metrics");
    let failed = || format!("cannot replace `{}`", file.display());
    fs::remove_file(&file).or_failure(failed)?;
    fs::create_dir(&file).or_failure(failed)?;

    let commands: [&[&str]; 2] = [&["ls"], &["status", "vm-00000"]];
    let compare = |arguments: &[&str]| {
        let comparison = env.compare(format!("`{}`, counted", arguments[0]), "maqet without metrics", Bar::Times(1.02));
        let run = |store: &str| -> Result<Duration> { timed(env.maqet_on(store, arguments)) };
        Comparison { runs: env.runs * RUNS_PER_RUN, ..comparison }.run(|_| run(&counted), |_| run(&uncounted))
    };
    commands.map(compare).into_iter().collect()
}
