//! Which entry is undone or redone next.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{EntryKind, RecordedHistory};

/// Back or forth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Direction {
    /// Changes are reverted.
    Undo,
    /// Undos are reverted.
    Redo,
}

impl Direction {
    /// Returns the kind of the entries that it adds.
    pub const fn kind(self) -> EntryKind {
        match self {
            Self::Undo => EntryKind::Undo,
            Self::Redo => EntryKind::Redo,
        }
    }
}

/// Finds the entries that are reverted next, one after another, among entries that are read from the newest on.
///
/// ```text
/// 1 add      2 apply    3 undo of 2    4 redo of 3    5 undo of 4    6 undo of 1
/// ```
///
/// Here a redo reverts 6, then 5: the newest undo first. An undo finds nothing: 1 and 4 are reverted, 2 is, too, 3, 5 and
/// 6 are undos. A new change after 6 would leave nothing to redo.
#[derive(Debug, Clone)]
pub struct NextChange {
    direction: Direction,
    reverted: BTreeSet<i64>,
    has_ended: bool,
}

impl NextChange {
    /// Looks for entries in a direction.
    pub const fn new(direction: Direction) -> Self {
        Self { direction, reverted: BTreeSet::new(), has_ended: false }
    }

    /// Returns whether no entry that is older can be next.
    pub const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Takes the next older entry; returns whether it is to be reverted.
    pub fn accepts(&mut self, recorded: &RecordedHistory) -> bool {
        let RecordedHistory { sequence, entry } = recorded;
        self.reverted.extend(entry.reverts);
        let is_reverted = self.reverted.contains(sequence);
        match (self.direction, entry.kind) {
            (_, EntryKind::Note) | (Direction::Undo, EntryKind::Undo) | (Direction::Redo, EntryKind::Redo) => false,
            (Direction::Undo, EntryKind::Work | EntryKind::Redo) | (Direction::Redo, EntryKind::Undo) => {
                !self.has_ended && !is_reverted
            }
            (Direction::Redo, EntryKind::Work) => {
                self.has_ended = true;
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::{Actor, Call, HistoryEntry};
    use super::*;

    fn entry(sequence: i64, kind: EntryKind, reverts: Option<i64>) -> RecordedHistory {
        let entry = HistoryEntry {
            at: Timestamp::UNIX_EPOCH,
            actor: Actor { user: "u".to_owned(), host: "h".to_owned(), pid: 1 },
            vm: None,
            vm_name: None,
            kind,
            call: Call { operation: "x".to_owned(), arguments: Value::Null },
            inverse: None,
            irreversible: None,
            reverts,
        };
        RecordedHistory { sequence, entry }
    }

    fn next(direction: Direction, log: &[RecordedHistory]) -> Option<i64> {
        let mut next = NextChange::new(direction);
        log.iter().rev().find(|entry| next.accepts(entry)).map(|entry| entry.sequence)
    }

    #[test]
    fn test_next_change_after_undos_of_a_redo_is_as_documented() {
        use EntryKind::{Redo, Undo, Work};
        let log = [
            entry(1, Work, None),
            entry(2, Work, None),
            entry(3, Undo, Some(2)),
            entry(4, Redo, Some(3)),
            entry(5, Undo, Some(4)),
            entry(6, Undo, Some(1)),
        ];

        assert_eq!(next(Direction::Undo, &log), None);
        assert_eq!(next(Direction::Redo, &log), Some(6));
        assert_eq!(next(Direction::Redo, &[&log[..], &[entry(7, Redo, Some(6))]].concat()), Some(5));
        assert_eq!(next(Direction::Redo, &[&log[..], &[entry(7, Work, None)]].concat()), None);
        assert_eq!(next(Direction::Redo, &[&log[..], &[entry(7, EntryKind::Note, None)]].concat()), Some(6));
        assert_eq!(next(Direction::Undo, &log[..4]), Some(4));
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Work,
        Undo,
        Redo,
    }

    proptest! {
        /// The log says the same as two stacks that are kept beside it.
        #[test]
        fn test_next_change_of_any_log_is_that_of_two_stacks(
            steps in prop::collection::vec(
                prop_oneof![Just(Step::Work), Just(Step::Undo), Just(Step::Redo)], 0..60,
            ),
        ) {
            let (mut log, mut done, mut undone) = (Vec::new(), Vec::new(), Vec::new());
            for (sequence, step) in (1..).zip(steps) {
                match step {
                    Step::Work => {
                        log.push(entry(sequence, EntryKind::Work, None));
                        done.push(sequence);
                        undone.clear();
                    }
                    Step::Undo => {
                        prop_assert_eq!(next(Direction::Undo, &log), done.last().copied());
                        let Some(target) = done.pop() else { continue };
                        log.push(entry(sequence, EntryKind::Undo, Some(target)));
                        undone.push(sequence);
                    }
                    Step::Redo => {
                        prop_assert_eq!(next(Direction::Redo, &log), undone.last().copied());
                        let Some(target) = undone.pop() else { continue };
                        log.push(entry(sequence, EntryKind::Redo, Some(target)));
                        done.push(sequence);
                    }
                }
            }
        }
    }
}
