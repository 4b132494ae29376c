//! How the command line shows mistakes: its own files, as a program gives nobody its modules.

#[path = "../../crates/cli/src/render/sanitize.rs"]
#[expect(dead_code, reason = "the command line has more to show than mistakes")]
mod sanitize;
#[path = "../../crates/cli/src/render/snippet.rs"]
pub(crate) mod snippet;
