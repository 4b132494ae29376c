//! Work on a database of PostgreSQL: `ls`.

use std::process::Command;

use maqet_testkit::postgres::PostgresServer;

use super::compare::{output, timed};
use super::env::{Env, json};
use super::row::{Bar, Row};
use crate::Result;
use crate::failure::Failure;

const SIZE: usize = 10_000;

/// The columns of the table of `ls`.
const TABLE: &str = "name, coalesce(phase, 'defined'), pid, \
    to_char(to_timestamp(created_at / 1000000000) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
    left(id::text, 8)";

pub(crate) fn ls(env: &Env<'_>) -> Result<Vec<Row>> {
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

    let row = env
        .compare(format!("`ls` of {SIZE} on PostgreSQL"), "psql, list", Bar::Times(2.0))
        .run(|_| timed(maqet(&["ls"])), |_| timed(psql(env, &url, &format!("SELECT {TABLE} FROM vm ORDER BY name"))))?;
    Ok(vec![row])
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
