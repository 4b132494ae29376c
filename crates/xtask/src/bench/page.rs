//! The page with the table.

use std::fmt::Write;

use super::row::{Row, table};

const BEFORE: &str = "\
# Performance

Written by `cargo xtask bench`; do not edit by hand.

Each line of the table is one piece of work, done by `maqet` and by the least that can do it, the *limit*: QEMU without
anything around it, `qemu-img`, the `sqlite3` shell, or a few lines of C. Times are medians of whole processes in
milliseconds, with the 10th and 90th percentile in parentheses. They drift from machine to machine, and with whatever
else a machine does at the time; what counts is the ratio or the difference, and the bar it has to meet.
";

const AFTER: &str = "\
## What is measured, and how

The release build runs as a user would run it: copied as `cargo install` does, a new process for each command, its output
read from a pipe to the end, measured from before its spawn until it was waited for. One run of ours and one of the limit
take turns, so that noise meets both; two rounds of warm-up do not count. Everything happens in one private folder of
/tmp, with an environment of its own, and software emulation only.

- **`ls`, `status`**: stores of defined VMs that do not run. One of them is made by `maqet add`, the others are copies of
  its row made by SQL. The limit is the `sqlite3` shell that selects and prints the same columns of the same rows, as
  lists or as JSON, dates made readable.
- **`add`**: one VM from a YAML file into a store that is there. The limit is a C program that writes 300 bytes to a file,
  calls `fsync` and renames it. At once: eight threads run 50 such processes each, into a store that does not exist
  before, and afterwards all 400 VMs are counted, which is not measured. Of these there are a quarter as many rounds.
- **`start`**: a VM with 32 MiB, no disk and a CPU that runs. The limit is QEMU with the same command line, as
  `maqet info --command-line` tells it, its folders and FIFO made beforehand, until its command monitor has greeted,
  negotiated, and answered `query-status` with `running`. Of ours the same is seen on the monitor that maqet leaves
  free.
- **`qmp`**: `query-status` of a VM that `-S` keeps from running. The limit is a C program that connects to the same
  monitor, reads the greeting, negotiates, asks, prints and exits. On one session: the example `one_session` of the
  library, and the same C program, which then enables out-of-band execution as maqet does; both measure the commands
  alone, without the connecting.
- **`stop --force`**: of the VM that `start` starts. The limit is SIGKILL and waiting on a pidfd by the benchmark itself,
  so it has no process to start.
- **`snapshot`**: of a qcow2 image of 64 MiB with three snapshots, the VM not running; what is created is removed
  before the next round. The limit works on a copy of the image.
- **`config check`**: the broken files are those of the tests and five made for it (binary, Latin-1, 2 MB, 200 deep, 1000
  drives on one bus); of each round the slowest counts, and every one has to end with exit code 2. The drives are
  attached to no bus, so that all are right. The limit is the C program of `--help`, as there is nothing else to do.
- **`--help`**: the limit is a C program that prints as many bytes.
";

/// Writes the page.
pub(crate) fn page(command: &str, facts: &[(&str, String)], rows: &[Row]) -> String {
    let mut text = format!("{BEFORE}\n{}\n", table(rows));
    let missed = rows.iter().filter(|row| !row.is_met()).count();
    // Writing into a `String` cannot fail.
    let _ = writeln!(text, "{} of {} bars are met. The table comes from:\n", rows.len() - missed, rows.len());
    let _ = writeln!(text, "```sh\n{command}\n```\n\non this machine:\n\n| | |\n|---|---|");
    for (name, value) in facts {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    format!("{text}\n{AFTER}")
}
