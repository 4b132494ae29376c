//! Work of maqet alone: starting, and printing text.

use super::compare::{output, timed};
use super::env::{Env, PRINT};
use super::row::{Bar, Row};
use crate::Result;

pub(crate) fn help(env: &Env<'_>) -> Result<Vec<Row>> {
    let print = env.compiled(PRINT)?;
    let (_, text) = output(env.maqet(["--help"]))?;
    let length = text.len().to_string();
    let row = env
        .compare("`--help`", "C program", Bar::Within(6))
        .run(|_| timed(env.maqet(["--help"])), |_| timed(env.other(&print, [&length])))?;
    Ok(vec![row])
}
