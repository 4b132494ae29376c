//! What the inner crates refuse to do: read the world, print, exit, keep globals.

use crate::assert_none;
use crate::lexer::Token;
use crate::path::{Named, bare_methods, goes_through, macros, paths};
use crate::workspace::{RustFile, crates, shipped};

/// What reads or changes files, sockets and processes.
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

/// Methods of `Path` that ask the file system.
const WORLDLY_METHODS: [&str; 9] = [
    "canonicalize",
    "exists",
    "is_dir",
    "is_file",
    "is_symlink",
    "metadata",
    "read_dir",
    "read_link",
    "symlink_metadata",
];

/// What tells the time, rolls dice, or needs a runtime; the domain is given all of it.
const FLEETING: [&str; 11] = [
    "std::time::SystemTime",
    "std::time::Instant",
    "std::time::UNIX_EPOCH",
    "std::thread",
    "Timestamp::now",
    "Zoned::now",
    "Uuid::new_v4",
    "Uuid::now_v7",
    "rand::random",
    "rand::rng",
    "tokio::time",
];

const PRINTING: [&str; 5] = ["print", "println", "eprint", "eprintln", "dbg"];

const STREAMS: [&str; 3] = ["io::stdout", "io::stderr", "io::stdin"];

const EXITS: [&str; 2] = ["process::exit", "process::abort"];

/// What reads or changes the environment of the process.
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

/// What the command line may read of it: its own words, and the folder that `-` stands in.
const ENVIRONMENT_OF_THE_CLI: [&str; 2] = ["env::current_dir", "env::args_os"];

/// Types that change behind a shared reference; those that begin with `Atomic` are meant too.
const CHANGEABLE: [&str; 9] =
    ["Cell", "LazyCell", "LazyLock", "Mutex", "Once", "OnceCell", "OnceLock", "RefCell", "RwLock"];

fn told(file: &RustFile, named: &Named) -> String {
    format!("{}:{}: `{}`", file.path, named.line, named.name)
}

fn uses(file: &RustFile, forbidden: &[&str]) -> Vec<String> {
    let found = paths(&file.code);
    let is_forbidden = |named: &&Named| forbidden.iter().any(|wanted| goes_through(&named.name, wanted));
    found.iter().filter(is_forbidden).map(|named| told(file, named)).collect()
}

fn asks_the_file_system(file: &RustFile) -> Vec<String> {
    let found = bare_methods(&file.code);
    found.iter().filter(|named| WORLDLY_METHODS.contains(&named.name.as_str())).map(|named| told(file, named)).collect()
}

fn prints(file: &RustFile) -> Vec<String> {
    let found = macros(&file.code);
    let printed = found.iter().filter(|named| PRINTING.contains(&named.name.as_str())).map(|named| told(file, named));
    printed.chain(uses(file, &STREAMS)).collect()
}

fn exits(file: &RustFile) -> Vec<String> {
    uses(file, &EXITS)
}

/// Returns the files that decide the exit code of a process.
fn ends_a_process(file: &RustFile) -> bool {
    file.code.iter().any(|token| token.is_word("ExitCode"))
}

fn globals(file: &RustFile) -> Vec<String> {
    let lazy = macros(&file.code);
    let by_macro = lazy.iter().filter(|named| ["lazy_static", "thread_local"].contains(&named.name.as_str()));
    let mut findings: Vec<String> = by_macro.map(|named| told(file, named)).collect();
    for (at, token) in file.code.iter().enumerate() {
        if token.is_word("static") && is_changeable(&file.code[at + 1..]) {
            let name = file.code[at + 1..].iter().find_map(Token::word).unwrap_or_default();
            findings.push(format!("{}:{}: static `{name}`", file.path, token.line));
        }
    }
    findings
}

/// Returns whether the static whose declaration goes on with `rest` can change.
fn is_changeable(rest: &[Token]) -> bool {
    let declaration = rest.iter().take_while(|token| !token.is_mark('=') && !token.is_mark(';'));
    declaration
        .filter_map(Token::word)
        .any(|word| word == "mut" || word.starts_with("Atomic") || CHANGEABLE.contains(&word))
}

fn shipped_except(names: &[&str]) -> Vec<RustFile> {
    crates().iter().filter(|name| !names.contains(&name.as_str())).flat_map(|name| shipped(name)).collect()
}

fn all(files: &[RustFile], rule: impl Fn(&RustFile) -> Vec<String>) -> Vec<String> {
    files.iter().flat_map(rule).collect()
}

#[test]
fn test_domain_reads_no_file_socket_process_or_environment() {
    let domain = shipped("domain");

    assert_none(
        "the domain does no I/O",
        &all(&domain, |file| [uses(file, &WORLD), asks_the_file_system(file)].concat()),
    );
}

#[test]
fn test_domain_reads_no_clock_and_no_random_source_and_needs_no_runtime() {
    assert_none("the domain is given time and ids", &all(&shipped("domain"), |file| uses(file, &FLEETING)));
}

#[test]
fn test_application_opens_no_file_socket_or_process() {
    let application = shipped("application");

    assert_none(
        "the application works through ports",
        &all(&application, |file| [uses(file, &WORLD), asks_the_file_system(file)].concat()),
    );
}

#[test]
fn test_printing_happens_in_the_command_line_only() {
    assert_none("libraries do not print", &all(&shipped_except(&["cli", "xtask"]), prints));
}

#[test]
fn test_exiting_happens_by_returning_from_main_only() {
    assert_none("nobody calls `exit`", &all(&shipped_except(&[]), exits));

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
    let findings = rule(&RustFile::of("f", text));
    assert_eq!(findings, expected, "{text}");
}

#[test]
fn test_uses_forbidden_path_in_any_form_is_found() {
    let world = |file: &RustFile| uses(file, &WORLD);

    check(world, "use std::{io, fs::File};", &["f:1: `std::fs::File`"]);
    check(world, "fn f() { ::tokio::net::UnixStream::connect(p) }", &["f:1: `tokio::net::UnixStream::connect`"]);
    check(world, "use std::time::Duration; // std::fs\nconst A: &str = \"std::net\";", &[]);
    check(world, "#[cfg(test)] mod tests { use std::fs; }", &[]);
    check(asks_the_file_system, "if path.exists() { images.exists(&path) }", &["f:1: `exists`"]);
}

#[test]
fn test_uses_clock_behind_a_type_is_found() {
    let fleeting = |file: &RustFile| uses(file, &FLEETING);

    check(fleeting, "jiff::Timestamp::now()", &["f:1: `jiff::Timestamp::now`"]);
    check(fleeting, "use std::time::{Duration, Instant};", &["f:1: `std::time::Instant`"]);
    check(fleeting, "Timestamp::UNIX_EPOCH", &[]);
}

#[test]
fn test_prints_macro_or_stream_is_found() {
    check(prints, "\nanstream::eprintln!(\"x\")", &["f:2: `eprintln`"]);
    check(prints, "std::io::stdout().write(b)", &["f:1: `std::io::stdout`"]);
    check(prints, "/// println!(\"x\")\nwriteln!(out, \"println!()\")", &[]);
}

#[test]
fn test_exits_call_is_found() {
    check(exits, "use std::process; fn f() { process::exit(1) }", &["f:1: `process::exit`"]);
    assert!(ends_a_process(&RustFile::of("f", "fn main() -> std::process::ExitCode {}")));
}

#[test]
fn test_environment_read_through_an_import_is_found() {
    let environment = |file: &RustFile| uses(file, &ENVIRONMENT);

    check(environment, "use std::env; fn f() { env::var_os(\"X\") }", &["f:1: `env::var_os`"]);
    check(environment, "use std::env::*;", &["f:1: `std::env::*`"]);
    check(environment, "std::env::split_paths(path); env!(\"X\")", &[]);
}

#[test]
fn test_globals_static_that_changes_is_found() {
    check(globals, "static mut A: u8 = 1;", &["f:1: static `mut`"]);
    check(globals, "static A: OnceLock<Vec<u8>> = OnceLock::new();", &["f:1: static `A`"]);
    check(globals, "pub static A: AtomicU64 = AtomicU64::new(0);", &["f:1: static `A`"]);
    check(globals, "thread_local! { }", &["f:1: `thread_local`"]);
    check(globals, "static A: &'static str = \"Mutex\"; fn f(x: &'static Mutex<u8>) {}", &[]);
}
