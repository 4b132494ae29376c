//! What the inner crates must not do: I/O, printing, exiting, keeping globals.
//!
//! Clippy refuses single functions and types (`clippy.toml`, and that of the crate); whole modules are refused here.

use crate::source::{Named, RustFile};
use crate::workspace::{crates, shipped};
use crate::{assert_none, found};

/// Modules that reach files, sockets and processes.
const WORLD: [&str; 10] = [
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::os",
    "std::path::absolute",
    "tokio::fs",
    "tokio::net",
    "tokio::process",
    "tokio::signal",
];

/// Clocks, sources of randomness and runtimes; the domain is given what it needs of them.
const AMBIENT: [&str; 5] = ["std::thread", "std::time::UNIX_EPOCH", "rand::random", "rand::rng", "tokio::time"];

/// Sleep that blocks the thread of other tasks, and a clock that tests cannot pause; tokio has both.
const BLOCKING: [&str; 2] = ["thread::sleep", "std::time::Instant"];

/// The macros of `std`, and those of other crates with the same names.
const PRINTING: [&str; 5] = ["print", "println", "eprint", "eprintln", "dbg"];

const STREAMS: [&str; 3] = ["io::stdout", "io::stderr", "io::stdin"];

/// Functions that read or change the environment of the process.
const ENVIRONMENT: [&str; 12] = [
    "env::var",
    "env::var_os",
    "env::vars",
    "env::vars_os",
    "env::set_var",
    "env::remove_var",
    "env::home_dir",
    "env::temp_dir",
    "env::current_dir",
    "env::set_current_dir",
    "env::args",
    "env::args_os",
];

/// What the CLI may read: its arguments, and the folder that paths from standard input are relative to.
const ENVIRONMENT_OF_THE_CLI: [&str; 2] = ["env::current_dir", "env::args_os"];

/// Types with interior mutability, besides those that begin with `Atomic`.
const CHANGEABLE: [&str; 9] =
    ["Cell", "LazyCell", "LazyLock", "Mutex", "Once", "OnceCell", "OnceLock", "RefCell", "RwLock"];

/// Returns what `is_forbidden` of a file, outside of tests.
fn findings(file: &RustFile, names: &[Named], is_forbidden: impl Fn(&Named) -> bool) -> Vec<String> {
    names.iter().filter(|named| !named.for_tests && is_forbidden(named)).map(|named| found(file, named)).collect()
}

fn uses(file: &RustFile, forbidden: &[&str]) -> Vec<String> {
    findings(file, &file.paths, |path| forbidden.iter().any(|wanted| goes_through(&path.name, wanted)))
}

/// Returns whether a path outside of the crate has the segments of `wanted`; a `*` may stand for any one of them.
fn goes_through(path: &str, wanted: &str) -> bool {
    let path: Vec<&str> = path.split("::").collect();
    let wanted: Vec<&str> = wanted.split("::").collect();
    let mut windows = path.windows(wanted.len());
    path[0] != "crate" && windows.any(|window| window.iter().zip(&wanted).all(|(a, b)| a == b || *a == "*"))
}

fn prints(file: &RustFile) -> Vec<String> {
    let printed = findings(file, &file.macros, |called| PRINTING.contains(&called.name.as_str()));
    [printed, uses(file, &STREAMS)].concat()
}

/// Returns whether a file decides the exit code of a process.
fn ends_a_process(file: &RustFile) -> bool {
    file.paths.iter().any(|path| path.name.contains("process::ExitCode") && !path.for_tests)
}

fn globals(file: &RustFile) -> Vec<String> {
    let changeable = |name: &str| name == "mut" || name.starts_with("Atomic") || CHANGEABLE.contains(&name);
    let statics = findings(file, &file.statics, |item| item.detail.split(' ').any(changeable));
    let lazy = findings(file, &file.macros, |item| ["lazy_static", "thread_local"].contains(&item.name.as_str()));
    [statics, lazy].concat()
}

fn shipped_except(names: &[&str]) -> Vec<&'static RustFile> {
    crates().iter().filter(|name| !names.contains(&name.as_str())).flat_map(|name| shipped(name)).collect()
}

fn all(files: &[&RustFile], rule: impl Fn(&RustFile) -> Vec<String>) -> Vec<String> {
    files.iter().flat_map(|file| rule(file)).collect()
}

#[test]
fn test_domain_reads_no_file_socket_process_or_environment() {
    assert_none("the domain does no I/O", &all(&shipped("domain"), |file| uses(file, &WORLD)));
}

#[test]
fn test_domain_clock_random_source_and_runtime_are_unused() {
    assert_none("the domain is given time and ids", &all(&shipped("domain"), |file| uses(file, &AMBIENT)));
}

#[test]
fn test_application_opens_no_file_socket_or_process() {
    assert_none("the application works through ports", &all(&shipped("application"), |file| uses(file, &WORLD)));
}

#[test]
fn test_nothing_blocks_or_uses_another_clock_than_tokios() {
    // The tasks have no runtime.
    let mut files = shipped_except(&["xtask"]);
    // It runs on the thread of a worker.
    files.retain(|file| file.path != "crates/adapters-sqlite/src/retry.rs");

    assert_none("tokio's is the only clock", &all(&files, |file| uses(file, &BLOCKING)));
}

#[test]
fn test_printing_happens_in_the_command_line_only() {
    assert_none("libraries do not print", &all(&shipped_except(&["cli", "xtask"]), prints));
}

#[test]
fn test_exiting_happens_by_returning_from_main_only() {
    let files = shipped_except(&[]);

    let enders: Vec<&str> = files.iter().filter(|file| ends_a_process(file)).map(|file| file.path.as_str()).collect();

    assert_eq!(enders, ["crates/cli/src/main.rs", "crates/cli/src/run.rs", "crates/xtask/src/main.rs"]);
}

#[test]
fn test_environment_is_read_in_one_file_only() {
    let mut files = shipped_except(&["cli", "xtask"]);
    files.retain(|file| file.path != "crates/maqet/src/environment.rs");
    let for_cli: Vec<&str> = ENVIRONMENT.into_iter().filter(|name| !ENVIRONMENT_OF_THE_CLI.contains(name)).collect();

    let findings = [all(&files, |file| uses(file, &ENVIRONMENT)), all(&shipped("cli"), |file| uses(file, &for_cli))];

    assert_none("only `crates/maqet/src/environment.rs` reads the environment", &findings.concat());
}

#[test]
fn test_globals_that_change_are_nowhere() {
    assert_none("there are no globals", &all(&shipped_except(&[]), globals));
}

#[track_caller]
fn check(rule: impl Fn(&RustFile) -> Vec<String>, text: &str, expected: &[&str]) {
    assert_eq!(rule(&RustFile::new("f", text)), expected, "{text}");
}

#[test]
fn test_uses_forbidden_path_in_any_form_is_found() {
    let world = |file: &RustFile| uses(file, &WORLD);

    check(world, "use std::{io, fs::File};", &["f:1: `std::fs::File`"]);
    check(world, "use std::*;", &["f:1: `std::*`"]);
    check(world, "fn f() { ::tokio::net::UnixStream::connect(p) }", &["f:1: `tokio::net::UnixStream::connect`"]);
    check(world, "fn f() { assert!(std::fs::exists(p)) }", &["f:1: `std::fs::exists`"]);
    check(world, "use std::time::Duration; // std::fs\nconst A: &str = \"std::net\";", &[]);
    check(world, "#[cfg(test)] mod tests { use std::fs; }", &[]);
}

#[test]
fn test_uses_clock_thread_or_runtime_is_found() {
    let ambient = |file: &RustFile| uses(file, &AMBIENT);

    check(ambient, "use std::time::{Duration, UNIX_EPOCH};", &["f:1: `std::time::UNIX_EPOCH`"]);
    check(ambient, "fn f() { std::thread::sleep(d) }", &["f:1: `std::thread::sleep`"]);
    check(ambient, "fn f() { Timestamp::UNIX_EPOCH }", &[]);
}

#[test]
fn test_uses_blocking_sleep_or_clock_is_found() {
    let blocking = |file: &RustFile| uses(file, &BLOCKING);

    check(blocking, "use std::thread; fn f() { thread::sleep(d) }", &["f:1: `thread::sleep`"]);
    check(blocking, "use std::time::{Duration, Instant};", &["f:1: `std::time::Instant`"]);
    check(blocking, "use tokio::time::{Instant, sleep}; fn f() { std::thread::current() }", &[]);
}

#[test]
fn test_prints_macro_or_stream_is_found() {
    check(prints, "\nfn f() { anstream::eprintln!(\"x\") }", &["f:2: `eprintln`"]);
    check(prints, "fn f() { std::io::stdout().write(b) }", &["f:1: `std::io::stdout`"]);
    check(prints, "/// println!(\"x\")\nfn f() { writeln!(out, \"println!()\") }", &[]);
}

#[test]
fn test_ends_a_process_exit_code_is_found() {
    assert!(ends_a_process(&RustFile::new("f", "fn main() -> std::process::ExitCode {}")));
    assert!(ends_a_process(&RustFile::new("f", "use std::{fmt, process::ExitCode};")));
    assert!(!ends_a_process(&RustFile::new("f", "use crate::exit::ExitCodes;")));
}

#[test]
fn test_environment_read_through_an_import_is_found() {
    let environment = |file: &RustFile| uses(file, &ENVIRONMENT);

    check(environment, "use std::env; fn f() { env::var_os(\"X\") }", &["f:1: `env::var_os`"]);
    check(environment, "use std::env::*;", &["f:1: `std::env::*`"]);
    check(environment, "fn f() { std::env::split_paths(path); env!(\"X\") }", &[]);
    check(environment, "use crate::env::*;", &[]);
}

#[test]
fn test_globals_static_that_changes_is_found() {
    check(globals, "static mut A: u8 = 1;", &["f:1: `A`"]);
    check(globals, "static A: OnceLock<Vec<u8>> = OnceLock::new();", &["f:1: `A`"]);
    check(globals, "pub static A: AtomicU64 = AtomicU64::new(0);", &["f:1: `A`"]);
    check(globals, "thread_local! { }", &["f:1: `thread_local`"]);
    check(globals, "static A: &'static str = \"Mutex\"; fn f(x: &'static Mutex<u8>) {}", &[]);
}
