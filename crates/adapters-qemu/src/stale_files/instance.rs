//! The QEMU processes with sockets in a runtime directory, found by their command lines.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use jiff::Timestamp;
use maqet_adapters_linux::process::{PidScope, command_line};
use maqet_domain::port::QemuInstance;
use maqet_domain::vm::{BootNumber, RunPaths, VmId};

use crate::hypervisor::find::{Candidate, options};

/// What the command line of a QEMU contains about its VM.
#[derive(Debug, PartialEq, Eq)]
struct InstanceArguments {
    short: String,
    boot: BootNumber,
    id: Option<VmId>,
    name: Option<String>,
}

impl InstanceArguments {
    /// Parses a command line whose arguments are terminated by NUL; `None` if it has no file below `runtime`.
    fn parse(runtime: &Path, command_line: &[u8]) -> Option<Self> {
        let arguments: Vec<&[u8]> = command_line.split(|byte| *byte == 0).collect();
        let mut run = None;
        let mut id = None;
        let mut name = None;
        for pair in arguments.windows(2) {
            match pair[0].strip_prefix(b"-").map(|option| option.strip_prefix(b"-").unwrap_or(option)) {
                Some(b"pidfile") => run = run.or_else(|| run_of(runtime, pair[1])),
                Some(b"chardev") => {
                    let paths = options(pair[1]).filter_map(|option| option.strip_prefix(b"path="));
                    let mut runs = paths.filter_map(|path| run_of(runtime, &with_single_commas(path)));
                    run = run.or_else(|| runs.next());
                }
                Some(b"uuid") => id = std::str::from_utf8(pair[1]).ok().and_then(|text| text.parse().ok()),
                Some(b"name") => name = guest_name(pair[1]),
                Some(_) | None => {}
            }
        }
        let (short, boot) = run?;
        Some(Self { short, boot, id, name })
    }
}

/// Returns the folder of the VM and the boot of a file `RUNTIME/SHORT/bN/…`.
fn run_of(runtime: &Path, file: &[u8]) -> Option<(String, BootNumber)> {
    let file = Path::new(OsStr::from_bytes(file));
    let mut parts = file.strip_prefix(runtime).ok()?.iter();
    let short = parts.next()?.to_str()?.to_owned();
    let boot = parts.next()?.to_str()?.strip_prefix('b')?.parse().ok()?;
    (parts.count() == 1).then_some((short, BootNumber(boot)))
}

/// Returns the name of the guest from the value of `-name`.
fn guest_name(value: &[u8]) -> Option<String> {
    let mut names = options(value).filter_map(|option| match option.strip_prefix(b"guest=") {
        Some(name) => Some(name),
        None => (!option.contains(&b'=')).then_some(option),
    });
    String::from_utf8(with_single_commas(names.next()?)).ok()
}

fn with_single_commas(bytes: &[u8]) -> Vec<u8> {
    let mut single = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter().peekable();
    while let Some(byte) = rest.next() {
        single.push(*byte);
        if *byte == b',' && rest.peek() == Some(&&b',') {
            rest.next();
        }
    }
    single
}

/// Returns the running QEMU processes that have their sockets below `runtime`, by folder and boot.
pub(super) fn all(runtime: &Path) -> Vec<QemuInstance> {
    let scope = PidScope::current();
    // A program that wraps QEMU has the same command line.
    let mut found: BTreeMap<(String, BootNumber), (Candidate, InstanceArguments)> = BTreeMap::new();
    for pid in scope.pids() {
        let Some(arguments) = InstanceArguments::parse(runtime, &command_line(pid)) else { continue };
        let Some(candidate) = Candidate::new(pid, &paths_of(runtime, &arguments), &scope) else { continue };
        let key = (arguments.short.clone(), arguments.boot);
        if found.get(&key).is_none_or(|(other, _)| *other < candidate) {
            found.insert(key, (candidate, arguments));
        }
    }
    let instance = |(candidate, arguments): (Candidate, InstanceArguments)| {
        let paths = paths_of(runtime, &arguments);
        let InstanceArguments { short, boot, id, name } = arguments;
        let (process, started_at) = (candidate.identity(&scope), Timestamp::UNIX_EPOCH);
        QemuInstance { process, short, id, name, boot, started_at, paths, is_foreign: false }
    };
    found.into_values().map(instance).collect()
}

fn paths_of(runtime: &Path, arguments: &InstanceArguments) -> RunPaths {
    let sockets = runtime.join(&arguments.short).join(format!("b{}", arguments.boot));
    RunPaths { records: sockets.clone(), sockets }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11";

    fn parse(arguments: &[&str]) -> Option<(String, u32, Option<String>, Option<String>)> {
        let found = InstanceArguments::parse(Path::new("/r,x"), arguments.join("\0").as_bytes())?;
        Some((found.short, found.boot.0, found.id.map(|id| id.to_string()), found.name))
    }

    #[test]
    fn test_parse_command_line_of_vm() {
        let found =
            parse(&["qemu", "-name", "guest=a,,b,debug-threads=on", "-uuid", ID, "-pidfile", "/r,x/ab/b7/q.pid"]);

        assert_eq!(found, Some(("ab".to_owned(), 7, Some(ID.to_owned()), Some("a,b".to_owned()))));
    }

    #[test]
    fn test_parse_other_pid_file_falls_back_to_monitor() {
        let found =
            parse(&["q", "-pidfile", "/tmp/x", "-chardev", "socket,id=qmp,path=/r,,x/ab/b7/qmp.sock,server=on"]);

        assert_eq!(found, Some(("ab".to_owned(), 7, None, None)));
    }

    #[test]
    fn test_parse_other_command_lines_are_none() {
        assert_eq!(parse(&["vi", "/r,x/ab/b7/qemu.pid"]), None);
        assert_eq!(parse(&["q", "-pidfile", "/r,x/ab/qemu.pid"]), None);
        assert_eq!(parse(&["q", "-pidfile", "/other/ab/b7/qemu.pid"]), None);
        assert_eq!(parse(&["q", "-pidfile", "/r,x/ab/b7/deeper/qemu.pid"]), None);
        assert_eq!(parse(&["q", "-pidfile"]), None);
    }

    proptest! {
        #[test]
        fn test_parse_any_bytes_do_not_panic(arguments in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = InstanceArguments::parse(Path::new("/r"), &arguments);
        }
    }
}
