//! Results of `maqet history`, `maqet undo` and `maqet redo`.

use std::borrow::Cow;
use std::io::{self, Write};

use maqet::domain::history::{Direction, EntryKind};
use maqet::operation::{HistoryLine, Reverted, RevertedChange};

use super::table::write_table;
use super::{PLAIN, TextOutput, whole_seconds};
use crate::render::sanitize::escape_control;

impl TextOutput for Vec<HistoryLine> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.is_empty() {
            return writeln!(out, "no changes");
        }
        let rows = self.iter().map(|line| {
            let vm = line.name.clone().or_else(|| line.id.clone()).unwrap_or_default();
            let who = format!("{}@{}", line.user, line.host);
            let cells = [line.sequence.to_string(), whole_seconds(&line.at), who, vm, what(line), note(line)];
            (PLAIN, cells.map(Cow::from))
        });
        write_table(out, &["NUMBER", "TIME", "BY", "VM", "CHANGE", "NOTE"], 0, rows)
    }
}

/// Returns what was changed, as in `snapshot create hdd clean`.
fn what(line: &HistoryLine) -> String {
    let subject = line.subject.as_ref().map(|subject| format!(" {subject}")).unwrap_or_default();
    format!("{}{subject}", line.operation.replace('.', " "))
}

fn note(line: &HistoryLine) -> String {
    let reverts = line.reverts.unwrap_or_default();
    let mut notes = Vec::new();
    match line.kind {
        EntryKind::Undo => notes.push(format!("undid {reverts}")),
        EntryKind::Redo => notes.push(format!("took back {reverts}")),
        EntryKind::Work | EntryKind::Note => {}
    }
    match (line.kind, line.reverted_by) {
        (EntryKind::Undo, Some(by)) => notes.push(format!("taken back by {by}")),
        (_, Some(by)) => notes.push(format!("undone by {by}")),
        (_, None) => {}
    }
    if let Some(reason) = line.irreversible {
        notes.push(format!("cannot be undone: {}", reason.reason()));
    }
    notes.join(", ")
}

impl TextOutput for Reverted {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let verb = match (self.direction, self.dry_run) {
            (Direction::Undo, false) => "undid",
            (Direction::Undo, true) => "would undo",
            (Direction::Redo, false) => "took back",
            (Direction::Redo, true) => "would take back",
        };
        for change in &self.changes {
            writeln!(out, "{verb} {}", escape_control(&described(change)))?;
            if let Some(problem) = &change.problem {
                writeln!(out, "  not possible now: {}", escape_control(problem))?;
            }
        }
        let (count, requested) = (self.changes.len(), self.requested);
        if u32::try_from(count).is_ok_and(|count| count < requested) {
            writeln!(out, "{verb} {count} of {requested} changes: nothing else is left to {}", self.direction)?;
        }
        Ok(())
    }
}

/// Returns a change, as in `7: snapshot create hdd clean of `web` (by snapshot rm)`.
fn described(change: &RevertedChange) -> String {
    let subject = change.subject.as_ref().map(|subject| format!(" {subject}")).unwrap_or_default();
    let vm = change.name.as_ref().or(change.id.as_ref()).map(|vm| format!(" of `{vm}`")).unwrap_or_default();
    let by = change.by.as_ref().map(|by| format!(" (by `{}`)", by.replace('.', " "))).unwrap_or_default();
    format!("{}: {}{subject}{vm}{by}", change.sequence, change.operation.replace('.', " "))
}
