//! maqet's own chores, run as `cargo xtask CHORE`.
//!
//! Everything a fresh Debian machine needs besides Rust is installed by the chore that needs it. No shell script is
//! involved, and nothing is written outside of the target folder and one private folder in /tmp.

mod bench;
mod chore;
mod demo;
mod failure;
mod fault_points;
mod fuzz;
mod guard;
mod guest;
mod leak;
mod program;
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
    about = "maqet's own chores: show it, test it, measure it, build the guest it is tested with",
    after_help = "Start with `cargo xtask demo` to see maqet work, and run `cargo xtask test` before you hand in a \
                  change. Both install what is missing (QEMU, a C compiler) with apt-get, and say so before."
)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Show the main job on real QEMU: define, start, ask, stop, snapshot, remove
    ///
    /// Builds maqet and a small Linux guest, runs each command in a private folder, printed before it runs, and
    /// leaves nothing behind. Emulates the CPU, so it works on any machine; takes under a minute once all is built.
    Demo,

    /// Run all checks and tests, stopping at the first that fails
    ///
    /// In order: tools, guest, format, clippy, build, tests, licences and bans, and whether the tests left a process
    /// or file behind. This is what CI runs.
    Test(test::Test),

    /// Build the Linux guest of the tests, if it is missing or outdated
    ///
    /// Debian's cloud kernel and busybox, taken from downloaded packages and never installed, become
    /// `target/guest/vmlinuz` and `target/guest/initramfs.cpio`. It prints `maqet-guest: ready` on the first serial
    /// port, serves a shell there, and powers off when the power button is pressed.
    Guest(guest::Guest),

    /// Measure maqet against the least that could do the same work
    ///
    /// Builds for release and runs whole processes by turns with bare QEMU, qemu-img, the sqlite3 shell and small C
    /// programs, in a private folder. Prints a table of medians and writes it to docs/performance.md. Takes some
    /// minutes; the quieter the machine, the better.
    Bench(bench::Bench),

    /// Build the CLI that kills itself at a step it is told, for the killing tests
    ///
    /// It becomes `maqet-fault-points` beside the usual CLI, which stays as it is. `cargo xtask test` does this by
    /// itself.
    FaultPoints,

    /// Make up what people could write, and see that nothing panics, hangs or takes all memory
    ///
    /// Runs the targets of `fuzz/` with cargo-fuzz, each for ten minutes unless told otherwise, on one core. What they
    /// find is kept in `fuzz/corpus` and is where the next run begins.
    Fuzz(fuzz::Fuzz),

    /// Clean up after a chore that was interrupted; chores start it themselves
    #[command(hide = true)]
    Guard,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = Workspace::find().and_then(|workspace| match arguments.chore {
        Chore::Demo => demo::run(&workspace),
        Chore::Test(test) => test.run(&workspace),
        Chore::Guest(guest) => guest.run(&workspace),
        Chore::Bench(bench) => bench.run(&workspace),
        Chore::FaultPoints => fault_points::build(&workspace),
        Chore::Fuzz(fuzz) => fuzz.run(&workspace),
        Chore::Guard => guard::run(),
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
    fn test_arguments_definition_is_sound() {
        Arguments::command().debug_assert();
    }
}
