//! The machine on which the comparisons ran.

use std::path::Path;
use std::{fs, thread};

use crate::{program, workspace::Workspace};

/// Returns what a reader needs to compare figures, as names and values.
///
/// `source` is the workspace that `binary` was built from, if it was.
pub(crate) fn facts(source: Option<&Workspace>, binary: &Path) -> Vec<(&'static str, String)> {
    let size = fs::metadata(binary).map_or(0, |meta| meta.len());
    vec![
        ("date", first_line_of(&["date", "--utc", "+%Y-%m-%d"])),
        ("processor", processor(&read("/proc/cpuinfo"))),
        ("cores", thread::available_parallelism().map_or_else(|_| UNKNOWN.to_owned(), |cores| cores.to_string())),
        ("load before the run", read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")),
        ("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("file system", first_line_of(&["findmnt", "--noheadings", "--output", "FSTYPE", "--target", "/tmp"])),
        ("QEMU", first_line_of(&["qemu-system-x86_64", "--version"])),
        ("qemu-img", first_line_of(&["qemu-img", "--version"])),
        ("sqlite3", first_line_of(&["sqlite3", "--version"]).split(' ').take(1).collect()),
        (
            "maqet",
            format!(
                "{}, {}",
                first_line_of(&[&binary.display().to_string(), "--version"]),
                source.map_or_else(|| "built elsewhere".to_owned(), commit)
            ),
        ),
        ("binary size", format!("{}.{} MB", size / 1_000_000, size / 100_000 % 10)),
    ]
}

const UNKNOWN: &str = "unknown";

fn commit(workspace: &Workspace) -> String {
    let folder = workspace.root().display().to_string();
    format!("commit {}", first_line_of(&["git", "-C", &folder, "describe", "--always", "--dirty"]))
}

/// Returns the first line that a command prints.
fn first_line_of(command: &[&str]) -> String {
    let Some((name, arguments)) = command.split_first() else { return UNKNOWN.to_owned() };
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
    fn test_processor_several_is_the_model_of_the_first() {
        assert_eq!(processor("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel\t: 1\n"), "Some CPU @ 2 GHz");
    }

    #[test]
    fn test_processor_without_a_model_is_unknown() {
        assert_eq!(processor(""), UNKNOWN);
    }

    #[test]
    fn test_first_line_of_missing_program_is_unknown() {
        assert_eq!(first_line_of(&["no-such-program-anywhere"]), UNKNOWN);
    }
}
