//! Results of `maqet backup`.

use std::borrow::Cow;
use std::io::{self, Write};

use indicatif::BinaryBytes;
use maqet::operation::{BackupCreated, BackupInfo, BackupList, BackupRemoved, BackupRestored, BackupVerified};

use super::table::write_table;
use super::{PLAIN, TextOutput, whole_seconds};
use crate::render::sanitize::escape_control;

impl TextOutput for BackupCreated {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let backup = &self.backup;
        let size = BinaryBytes(backup.bytes);
        writeln!(out, "created {} backup `{}` of `{}` ({size})", backup.kind, backup.name, self.name)?;
        for drive in &backup.drives {
            // Of the first backup, all drives are full.
            let reason = drive.reason_text.filter(|_| drive.reason != Some("first"));
            match (reason, &drive.base) {
                (Some(reason), _) => writeln!(out, "  drive `{}` is full: {reason}", drive.drive)?,
                (None, Some(base)) => writeln!(out, "  drive `{}` builds on `{base}`", drive.drive)?,
                (None, None) => {}
            }
        }
        for drive in &self.left_out {
            let why = match drive.reason {
                "share" => "it has no image",
                "tpm" => "it belongs to the TPM, and stays with the VM",
                "snapshot" => "its image is not written (`snapshot`)",
                _ => "it is read-only",
            };
            writeln!(out, "  drive `{}` is not backed up: {why}", drive.drive)?;
        }
        self.warnings.iter().try_for_each(|warning| writeln!(out, "warning: {}", escape_control(warning)))
    }
}

impl TextOutput for BackupList {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let of_backup = |backup: &BackupInfo| {
            let drives: Vec<&str> = backup.drives.iter().map(|drive| drive.drive.as_str()).collect();
            let mut bases: Vec<&str> = backup.drives.iter().filter_map(|drive| drive.base.as_deref()).collect();
            bases.dedup();
            let created = whole_seconds(&backup.created_at);
            let size = BinaryBytes(backup.bytes).to_string();
            let problem = backup.problem.clone().unwrap_or_default();
            let name = backup.name.clone();
            let drives = drives.join(", ");
            [name, created, backup.kind.to_owned(), bases.join(", "), size, drives, problem].map(Cow::from)
        };
        let rows = self.backups.iter().map(|backup| (PLAIN, of_backup(backup)));
        write_table(out, &["NAME", "CREATED", "KIND", "BUILDS ON", "SIZE", "DRIVES", "PROBLEM"], 4, rows)?;
        for backup in &self.unreadable {
            writeln!(out, "not a valid backup: `{}`: {}", escape_control(&backup.directory), backup.problem)?;
        }
        Ok(())
    }
}

impl TextOutput for BackupVerified {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for backup in &self.verified {
            writeln!(out, "backup `{backup}` of `{}` is complete and unchanged", self.name)?;
        }
        Ok(())
    }
}

impl TextOutput for BackupRestored {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for drive in &self.drives {
            let file = escape_control(&drive.file);
            writeln!(out, "restored drive `{}` of `{}` from `{}` to `{file}`", drive.drive, self.name, self.backup)?;
        }
        Ok(())
    }
}

impl TextOutput for BackupRemoved {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for backup in &self.removed {
            writeln!(out, "removed backup `{backup}` of `{}`", self.name)?;
        }
        Ok(())
    }
}
