//! Development tasks of maqet, run as `cargo xtask TASK`.
//!
//! A task installs what it needs on a Debian machine besides Rust. It writes only to the target directory and to one
//! private directory in /tmp.

mod bench;
mod check;
mod debian;
mod demo;
mod dependencies;
mod failure;
mod fault_points;
mod file;
mod fuzz;
mod guard;
mod guest;
mod leak;
mod program;
mod qemu;
mod task;
mod test;
mod tools;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Failure;
use crate::workspace::Workspace;

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Development tasks of maqet",
    after_help = "Run `cargo xtask check` while you work and `cargo xtask test` before you submit a change. Missing \
                  packages such as QEMU are installed with apt-get, and named before."
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Show the main use case on real QEMU: define, start, query, stop, snapshot, remove
    ///
    /// Builds maqet and a small Linux guest, and runs each command in a private directory that is removed afterward.
    /// Emulates the CPU, so it works on any machine. Takes less than a minute once everything is built.
    Demo,

    /// Run the checks and tests that need no QEMU
    ///
    /// In order: format, lints, dependencies, unit tests, and the tests of operations and architecture. Takes less than
    /// a minute on two cores once everything is built.
    Check,

    /// Run all checks and tests, stopping at the first failure
    ///
    /// In order: tools, guest, QEMU 10.0, format, lints, dependencies, build, tests, the tests that use QEMU with QEMU
    /// 10.0, and a check that no process or file was left behind. CI runs this.
    Test(test::Test),

    /// Build the Linux guests of the tests if they are missing or outdated
    ///
    /// Writes `target/guest/vmlinuz` and `target/guest/initramfs.cpio`, made from Debian's cloud kernel and busybox,
    /// which are downloaded and not installed. The guest prints `maqet-guest: ready` on the first serial port, runs a
    /// shell there, and powers off when the power button is pressed.
    ///
    /// `cargo xtask guest debian` builds a whole Debian system for the tests of what runs inside a guest, in
    /// `target/guest/debian`; that takes a minute or two. The packages come from the mirror of the system.
    Guest(guest::Guest),

    /// Unpack QEMU 10.0 beside that of the system, if it is missing
    ///
    /// Downloads the packages of Debian's backports from the mirror of the system, verifies their signatures, and
    /// unpacks them into `target/qemu-10.0`. Installs nothing and needs no root.
    Qemu(qemu::Qemu),

    /// Compare the speed of maqet with the fastest program that does the same work
    ///
    /// Builds for release and runs whole processes alternately with plain QEMU, qemu-img, the sqlite3 shell and small C
    /// programs. Prints a table of medians and writes it to docs/performance.md. Takes some minutes; the quieter the
    /// machine, the better.
    Bench(bench::Bench),

    /// Build the CLI that kills itself at a fault point, for the recovery tests
    ///
    /// Builds `maqet-fault-points` next to the regular CLI. `cargo xtask test` includes this.
    FaultPoints,

    /// Run the fuzz targets with cargo-fuzz
    ///
    /// Runs each target in `fuzz/` for ten minutes by default, on one core. New inputs are kept in `fuzz/corpus`, where
    /// the next run starts.
    Fuzz(fuzz::Fuzz),

    /// Clean up after an interrupted task; started by tasks
    #[command(hide = true)]
    Guard,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = Workspace::find().and_then(|workspace| match arguments.task {
        Task::Demo => demo::run(&workspace),
        Task::Check => check::run(&workspace),
        Task::Test(test) => test.run(&workspace),
        Task::Guest(guest) => guest.run(&workspace),
        Task::Qemu(qemu) => qemu.run(&workspace),
        Task::Bench(bench) => bench.run(&workspace),
        Task::FaultPoints => fault_points::build(&workspace),
        Task::Fuzz(fuzz) => fuzz.run(&workspace),
        Task::Guard => guard::run(),
    });

    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::FAILURE
        }
    }
}

type Result<T> = std::result::Result<T, Failure>;

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn test_arguments_definition_is_consistent() {
        Arguments::command().debug_assert();
    }
}
