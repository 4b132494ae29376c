//! What a large store costs: many VMs, and long logs of events and changes.

use std::time::Duration;

use super::compare::{output, timed};
use super::env::Env;
use super::row::{Bar, Row};
use super::store::{filled, sqlite};
use crate::Result;
use crate::failure::Failure;

const VMS: usize = 10_000;
const ENTRIES: usize = 100_000;

/// The columns of the table of `history`.
const HISTORY: &str = "sequence, strftime('%Y-%m-%dT%H:%M:%SZ', at / 1000000000, 'unixepoch'), user, host, operation, \
    vm_name, kind, arguments, (SELECT sequence FROM history AS other WHERE other.reverts = history.sequence)";

pub(crate) fn large(env: &Env<'_>) -> Result<Vec<Row>> {
    let (one, many, long) =
        (filled(env, "store-1", 1)?, filled(env, "store-10000", VMS)?, filled(env, "store-long", 1)?);
    output(sqlite(env, &long, &[], &entries()))?;
    let (_, found) =
        output(sqlite(env, &long, &[], "SELECT min((SELECT count(*) FROM event), count(*)) FROM history"))?;
    if found.trim() != ENTRIES.to_string() {
        return Err(Failure::new(format!("{} of {ENTRIES} events and changes were written", found.trim())));
    }

    let status = |store: &str| timed(env.maqet_on(store, ["status", "vm-00000"]));
    let start = |store: &str| -> Result<Duration> {
        let took = timed(env.maqet_on(store, ["start", "vm-00000"]))?;
        output(env.maqet_on(store, ["stop", "vm-00000", "--force"])).map(|_| took)
    };
    let rows = [
        env.compare(format!("`status` of one among {VMS}"), "`status` of one among 1", Bar::Times(1.1))
            .run(|_| status(&many), |_| status(&one))?,
        env.compare(format!("`status`, {ENTRIES} events and changes"), "`status` without", Bar::Times(1.1))
            .run(|_| status(&long), |_| status(&one))?,
        env.compare(format!("`start`, {ENTRIES} events and changes"), "`start` without", Bar::Plus(2))
            .run(|_| start(&long), |_| start(&one))?,
        env.compare(format!("`history`, {ENTRIES} changes"), "sqlite3, list", Bar::Times(2.0)).run(
            |_| timed(env.maqet_on(&long, ["history"])),
            |_| {
                timed(sqlite(
                    env,
                    &long,
                    &[],
                    &format!("SELECT {HISTORY} FROM history ORDER BY sequence DESC LIMIT 20"),
                ))
            },
        )?,
        env.compare(format!("`metrics` of {VMS}"), "sqlite3, definitions", Bar::Within(500)).run(
            |_| timed(env.maqet_on(&many, ["metrics"])),
            |_| timed(sqlite(env, &many, &[], "SELECT name, content FROM vm JOIN definition ON vm = id ORDER BY name")),
        )?,
    ];
    Ok(rows.into())
}

/// Returns SQL that repeats the only event and the only change until there are [`ENTRIES`] of each.
fn entries() -> String {
    format!(
        "BEGIN;
        CREATE TEMP TABLE count AS
            WITH RECURSIVE count (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < {ENTRIES} - 1) SELECT n FROM count;
        INSERT INTO event (at, kind, vm, vm_name, data) SELECT at + n, kind, vm, vm_name, data FROM event, count;
        INSERT INTO history (at, user, host, pid, vm, operation, arguments, inverse_operation, inverse_arguments, vm_name)
            SELECT at + n, user, host, pid, vm, operation, arguments, inverse_operation, inverse_arguments, vm_name
            FROM history, count;
        COMMIT;"
    )
}
