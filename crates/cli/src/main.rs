//! `maqet`: automates QEMU virtual machines from the command line.
//!
//! This crate parses arguments, renders results and chooses the exit code; every rule is in the `maqet` crate.
//!
//! | module | holds |
//! | --- | --- |
//! | `args` | the command line as clap reads it, a file for each group of commands |
//! | `run` | from the command line to the exit code: settings, runtime, signals |
//! | `command` | arguments become operations, and their results are shown |
//! | `render` | text, JSON and YAML output, progress, errors; what comes from a guest is sanitized |
//! | `stream`, `terminal`, `signal` | standard input and output as bytes, the terminal in raw mode, signals |
//! | `error`, `exit_code` | errors of the command line itself; the table of exit codes |

mod args;
mod command;
mod error;
mod exit_code;
mod logging;
mod render;
mod run;
mod service;
mod signal;
mod stream;
mod terminal;

use std::process::ExitCode;

fn main() -> ExitCode {
    run::main(&std::env::args_os().collect::<Vec<_>>())
}
