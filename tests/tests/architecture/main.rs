//! The invariants of docs/architecture.md, as tests over the source text and `cargo metadata`.
//!
//! Most are absences ("the domain reads no clock"), which a reader of the code cannot see. Each rule is a pure function
//! over a text, next to a sample that breaks it. What clippy can check by type is in `clippy.toml` of the crate.

mod cycle;
mod dependency;
mod document;
mod lint;
mod purity;
mod sent;
mod source;
mod tidiness;
mod wording;
mod workspace;

use crate::source::{Named, RustFile};

/// Fails and lists the findings, one per line.
#[track_caller]
fn assert_none(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

/// Formats a finding.
fn found(file: &RustFile, named: &Named) -> String {
    format!("{}:{}: `{}`", file.path, named.line, named.name)
}
