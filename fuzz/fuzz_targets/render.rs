//! How the command line shows errors. Its files are included, because a program exports no modules.

#[path = "../../crates/cli/src/render/sanitize.rs"]
#[expect(dead_code, reason = "the command line shows more than errors")]
mod sanitize;
#[path = "../../crates/cli/src/render/snippet.rs"]
pub(crate) mod snippet;
