//! Text: escaping and shortening, shell quoting, glob patterns, hashes, suggestions for mistyped names.

mod checked;
mod escape;
mod glob;
mod hash;
mod quote;
mod suggest;

pub(crate) use self::checked::checked_text;
pub use self::escape::{
    escape_control, escaped, is_control, quoted_list, replace_control, shortened, truncated, without_escape_sequences,
};
pub use self::glob::glob_matches;
pub use self::hash::stable_hash;
pub use self::quote::quote;
pub use self::suggest::{did_you_mean, similar, similar_or_foreign};
