//! Why changes are not reverted.

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::history::{Direction, Irreversible, Unexpected};
use maqet_domain::vm::VmName;

use crate::Error;

/// Why changes are not reverted.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
#[non_exhaustive]
pub enum HistoryError {
    #[error("nothing to {direction}{}", of_vm(vm.as_deref()))]
    NothingLeft { direction: Direction, vm: Option<String> },
    #[error("no change with the number {sequence} can be undone")]
    EntryNotFound { sequence: i64 },
    /// An undo of it would need what is gone.
    #[error("cannot {direction} change {sequence}, `{operation}`{}: {}", of_vm(vm.as_deref()), reason.reason())]
    Irreversible { direction: Direction, sequence: i64, operation: String, vm: Option<String>, reason: Irreversible },
    /// The change itself was reverted in part or replaced by others.
    #[error("cannot {direction} change {sequence}, `{operation}`{}", of_vm(vm.as_deref()))]
    Failed { direction: Direction, sequence: i64, operation: String, vm: Option<String>, source: Box<Error> },
    /// What is there is not what the change left.
    #[error(transparent)]
    Unexpected(#[from] Unexpected),
    #[error("{direction} stopped after {done} of {count} changes")]
    Stopped { direction: Direction, done: usize, count: u32, source: Box<Error> },
}

fn of_vm(vm: Option<&str>) -> String {
    vm.map(|vm| format!(" of VM `{vm}`")).unwrap_or_default()
}

fn hint_of(unexpected: &Unexpected) -> Option<String> {
    let restore = |vm: &VmName| format!("stop it first: `maqet stop {vm}`");
    match unexpected {
        Unexpected::Running { vm } => Some(restore(vm)),
        Unexpected::NameTaken { name } => Some(format!("remove the other VM first: `maqet rm {name}`")),
        Unexpected::Redefined { vm } => Some(format!("show what was changed with `maqet history --vm {vm}`")),
        Unexpected::PathTaken { .. } => Some("move that file away first".to_owned()),
        Unexpected::Removed { .. }
        | Unexpected::Started { .. }
        | Unexpected::NeverStarted { .. }
        | Unexpected::ImageGone { .. }
        | Unexpected::ImageReplaced { .. }
        | Unexpected::ImageChanged { .. }
        | Unexpected::ImageTaken { .. }
        | Unexpected::ImageResized { .. }
        | Unexpected::SnapshotGone { .. }
        | Unexpected::SnapshotReplaced { .. }
        | Unexpected::TrashEntryGone { .. } => None,
    }
}

impl Explain for HistoryError {
    fn explain(&self) -> Explanation {
        const SHOW: &str = "show the changes with `maqet history`";

        match self {
            Self::NothingLeft { .. } => Explanation::new("history.change-not-found", Fault::State).hint(SHOW),
            Self::EntryNotFound { .. } => Explanation::new("history.entry-not-found", Fault::NotFound).hint(SHOW),
            Self::Irreversible { .. } => Explanation::new("history.undo-unsupported", Fault::State)
                .hint("undo an earlier change by its number, as `maqet history` shows it: `maqet undo --entry NUMBER`"),
            Self::Unexpected(unexpected) => {
                let explanation = Explanation::new("history.undo-conflict", Fault::State);
                match hint_of(unexpected) {
                    Some(hint) => explanation.hint(hint),
                    None => explanation.hint(SHOW),
                }
            }
            Self::Failed { source, .. } | Self::Stopped { source, .. } => source.explain(),
        }
    }
}
