//! Results of `maqet snapshot`.

use std::borrow::Cow;
use std::io::{self, Write};

use maqet::domain::snapshot::SnapshotKind;
use maqet::operation::{SnapshotDone, SnapshotInfo, SnapshotReadiness};

use super::table::write_table;
use super::{PLAIN, TextOutput, whole_seconds};
use crate::render::sanitize::escape_control;

impl TextOutput for SnapshotDone {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let snapshot = escape_control(&self.snapshot);
        let drives = match self.drives.as_slice() {
            [drive] => format!("drive `{drive}`"),
            drives => {
                format!("drives {}", drives.iter().map(|drive| format!("`{drive}`")).collect::<Vec<_>>().join(", "))
            }
        };
        let outcome = if self.replaced && self.outcome == "created" { "replaced" } else { self.outcome };
        writeln!(out, "{outcome} snapshot `{snapshot}` of {drives} of `{}`", self.name)?;
        if let Some(safety) = &self.safety {
            writeln!(out, "kept the state before as snapshot `{safety}`")?;
        }
        if self.unchecked {
            writeln!(out, "warning: it is not recorded what VM it was saved of, so that was not checked")?;
        }
        self.warnings.iter().try_for_each(|warning| writeln!(out, "warning: {}", escape_control(warning)))?;
        self.omitted.iter().try_for_each(|omitted| {
            writeln!(out, "warning: not included: drive `{}`: {}", omitted.drive, omitted.reason)
        })
    }
}

impl TextOutput for SnapshotReadiness {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let drives = self.drives.iter().map(|drive| format!("`{drive}`")).collect::<Vec<_>>().join(", ");
        let verdict = if self.ready { "can be created" } else { "cannot be created" };
        writeln!(out, "a snapshot of all drives of `{}` {verdict}; it includes {drives}", self.name)?;
        for obstacle in &self.obstacles {
            let drive = obstacle.drive.as_ref().map(|drive| format!("drive `{drive}`"));
            let subject = drive.filter(|drive| !obstacle.reason.starts_with(drive));
            let subject = subject.map(|drive| format!("{drive}: ")).unwrap_or_default();
            writeln!(out, "{}: {subject}{}", obstacle.effect, escape_control(&obstacle.reason))?;
            obstacle.hints.iter().try_for_each(|hint| writeln!(out, "  hint: {hint}"))?;
        }
        Ok(())
    }
}

impl TextOutput for Vec<SnapshotInfo> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let row = |snapshot: &SnapshotInfo| {
            let name = escape_control(&snapshot.name).into_owned();
            [snapshot.drive.clone(), name, whole_seconds(&snapshot.created_at), contents(snapshot)]
        };
        if self.iter().all(|snapshot| snapshot.description.is_none()) {
            let rows = self.iter().map(|snapshot| (PLAIN, row(snapshot).map(Cow::from)));
            return write_table(out, &["DRIVE", "NAME", "CREATED", "CONTENTS"], 0, rows);
        }
        let rows = self.iter().map(|snapshot| {
            let [drive, name, created, contents] = row(snapshot);
            let description = snapshot.description.as_deref().map(escape_control).unwrap_or_default();
            let [drive, name, created, contents] = [drive, name, created, contents].map(Cow::from);
            (PLAIN, [drive, name, created, contents, description])
        });
        write_table(out, &["DRIVE", "NAME", "CREATED", "CONTENTS", "DESCRIPTION"], 0, rows)
    }
}

/// Describes what a snapshot holds.
fn contents(snapshot: &SnapshotInfo) -> String {
    match (snapshot.kind, snapshot.vm_state_bytes) {
        (SnapshotKind::Safety, 0) => "disk, before a load".to_owned(),
        (SnapshotKind::Memory, 0) => "disk; RAM is in another drive".to_owned(),
        (_, 0) => "disk".to_owned(),
        (_, bytes) if bytes < 1 << 20 => format!("disk and {} KiB of RAM", bytes.div_ceil(1 << 10)),
        (_, bytes) => format!("disk and {} MiB of RAM", bytes >> 20),
    }
}
