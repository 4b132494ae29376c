//! Text: shell quoting, glob patterns, suggestions for mistyped names, and values shortened for messages.

mod glob;
mod quote;
mod shorten;
mod suggest;

pub use self::glob::glob_matches;
pub use self::quote::quote;
pub use self::shorten::shortened;
pub use self::suggest::{did_you_mean, similar};
