//! A guest that is put into another QEMU; its memory is in a file, and not copied.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::pulse::{Pulse, filled, remove_files};
use super::raw::{Raw, between};
use super::{define, log_of};
use crate::Result;
use crate::bench::baseline::Baseline;
use crate::bench::compare::output;
use crate::bench::env::{Env, json};
use crate::bench::row::{Bar, Row};
use crate::failure::OrFailure;

/// The VM of maqet, and the one that it does not start.
const OURS: &str = "upgraded";
const THEIRS: &str = "raw-upgraded";

const UPGRADED: Pulse = Pulse { memory_mib: 1024, filled_mib: 512, disks: 1, has_file: true };

pub(super) fn upgrade(env: &Env<'_>) -> Result<Row> {
    let row = compare(env);
    remove_files(&[OURS, THEIRS]);
    row
}

fn compare(env: &Env<'_>) -> Result<Row> {
    for name in [OURS, THEIRS] {
        define(env, name, UPGRADED)?;
    }
    let started = json(env.maqet(["start", OURS, "--format", "json"]))?;
    filled(Path::new(started["serial_log"].as_str().unwrap_or_default()))?;
    let first = Baseline::new(env, THEIRS)?;
    let mut raw = Raw::start(env, &first)?;
    filled(&log_of(&first)?)?;
    let mut log = PathBuf::from(started["qmp_log"].as_str().unwrap_or_default());
    let row = env.compare("`upgrade`, stop to running", "raw steps", Bar::Times(2.0)).run(
        |_| {
            let before = events(&log)?;
            let upgraded = json(env.maqet(["upgrade", OURS, "--format", "json"]))?;
            let mut stopped = events(&log)?.split_off(before.len());
            log = PathBuf::from(upgraded["qmp_log"].as_str().unwrap_or_default());
            stopped.extend(events(&log)?);
            between(&stopped, "STOP", "RESUME")
        },
        |round| {
            // Also at the end of the directories that are created for it.
            let number = round + 2;
            let next = first.replaced("/b1", &format!("/b{number}")).replaced("/boot-1", &format!("/boot-{number}"));
            let next = next.with_arguments(&["-incoming", "defer", "-S"].map(str::to_owned));
            let mut successor = Raw::start(env, &next)?;
            let socket = next.monitor().with_file_name("move.sock");
            let pause = raw.hand_over(&mut successor, &socket)?;
            raw = successor;
            Ok(pause)
        },
    )?;
    output(env.maqet(["stop", OURS, "--force"]))?;
    Ok(row)
}

/// Returns the events in a QMP log.
fn events(log: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(log).or_failure(|| format!("cannot read `{}`", log.display()))?;
    Ok(text.lines().filter_map(|line| serde_json::from_str::<Value>(line.trim_end_matches('\0')).ok()).collect())
}
