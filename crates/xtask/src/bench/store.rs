//! Work that is mostly done by the store: `ls`, `status`, `add`.

use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, thread};

use super::compare::{Comparison, output, timed};
use super::env::{Env, PUBLISH};
use super::row::{Bar, Row};
use crate::Result;
use crate::failure::{Failure, OrFailure};

const SIZES: [usize; 3] = [1, 1_000, 10_000];
pub(super) const PROCESSES: usize = 8;
pub(super) const EACH: usize = 50;

/// A round of 400 processes takes long and is an average in itself.
pub(super) const RUNS_PER_CONCURRENT_RUN: usize = 4;

pub(super) const YAML: &str = "name: vm-00000\naccel: tcg\nmemory: 32M\n";

/// The columns of the table of `ls`, and of its JSON.
const TABLE: &str = "name, coalesce(phase, 'defined'), pid, \
    strftime('%Y-%m-%dT%H:%M:%SZ', created_at / 1000000000, 'unixepoch'), substr(id, 1, 8)";
const JSON: &str = "id, name, coalesce(phase, 'defined') AS status, pid, \
    strftime('%Y-%m-%dT%H:%M:%SZ', created_at / 1000000000, 'unixepoch') AS created_at";

pub(crate) fn ls(env: &Env<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for size in SIZES {
        let store = filled(env, &format!("store-{size}"), size)?;
        let table = env.compare(format!("`ls` of {size}"), "sqlite3, list", Bar::Times(2.0));
        rows.push(table.run(
            |_| timed(env.maqet_on(&store, ["ls"])),
            |_| timed(sqlite(env, &store, &[], &format!("SELECT {TABLE} FROM vm ORDER BY name"))),
        )?);
        let json = env.compare(format!("`ls --format json` of {size}"), "sqlite3, json", Bar::Times(2.0));
        rows.push(json.run(
            |_| timed(env.maqet_on(&store, ["ls", "--format", "json"])),
            |_| timed(sqlite(env, &store, &["-json"], &format!("SELECT {JSON} FROM vm ORDER BY name"))),
        )?);
    }
    Ok(rows)
}

pub(crate) fn status(env: &Env<'_>) -> Result<Vec<Row>> {
    let store = filled(env, "store-1000", 1_000)?;
    let row = env.compare("`status` of one among 1000", "sqlite3, one row", Bar::Times(2.0)).run(
        |_| timed(env.maqet_on(&store, ["status", "vm-00500"])),
        |_| timed(sqlite(env, &store, &[], &format!("SELECT {TABLE} FROM vm WHERE name = 'vm-00500'"))),
    )?;
    Ok(vec![row])
}

pub(crate) fn add(env: &Env<'_>) -> Result<Vec<Row>> {
    let publish = env.compiled(PUBLISH)?;
    let yaml = env.home.write("vm.yaml", YAML);
    let folder = env.home.path("files");
    create_folder(&folder)?;
    let one = env.compare("`add` of one", "fsync + rename", Bar::Times(4.0)).run(
        |round| timed(add_named(env, "store-add", &yaml, &format!("vm-{round}"))),
        |round| timed(env.other(&publish, [folder.join(round.to_string())])),
    )?;

    let concurrent =
        env.compare(format!("`add`, {PROCESSES} processes × {EACH}"), "the same of fsync + rename", Bar::Times(5.0));
    let concurrent = Comparison { runs: env.runs.div_ceil(RUNS_PER_CONCURRENT_RUN), ..concurrent }.run(
        |round| add_concurrently(env, &yaml, &format!("store-concurrent-{round}")),
        |round| {
            let folder = env.home.path(format!("concurrent-{round}"));
            create_folder(&folder)?;
            let took = concurrently(|name| timed(env.other(&publish, [folder.join(name)])))?;
            remove(&folder).map(|()| took)
        },
    )?;
    Ok(vec![one, concurrent])
}

/// Adds VMs concurrently to a store that does not exist yet, and checks that it has all of them.
fn add_concurrently(env: &Env<'_>, yaml: &Path, store: &str) -> Result<Duration> {
    let took = concurrently(|name| timed(add_named(env, store, yaml, name)))?;
    let (found, expected) = (env.count(store)?, PROCESSES * EACH);
    if found != expected {
        return Err(Failure::new(format!("{found} of {expected} VMs that were added concurrently are in the store")));
    }
    remove(&env.home.path(store)).map(|()| took)
}

/// Runs `work` [`EACH`] times in each of [`PROCESSES`] threads and returns the total duration.
pub(super) fn concurrently(work: impl Fn(&str) -> Result<Duration> + Sync) -> Result<Duration> {
    let work = &work;
    let began = Instant::now();
    thread::scope(|scope| {
        let one = |who| move || (0..EACH).try_for_each(|which| work(&format!("vm-{who}-{which}")).map(drop));
        let all: Vec<_> = (0..PROCESSES).map(|who| scope.spawn(one(who))).collect();
        all.into_iter().try_for_each(|one| one.join().unwrap_or_else(|_| Err(Failure::new("a thread panicked"))))
    })?;
    Ok(began.elapsed())
}

fn add_named(env: &Env<'_>, store: &str, yaml: &Path, name: &str) -> std::process::Command {
    let mut command = env.maqet_on(store, ["add"]);
    command.arg(yaml).args(["--name", name]);
    command
}

/// Creates a store of `size` VMs unless it exists, and returns its name: one VM by `add`, the others as copies of its row.
pub(super) fn filled(env: &Env<'_>, store: &str, size: usize) -> Result<String> {
    if env.home.path(store).exists() {
        return Ok(store.to_owned());
    }
    let yaml = env.home.write("vm.yaml", YAML);
    output(add_named(env, store, &yaml, "vm-00000"))?;
    output(sqlite(env, store, &[], &copies(size)))?;
    match env.count(store)? {
        found if found == size => Ok(store.to_owned()),
        found => Err(Failure::new(format!("`maqet ls` shows {found} of {size} VMs"))),
    }
}

/// Returns SQL that copies the only VM until there are `size`.
fn copies(size: usize) -> String {
    format!(
        "BEGIN;
        CREATE TEMP TABLE copy AS
            WITH RECURSIVE count (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < {size})
            SELECT printf('vm-%05d', n) AS name, printf('%08x-0000-4000-8000-%012x', n * 40503 % 4294967296, n) AS id,
                revision, created_at + n * 1000000 AS created_at, content, origins
            FROM count, vm, definition WHERE n < {size};
        INSERT INTO vm (name, id, revision, created_at) SELECT name, id, revision, created_at FROM copy;
        INSERT INTO definition (vm, content, origins) SELECT id, content, origins FROM copy;
        COMMIT;"
    )
}

pub(super) fn sqlite(env: &Env<'_>, store: &str, options: &[&str], sql: &str) -> std::process::Command {
    let mut command = env.other("sqlite3", options);
    command.arg(env.database(store)).arg(sql);
    command
}

fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).or_failure(|| format!("cannot create `{}`", path.display()))
}

fn remove(path: &Path) -> Result<()> {
    fs::remove_dir_all(path).or_failure(|| format!("cannot remove `{}`", path.display()))
}
