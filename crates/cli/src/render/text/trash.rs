//! Results of `maqet storage trash`, `storage orphaned` and `storage attach`.

use std::borrow::Cow;
use std::io::{self, Write};

use indicatif::BinaryBytes;
use maqet::TrashInfo;
use maqet::operation::{Attached, Emptied, OrphanedImage, Restored};

use super::table::write_table;
use super::{PLAIN, TextOutput, whole_seconds};
use crate::render::sanitize::escape_control;

impl TextOutput for Vec<TrashInfo> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.is_empty() {
            return writeln!(out, "the trash is empty");
        }
        let rows = self.iter().map(|entry| {
            let drives: Vec<String> = entry.images.iter().map(drive).collect();
            let removed = whole_seconds(&entry.removed_at);
            let size = BinaryBytes(entry.allocated_bytes).to_string();
            (PLAIN, [entry.entry.clone(), entry.name.clone(), removed, size, drives.join(", ")].map(Cow::from))
        });
        write_table(out, &["ENTRY", "VM", "REMOVED", "ALLOCATED", "DRIVES"], 0, rows)
    }
}

fn drive(image: &maqet::TrashedImageInfo) -> String {
    if image.exists { image.drive.clone() } else { format!("{} (not found)", image.drive) }
}

impl TextOutput for Restored {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let what = if self.defined { "restored" } else { "restored the disks of" };
        writeln!(out, "{what} `{}`", self.name)?;
        self.images.iter().try_for_each(|image| writeln!(out, "  {}: {}", image.drive, escape_control(&image.path)))
    }
}

impl TextOutput for Emptied {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let deleted = if self.dry_run { "would delete" } else { "deleted" };
        for entry in &self.deleted {
            let size = BinaryBytes(entry.allocated_bytes);
            writeln!(out, "{deleted} the disks of `{}` ({}, {size})", entry.name, entry.entry)?;
        }
        for entry in &self.kept {
            writeln!(out, "kept the disks of `{}` ({}): {}", entry.name, entry.entry, escape_control(&entry.reason))?;
        }
        match (self.deleted.is_empty(), self.kept.is_empty()) {
            (true, true) => writeln!(out, "nothing to delete"),
            (false, _) if !self.dry_run => writeln!(out, "freed {}", BinaryBytes(self.freed_bytes)),
            _ => Ok(()),
        }
    }
}

impl TextOutput for Vec<OrphanedImage> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.is_empty() {
            return writeln!(out, "every disk image is used by a VM");
        }
        let bytes = |bytes: Option<u64>| bytes.map(|bytes| BinaryBytes(bytes).to_string()).unwrap_or_default();
        let rows = self.iter().map(|image| {
            let note = match (&image.problem, image.overlays.len()) {
                (Some(problem), _) => problem.clone(),
                (None, 0) => String::new(),
                (None, overlays) => format!("backing file of {overlays} of these"),
            };
            let format = image.format.clone().unwrap_or_default();
            let vm = image.vm.clone().unwrap_or_default();
            let sizes = [bytes(image.virtual_bytes), bytes(image.allocated_bytes)];
            let [size, allocated] = sizes;
            (PLAIN, [image.path.clone(), format, size, allocated, vm, note].map(Cow::from))
        });
        write_table(out, &["FILE", "FORMAT", "SIZE", "ALLOCATED", "VM", "NOTE"], 0, rows)
    }
}

impl TextOutput for Attached {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let when = if self.is_running { ", from its next start on" } else { "" };
        let path = escape_control(&self.path);
        writeln!(out, "`{path}` is drive `{}` of `{}`{when}", self.drive, self.name)
    }
}
