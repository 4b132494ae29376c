//! The invariants of docs/architecture.md, as tests over the source text and `cargo metadata`.
//!
//! Most of them are absences ("the domain reads no clock"), which nobody sees by reading the code. Each rule is a pure
//! function over a text; beside it stands a sample that breaks the rule, so that a rule that never fails is noticed.

mod dependency;
mod document;
mod lexer;
mod path;
mod purity;
mod tidiness;
mod workspace;

/// Fails with every finding on a line of its own.
#[track_caller]
fn assert_none(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}
