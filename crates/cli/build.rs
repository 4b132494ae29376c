//! Asks the linker to pack the addresses that the program corrects when it starts.
//!
//! A static, position-independent program has thousands of them, of 24 bytes each; packed (`DT_RELR`), they are a hundredth
//! of that, and take a third less instructions (docs/adr/0031). The C library that is linked has to support it: glibc
//! does from version 2.36 on.

use std::env;
use std::process::Command;

/// The first version of glibc whose static programs process packed relocations.
const SINCE: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found.split(',').any(|part| part == value));
    let is_static_glibc = is("CARGO_CFG_TARGET_ENV", "gnu") && is("CARGO_CFG_TARGET_FEATURE", "crt-static");
    // Of another system, only the C library of its sysroot would tell.
    let is_native = env::var("HOST") == env::var("TARGET");
    if is_static_glibc && is_native && glibc().is_some_and(|version| version >= SINCE) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Returns the version of this host's glibc.
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
