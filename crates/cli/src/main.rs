//! `maqet`: automates QEMU virtual machines from the command line.
//!
//! This crate parses, renders and chooses the exit code; every rule lives behind the `maqet` crate.

mod args;
mod command;
mod exit_code;
mod failure;
mod logging;
mod render;
mod run;
mod stream;
mod terminal;

use std::process::ExitCode;

fn main() -> ExitCode {
    run::main(&std::env::args_os().collect::<Vec<_>>())
}
