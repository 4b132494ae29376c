//! The machine the races were run on, in words.

use std::path::Path;
use std::{fs, thread};

use crate::{program, workspace::Workspace};

/// What a reader has to know to compare numbers: a name and a value each.
///
/// `source` is where `binary` was built from, unless it came from somewhere else.
pub(crate) fn facts(source: Option<&Workspace>, binary: &Path) -> Vec<(&'static str, String)> {
    let size = fs::metadata(binary).map_or(0, |meta| meta.len());
    vec![
        ("date", said(&["date", "--utc", "+%Y-%m-%d"])),
        ("processor", processor(&read("/proc/cpuinfo"))),
        ("cores", thread::available_parallelism().map_or_else(|_| UNKNOWN.to_owned(), |cores| cores.to_string())),
        ("load before the run", read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")),
        ("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("file system", said(&["findmnt", "--noheadings", "--output", "FSTYPE", "--target", "/tmp"])),
        ("QEMU", said(&["qemu-system-x86_64", "--version"])),
        ("qemu-img", said(&["qemu-img", "--version"])),
        ("sqlite3", said(&["sqlite3", "--version"]).split(' ').take(1).collect()),
        (
            "maqet",
            format!(
                "{}, {}",
                said(&[&binary.display().to_string(), "--version"]),
                source.map_or_else(|| "not built from here".to_owned(), commit)
            ),
        ),
        ("its size", format!("{}.{} MB", size / 1_000_000, size / 100_000 % 10)),
    ]
}

const UNKNOWN: &str = "unknown";

fn commit(workspace: &Workspace) -> String {
    let folder = workspace.root().display().to_string();
    format!("commit {}", said(&["git", "-C", &folder, "describe", "--always", "--dirty"]))
}

/// Returns the first line of what a command prints.
fn said(words: &[&str]) -> String {
    let Some((name, arguments)) = words.split_first() else { return UNKNOWN.to_owned() };
    let output = program::output(program::command(name).args(arguments)).unwrap_or_default();
    output.lines().next().unwrap_or(UNKNOWN).to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn processor(cpuinfo: &str) -> String {
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or(UNKNOWN, |(_, name)| name.trim()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_processor_is_the_model_of_the_first_one() {
        assert_eq!(processor("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel\t: 1\n"), "Some CPU @ 2 GHz");
    }

    #[test]
    fn test_processor_of_a_stranger_is_unknown() {
        assert_eq!(processor(""), UNKNOWN);
    }

    #[test]
    fn test_said_missing_program_is_unknown() {
        assert_eq!(said(&["no-such-program-anywhere"]), UNKNOWN);
    }
}
