//! What is work of the configuration: refusing what is wrong, and understanding what is large.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ground::{Ground, PRINT};
use super::race::{ended, timed};
use super::row::{Bar, Row};
use crate::Result;
use crate::failure::{Failure, OrFailure};

/// How many drives, and in how many milliseconds they have to be checked.
const DRIVES: [(usize, u64); 3] = [(10, 100), (1_000, 100), (10_000, 1_000)];

/// What whoever gives a wrong file is told by the exit code (docs/reference/exit-codes.md).
const WRONG_USAGE: i32 = 2;

pub(crate) fn config(ground: &Ground<'_>) -> Result<Vec<Row>> {
    let print = ground.compiled(PRINT)?;
    let mut rows = vec![broken(ground, &print)?];
    for (count, most) in DRIVES {
        let yaml = drives(count);
        let file = ground.home.write(format!("drives-{count}.yaml"), yaml);
        let race = ground.race(format!("`config check` of {count} drives"), "C program", Bar::Within(most));
        rows.push(race.run(
            |_| timed(ground.maqet([Path::new("config"), Path::new("check"), &file])),
            |_| timed(ground.other(&print, ["100"])),
        )?);
    }
    Ok(rows)
}

/// Races the slowest of all broken files, whichever it is in a round.
fn broken(ground: &Ground<'_>, print: &Path) -> Result<Row> {
    let mut cases = kept()?;
    cases.extend(made(ground).into_iter().map(|file| vec![file]));
    let work = format!("`config check`, the worst of {} broken files", cases.len());
    ground.race(work, "C program", Bar::Within(50)).run(
        |_| {
            let mut worst = Duration::ZERO;
            for files in &cases {
                let mut command = ground.maqet(["config", "check"]);
                command.args(files);
                worst = worst.max(ended(command, WRONG_USAGE)?.0);
            }
            Ok(worst)
        },
        |_| timed(ground.other(print, ["100"])),
    )
}

/// Returns the broken files of the tests; `NAME.over.yaml` belongs to `NAME.yaml`.
fn kept() -> Result<Vec<Vec<PathBuf>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/broken");
    let entries = fs::read_dir(&folder).or_failure(|| format!("cannot read `{}`", folder.display()))?;
    let mut cases = Vec::new();
    for entry in entries.flatten() {
        let file = entry.path();
        let name = file.to_string_lossy();
        if name.ends_with(".yaml") && !name.ends_with(".over.yaml") {
            let over = file.with_extension("over.yaml");
            cases.push([file, over].into_iter().filter(|path| path.exists()).collect());
        }
    }
    if cases.is_empty() { Err(Failure::new("the tests have no broken files")) } else { Ok(cases) }
}

/// Makes the broken files that no repository should hold.
fn made(ground: &Ground<'_>) -> Vec<PathBuf> {
    let write = |name: &str, content: Vec<u8>| ground.home.write(name, content);
    vec![
        write("binary.yaml", [&b"\x7fELF\x02\x01\x01"[..], &[0; 4096], &[0xff; 64]].concat()),
        write("latin-1.yaml", b"name: gr\xf6\xdfe\n".to_vec()),
        write("two-megabytes.yaml", format!("name: web\nlabels: {{a: {}}}\n", "x".repeat(2 << 20)).into_bytes()),
        write("deep.yaml", format!("name: web\nlabels: {}{}\n", "[".repeat(200), "]".repeat(200)).into_bytes()),
        write("thousand-drives.yaml", drives(1_000).replace("none", "virtio").into_bytes()),
    ]
}

/// Returns a configuration with so many drives that no bus has to have room for.
fn drives(count: usize) -> String {
    (0..count).fold("name: web\nstorage:\n".to_owned(), |mut yaml, number| {
        // Writing into a `String` cannot fail.
        let _ = writeln!(yaml, "  - {{name: d{number}, size: 1M, interface: none}}");
        yaml
    })
}
