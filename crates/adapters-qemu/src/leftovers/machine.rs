//! The QEMUs of a runtime folder, found by their command lines.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use maqet_adapters_linux::process::{boot_id, stat_of};
use maqet_domain::port::QemuInstance;
use maqet_domain::vm::{BootNumber, ProcessIdentity, RunPaths, VmId};

use crate::hypervisor::find::{Likeness, options, runs_qemu};

/// What a command line tells of the machine.
#[derive(Debug, PartialEq, Eq)]
struct Words {
    short: String,
    boot: BootNumber,
    id: Option<VmId>,
    name: Option<String>,
}

impl Words {
    /// Reads a command line whose arguments each end with a NUL; `None` if it has no socket below `runtime`.
    fn read(runtime: &Path, arguments: &[u8]) -> Option<Self> {
        let words: Vec<&[u8]> = arguments.split(|byte| *byte == 0).collect();
        let mut place = None;
        let (mut id, mut name) = (None, None);
        for pair in words.windows(2) {
            match pair[0].strip_prefix(b"-").map(|switch| switch.strip_prefix(b"-").unwrap_or(switch)) {
                Some(b"pidfile") => place = place.or_else(|| place_of(runtime, pair[1])),
                Some(b"chardev") => {
                    let paths = options(pair[1]).filter_map(|option| option.strip_prefix(b"path="));
                    let mut paths = paths.filter_map(|path| place_of(runtime, &with_single_commas(path)));
                    place = place.or_else(|| paths.next());
                }
                Some(b"uuid") => id = std::str::from_utf8(pair[1]).ok().and_then(|text| text.parse().ok()),
                Some(b"name") => name = name_in(pair[1]),
                Some(_) | None => {}
            }
        }
        let (short, boot) = place?;
        Some(Self { short, boot, id, name })
    }
}

/// Returns the folder of the VM and the boot of a file `RUNTIME/SHORT/bN/…`.
fn place_of(runtime: &Path, file: &[u8]) -> Option<(String, BootNumber)> {
    let file = Path::new(std::ffi::OsStr::from_bytes(file));
    let mut parts = file.strip_prefix(runtime).ok()?.iter();
    let short = parts.next()?.to_str()?.to_owned();
    let boot = parts.next()?.to_str()?.strip_prefix('b')?.parse().ok()?;
    (parts.count() == 1).then_some((short, BootNumber(boot)))
}

/// Returns the guest's name from the value of `-name`.
fn name_in(value: &[u8]) -> Option<String> {
    let mut given = options(value).filter_map(|option| match option.strip_prefix(b"guest=") {
        Some(name) => Some(name),
        None => (!option.contains(&b'=')).then_some(option),
    });
    String::from_utf8(with_single_commas(given.next()?)).ok()
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

/// Returns the machines that live and have their sockets below `runtime`, by folder and boot.
pub(super) fn all(runtime: &Path) -> Vec<QemuInstance> {
    let us = rustix::process::geteuid().as_raw();
    let boot = boot_id();
    // A program that wraps QEMU has the same words.
    let mut likeliest: BTreeMap<(String, BootNumber), (Likeness, Words)> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(arguments) = fs::read(entry.path().join("cmdline")) else { continue };
        let Some(words) = Words::read(runtime, &arguments) else { continue };
        let Some(stat) = stat_of(pid).filter(|stat| stat.is_alive()) else { continue };
        if !entry.metadata().is_ok_and(|found| found.uid() == us) {
            continue;
        }
        let is_in_pid_file = pid_in(&sockets_of(runtime, &words)) == Some(pid);
        let likeness = Likeness { is_in_pid_file, runs_qemu: runs_qemu(pid), start_ticks: stat.start_ticks, pid };
        let key = (words.short.clone(), words.boot);
        match likeliest.get(&key) {
            Some((other, _)) if *other >= likeness => {}
            Some(_) | None => drop(likeliest.insert(key, (likeness, words))),
        }
    }
    let machine = |(likeness, words): (Likeness, Words)| {
        let sockets = sockets_of(runtime, &words);
        let process = ProcessIdentity { pid: likeness.pid, start_ticks: likeness.start_ticks, boot_id: boot.clone() };
        let paths = RunPaths { records: sockets.clone(), sockets };
        let Words { short, boot, id, name } = words;
        QemuInstance { process, short, id, name, boot, started_at: Timestamp::UNIX_EPOCH, paths, is_foreign: false }
    };
    likeliest.into_values().map(machine).collect()
}

fn sockets_of(runtime: &Path, words: &Words) -> PathBuf {
    runtime.join(&words.short).join(format!("b{}", words.boot))
}

fn pid_in(sockets: &Path) -> Option<u32> {
    let paths = RunPaths { sockets: sockets.to_owned(), records: PathBuf::new() };
    fs::read_to_string(paths.pid_file()).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11";

    fn read(arguments: &[&str]) -> Option<(String, u32, Option<String>, Option<String>)> {
        let words = Words::read(Path::new("/r,x"), arguments.join("\0").as_bytes())?;
        Some((words.short, words.boot.0, words.id.map(|id| id.to_string()), words.name))
    }

    #[test]
    fn test_words_of_a_machine_tell_its_vm() {
        let found =
            read(&["qemu", "-name", "guest=a,,b,debug-threads=on", "-uuid", ID, "-pidfile", "/r,x/ab/b7/q.pid"]);

        assert_eq!(found, Some(("ab".to_owned(), 7, Some(ID.to_owned()), Some("a,b".to_owned()))));
    }

    #[test]
    fn test_words_of_a_machine_with_a_pid_file_elsewhere_are_in_its_monitor() {
        let found = read(&["q", "-pidfile", "/tmp/x", "-chardev", "socket,id=qmp,path=/r,,x/ab/b7/qmp.sock,server=on"]);

        assert_eq!(found, Some(("ab".to_owned(), 7, None, None)));
    }

    #[test]
    fn test_words_of_anything_else_are_none() {
        assert_eq!(read(&["vi", "/r,x/ab/b7/qemu.pid"]), None);
        assert_eq!(read(&["q", "-pidfile", "/r,x/ab/qemu.pid"]), None);
        assert_eq!(read(&["q", "-pidfile", "/other/ab/b7/qemu.pid"]), None);
        assert_eq!(read(&["q", "-pidfile", "/r,x/ab/b7/deeper/qemu.pid"]), None);
        assert_eq!(read(&["q", "-pidfile"]), None);
    }

    proptest! {
        #[test]
        fn test_words_any_bytes_never_panic(arguments in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Words::read(Path::new("/r"), &arguments);
        }
    }
}
