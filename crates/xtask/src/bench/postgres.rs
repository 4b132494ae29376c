//! Work on a database of PostgreSQL: `ls`, `add`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use maqet_testkit::postgres::{PostgresServer, programs};

use super::compare::{Comparison, output, timed};
use super::env::{Env, json};
use super::row::{Bar, Row};
use super::script::{self, script};
use super::store::{EACH, PROCESSES, RUNS_PER_CONCURRENT_RUN, YAML, concurrently};
use crate::Result;
use crate::failure::Failure;

const SIZE: usize = 10_000;

/// The columns of the table of `ls`.
const TABLE: &str = "name, coalesce(phase, 'defined'), pid, \
    to_char(to_timestamp(created_at / 1000000000) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
    left(id::text, 8)";

pub(crate) fn postgres(env: &Env<'_>) -> Result<Vec<Row>> {
    Ok(vec![ls(env)?, add(env)?])
}

fn ls(env: &Env<'_>) -> Result<Row> {
    let server = PostgresServer::start();
    let url = server.schema().url;
    let maqet = |arguments: &[&str]| {
        let mut command = env.maqet(arguments);
        command.args(["--database", &url]);
        command
    };
    output(maqet(&["add", "--empty", "--name", "vm-00000", "--set", "accel=tcg", "--set", "memory=32M"]))?;
    output(psql(env, &url, &copies()))?;
    let found = json(maqet(&["ls", "--format", "json"]))?.as_array().map_or(0, Vec::len);
    if found != SIZE {
        return Err(Failure::new(format!("`maqet ls` shows {found} of {SIZE} VMs")));
    }

    env.compare(format!("`ls` of {SIZE} on PostgreSQL"), "psql, list", Bar::Times(2.0))
        .run(|_| timed(maqet(&["ls"])), |_| timed(psql(env, &url, &format!("SELECT {TABLE} FROM vm ORDER BY name"))))
}

/// Adds VMs concurrently, with a server that waits for its disk.
fn add(env: &Env<'_>) -> Result<Row> {
    let server = PostgresServer::start_with("fsync = on\nfull_page_writes = on\n");
    let url = server.schema().url;
    let yaml = env.home.write("vm.yaml", YAML);
    let script = env.home.write("add.sql", script_of_add(env, &yaml)?);
    let pgbench = programs().ok_or_else(|| Failure::new("`pgbench` is not installed"))?.join("pgbench");
    output(add_named(env, &url, &yaml, "first"))?;

    let work = format!("`add`, {PROCESSES} processes × {EACH}, on PostgreSQL");
    let comparison = env.compare(work, "pgbench, the same", Bar::Times(2.0));
    Comparison { runs: env.runs.div_ceil(RUNS_PER_CONCURRENT_RUN), ..comparison }.run(
        |_| {
            empty(env, &url)?;
            let took = concurrently(|name| timed(add_named(env, &url, &yaml, name)))?;
            counted(env, &url, took)
        },
        |_| {
            empty(env, &url)?;
            // A connection of its own for each transaction, as each `add` has.
            let (clients, transactions) = (PROCESSES.to_string(), EACH.to_string());
            let options = ["-n", "-C", "-c", &clients, "-j", "2", "-t", &transactions, "-f"];
            let mut command = env.other(&pgbench, options);
            command.arg(&script).arg(&url);
            counted(env, &url, timed(command)?)
        },
    )
}

/// Returns what `add` sends, for a VM of any name.
fn script_of_add(env: &Env<'_>, yaml: &Path) -> Result<String> {
    let server = PostgresServer::start_with(script::SETTINGS);
    let url = server.schema().url;
    // Creates the tables.
    output(add_named(env, &url, yaml, "first"))?;
    let before = server.messages().len();
    let mut command = add_named(env, &url, yaml, "second");
    command.args(["--format", "json"]);
    let added = json(command)?;
    let id = added["id"].as_str().ok_or_else(|| Failure::new("`maqet add --format json` does not print an ID"))?;
    script(server.messages().get(before..).unwrap_or_default(), id, "second")
}

fn add_named(env: &Env<'_>, url: &str, yaml: &Path, name: &str) -> Command {
    let mut command = env.maqet(["add", "--database", url, "--name", name]);
    command.arg(yaml);
    command
}

fn empty(env: &Env<'_>, url: &str) -> Result<()> {
    output(psql(env, url, "TRUNCATE vm, definition, event, history CASCADE")).map(drop)
}

/// Returns `took` if all VMs are in the database, with their event and their entry in the history.
fn counted(env: &Env<'_>, url: &str, took: Duration) -> Result<Duration> {
    let count = "SELECT least((SELECT count(*) FROM vm), (SELECT count(*) FROM event), (SELECT count(*) FROM history))";
    let (_, found) = output(psql(env, url, count))?;
    let expected = PROCESSES * EACH;
    if found.trim() == expected.to_string() {
        Ok(took)
    } else {
        Err(Failure::new(format!(
            "{} of {expected} VMs that were added concurrently are in the database",
            found.trim()
        )))
    }
}

/// Returns SQL that copies the only VM until there are [`SIZE`].
fn copies() -> String {
    format!(
        "INSERT INTO vm (id, host, owner, name, revision, created_at)
            SELECT gen_random_uuid(), host, owner, 'vm-' || lpad(n::text, 5, '0'), revision, created_at + n * 1000000::bigint
            FROM vm, generate_series(1, {SIZE} - 1) AS n;
        INSERT INTO definition (vm, content, origins)
            SELECT vm.id, content, origins FROM vm, definition WHERE vm.name <> 'vm-00000';
        ANALYZE vm, definition"
    )
}

fn psql(env: &Env<'_>, url: &str, sql: &str) -> Command {
    env.other("psql", ["-XAtq", "-v", "ON_ERROR_STOP=1", url, "-c", sql])
}
