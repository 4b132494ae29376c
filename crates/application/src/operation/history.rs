//! `history`, `undo` and `redo`.

mod ls;
mod preview;
mod undo;

pub use self::ls::{HistoryLine, HistoryLs};
pub use self::undo::{Redo, Reverted, RevertedChange, Undo};
