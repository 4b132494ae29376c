//! Work of the configuration: rejecting invalid files, and reading large ones.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::compare::{output_with_code, timed};
use super::env::{Env, PRINT};
use super::row::{Bar, Row};
use crate::Result;
use crate::failure::{Failure, OrFailure};

/// Numbers of drives, and the milliseconds within which they have to be checked.
const DRIVES: [(usize, u64); 3] = [(10, 100), (1_000, 100), (10_000, 1_000)];

/// The exit code for an invalid configuration (docs/reference/exit-codes.md).
const INVALID: i32 = 2;

pub(crate) fn config(env: &Env<'_>) -> Result<Vec<Row>> {
    let print = env.compiled(PRINT)?;
    let mut rows = vec![broken(env, &print)?];
    for (count, most) in DRIVES {
        let yaml = drives(count);
        let file = env.home.write(format!("drives-{count}.yaml"), yaml);
        let comparison = env.compare(format!("`config check` of {count} drives"), "C program", Bar::Within(most));
        rows.push(comparison.run(
            |_| timed(env.maqet([Path::new("config"), Path::new("check"), &file])),
            |_| timed(env.other(&print, ["100"])),
        )?);
    }
    Ok(rows)
}

/// Measures the slowest of all broken files in each round.
fn broken(env: &Env<'_>, print: &Path) -> Result<Row> {
    let mut cases = test_data()?;
    cases.extend(generated(env).into_iter().map(|file| vec![file]));
    let work = format!("`config check`, the worst of {} broken files", cases.len());
    env.compare(work, "C program", Bar::Within(50)).run(
        |_| {
            let mut worst = Duration::ZERO;
            for files in &cases {
                let mut command = env.maqet(["config", "check"]);
                command.args(files);
                worst = worst.max(output_with_code(command, INVALID)?.0);
            }
            Ok(worst)
        },
        |_| timed(env.other(print, ["100"])),
    )
}

/// Returns the broken files of the tests; `NAME.over.yaml` belongs to `NAME.yaml`.
fn test_data() -> Result<Vec<Vec<PathBuf>>> {
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

/// Writes broken files that are too large or binary for the repository.
fn generated(env: &Env<'_>) -> Vec<PathBuf> {
    let write = |name: &str, content: Vec<u8>| env.home.write(name, content);
    vec![
        write("binary.yaml", [&b"\x7fELF\x02\x01\x01"[..], &[0; 4096], &[0xff; 64]].concat()),
        write("latin-1.yaml", b"name: gr\xf6\xdfe\n".to_vec()),
        write("two-megabytes.yaml", format!("name: web\nlabels: {{a: {}}}\n", "x".repeat(2 << 20)).into_bytes()),
        write("deep.yaml", format!("name: web\nlabels: {}{}\n", "[".repeat(200), "]".repeat(200)).into_bytes()),
        write("thousand-drives.yaml", drives(1_000).replace("none", "virtio").into_bytes()),
    ]
}

/// Returns a configuration with `count` drives, attached to no bus.
fn drives(count: usize) -> String {
    (0..count).fold("name: web\nstorage:\n".to_owned(), |mut yaml, number| {
        // Writing into a `String` cannot fail.
        let _ = writeln!(yaml, "  - {{name: d{number}, size: 1M, interface: none}}");
        yaml
    })
}
