//! Results of `maqet snapshot`.

use std::borrow::Cow;
use std::io::{self, Write};

use maqet::operation::{SnapshotDone, SnapshotInfo};

use super::table::write_table;
use super::{PLAIN, TextOutput, whole_seconds};
use crate::render::sanitize::escape_control;

impl TextOutput for SnapshotDone {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let snapshot = escape_control(&self.snapshot);
        writeln!(out, "{} snapshot `{snapshot}` of drive `{}` of `{}`", self.outcome, self.drive, self.name)
    }
}

impl TextOutput for Vec<SnapshotInfo> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows = self.iter().map(|snapshot| {
            let contents = match snapshot.vm_state_bytes {
                0 => "disk".to_owned(),
                bytes => format!("disk and {} MiB of RAM", bytes >> 20),
            };
            let created = whole_seconds(&snapshot.created_at);
            (PLAIN, [snapshot.drive.clone(), snapshot.name.clone(), created, contents].map(Cow::from))
        });
        write_table(out, &["DRIVE", "NAME", "CREATED", "CONTENTS"], 0, rows)
    }
}
