//! What is work of nobody but us: starting, and printing a text.

use super::ground::{Ground, PRINT};
use super::race::{timed, told};
use super::row::{Bar, Row};
use crate::Result;

pub(crate) fn help(ground: &Ground<'_>) -> Result<Vec<Row>> {
    let print = ground.compiled(PRINT)?;
    let (_, text) = told(ground.maqet(["--help"]))?;
    let length = text.len().to_string();
    let row = ground
        .race("`--help`", "C program", Bar::Within(6))
        .run(|_| timed(ground.maqet(["--help"])), |_| timed(ground.other(&print, [&length])))?;
    Ok(vec![row])
}
