//! What is mostly work of the store: `ls`, `status`, `add`.

use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, thread};

use super::ground::{Ground, PUBLISH};
use super::race::{Race, timed, told};
use super::row::{Bar, Row};
use crate::Result;
use crate::failure::{Failure, OrFailure};

const SIZES: [usize; 3] = [1, 1_000, 10_000];
const PROCESSES: usize = 8;
const EACH: usize = 50;

/// A race of 400 processes is long, and itself an average.
const RUNS_PER_CROWD: usize = 4;

const YAML: &str = "name: vm-00000\naccel: tcg\nmemory: 32M\n";

/// The columns of the table of `ls`, and of its JSON.
const TABLE: &str = "name, coalesce(phase, 'defined'), pid, \
    strftime('%Y-%m-%dT%H:%M:%SZ', created_at / 1000000000, 'unixepoch'), substr(id, 1, 8)";
const JSON: &str = "id, name, coalesce(phase, 'defined') AS status, pid, \
    strftime('%Y-%m-%dT%H:%M:%SZ', created_at / 1000000000, 'unixepoch') AS created_at";

pub(crate) fn ls(ground: &Ground<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for size in SIZES {
        let store = filled(ground, size)?;
        let table = ground.race(format!("`ls` of {size}"), "sqlite3, list", Bar::Times(2.0));
        rows.push(table.run(
            |_| timed(ground.maqet_on(&store, ["ls"])),
            |_| timed(sqlite(ground, &store, &[], &format!("SELECT {TABLE} FROM vm ORDER BY name"))),
        )?);
        let json = ground.race(format!("`ls --format json` of {size}"), "sqlite3, json", Bar::Times(2.0));
        rows.push(json.run(
            |_| timed(ground.maqet_on(&store, ["ls", "--format", "json"])),
            |_| timed(sqlite(ground, &store, &["-json"], &format!("SELECT {JSON} FROM vm ORDER BY name"))),
        )?);
    }
    Ok(rows)
}

pub(crate) fn status(ground: &Ground<'_>) -> Result<Vec<Row>> {
    let store = filled(ground, 1_000)?;
    let row = ground.race("`status` of one among 1000", "sqlite3, one row", Bar::Times(2.0)).run(
        |_| timed(ground.maqet_on(&store, ["status", "vm-00500"])),
        |_| timed(sqlite(ground, &store, &[], &format!("SELECT {TABLE} FROM vm WHERE name = 'vm-00500'"))),
    )?;
    Ok(vec![row])
}

pub(crate) fn add(ground: &Ground<'_>) -> Result<Vec<Row>> {
    let publish = ground.compiled(PUBLISH)?;
    let yaml = ground.home.write("vm.yaml", YAML);
    let folder = ground.home.path("files");
    make_folder(&folder)?;
    let one = ground.race("`add` of one", "fsync + rename", Bar::Times(4.0)).run(
        |round| timed(add_named(ground, "store-add", &yaml, &format!("vm-{round}"))),
        |round| timed(ground.other(&publish, [folder.join(round.to_string())])),
    )?;

    let race =
        ground.race(format!("`add`, {PROCESSES} processes × {EACH}"), "the same of fsync + rename", Bar::Times(5.0));
    let crowd = Race { runs: ground.runs.div_ceil(RUNS_PER_CROWD), ..race }.run(
        |round| add_at_once(ground, &yaml, &format!("store-crowd-{round}")),
        |round| {
            let folder = ground.home.path(format!("crowd-{round}"));
            make_folder(&folder)?;
            let took = crowd(|name| timed(ground.other(&publish, [folder.join(name)])))?;
            remove(&folder).map(|()| took)
        },
    )?;
    Ok(vec![one, crowd])
}

/// Adds as many at once to a store that does not exist yet, and checks that all are there.
fn add_at_once(ground: &Ground<'_>, yaml: &Path, store: &str) -> Result<Duration> {
    let took = crowd(|name| timed(add_named(ground, store, yaml, name)))?;
    let (found, expected) = (ground.count(store)?, PROCESSES * EACH);
    if found != expected {
        return Err(Failure::new(format!("of {expected} VMs added at once, {found} are there")));
    }
    remove(&ground.home.path(store)).map(|()| took)
}

/// Has so many at once do `work` so many times each, and returns how long all of it took.
fn crowd(work: impl Fn(&str) -> Result<Duration> + Sync) -> Result<Duration> {
    let work = &work;
    let began = Instant::now();
    thread::scope(|scope| {
        let one = |who| move || (0..EACH).try_for_each(|which| work(&format!("vm-{who}-{which}")).map(drop));
        let all: Vec<_> = (0..PROCESSES).map(|who| scope.spawn(one(who))).collect();
        all.into_iter().try_for_each(|one| one.join().unwrap_or_else(|_| Err(Failure::new("a thread panicked"))))
    })?;
    Ok(began.elapsed())
}

fn add_named(ground: &Ground<'_>, store: &str, yaml: &Path, name: &str) -> std::process::Command {
    let mut command = ground.maqet_on(store, ["add"]);
    command.arg(yaml).args(["--name", name]);
    command
}

/// Makes a store of `size` VMs, if it is not there, and returns its name: one by `add`, the others copies of its row.
fn filled(ground: &Ground<'_>, size: usize) -> Result<String> {
    let store = format!("store-{size}");
    if ground.home.path(&store).exists() {
        return Ok(store);
    }
    let yaml = ground.home.write("vm.yaml", YAML);
    told(add_named(ground, &store, &yaml, "vm-00000"))?;
    told(sqlite(ground, &store, &[], &copies(size)))?;
    match ground.count(&store)? {
        found if found == size => Ok(store),
        found => Err(Failure::new(format!("a store was to have {size} VMs, and `maqet ls` shows {found}"))),
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

fn sqlite(ground: &Ground<'_>, store: &str, options: &[&str], sql: &str) -> std::process::Command {
    let mut command = ground.other("sqlite3", options);
    command.arg(ground.database(store)).arg(sql);
    command
}

fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).or_failure(|| format!("cannot make `{}`", path.display()))
}

fn remove(path: &Path) -> Result<()> {
    fs::remove_dir_all(path).or_failure(|| format!("cannot remove `{}`", path.display()))
}
