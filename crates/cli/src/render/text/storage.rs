//! Results of `maqet storage`.

use std::borrow::Cow;
use std::io::{self, Write};

use indicatif::BinaryBytes;
use maqet::FileUse;
use maqet::operation::{
    StorageCompacted, StorageConverted, StorageDetails, StorageResized, StorageVerified, StoredDrive, StoredImage,
    VerifiedImage,
};

use super::table::write_table;
use super::vm::write_field;
use super::{PLAIN, TextOutput, counted};
use crate::render::sanitize::escape_control;

/// Leads to a backing file.
const BRANCH: &str = "└─ ";

impl TextOutput for Vec<StoredDrive> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows = self.iter().flat_map(rows).map(|row| (PLAIN, row));
        write_table(out, &["VM", "DRIVE", "TYPE", "SIZE", "ALLOCATED", "FILE", "NOTE"], 0, rows)
    }
}

/// Returns the rows of a drive: its image, and its backing files as a tree.
fn rows(drive: &StoredDrive) -> Vec<[Cow<'_, str>; 7]> {
    let mut rows = Vec::new();
    let mut notes: Vec<&str> = drive.image.problem.as_deref().into_iter().collect();
    if drive.readonly {
        notes.push("read-only");
    }
    let [size, allocated] = sizes(&drive.image);
    let file = Cow::from(&drive.image.file);
    rows.push([
        (&drive.vm).into(),
        (&drive.drive).into(),
        drive.r#type.into(),
        size,
        allocated,
        file,
        notes.join(", ").into(),
    ]);
    for (depth, image) in drive.backing.iter().enumerate() {
        let file = format!("{}{BRANCH}{}", "   ".repeat(depth), image.file);
        let [size, allocated] = sizes(image);
        let format = image.format.as_deref().unwrap_or_default();
        let note = image.problem.as_deref().unwrap_or_default();
        rows.push(["".into(), "".into(), format.into(), size, allocated, file.into(), note.into()]);
    }
    rows
}

fn sizes(image: &StoredImage) -> [Cow<'static, str>; 2] {
    [image.virtual_bytes, image.allocated_bytes]
        .map(|bytes| bytes.map(|bytes| BinaryBytes(bytes).to_string()).unwrap_or_default().into())
}

impl TextOutput for StorageDetails {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let drive = &self.drive;
        writeln!(out, "drive `{}` of `{}`", drive.drive, drive.vm)?;
        write_field(out, "type", drive.r#type)?;
        write_field(out, "file", &drive.image.file)?;
        let [size, allocated] = sizes(&drive.image);
        write_field(out, "size", &size)?;
        write_field(out, "allocated", &allocated)?;
        if let Some(configured) = self.configured_bytes.filter(|bytes| drive.image.virtual_bytes != Some(*bytes)) {
            write_field(out, "size in the definition", &BinaryBytes(configured).to_string())?;
        }
        if let Some(snapshots) = self.snapshots {
            write_field(out, "snapshots", &snapshots.to_string())?;
        }
        for (depth, image) in drive.backing.iter().enumerate() {
            let indent = "   ".repeat(depth);
            let [size, allocated] = sizes(image);
            let note = image.problem.as_ref().map(|problem| format!(", {problem}")).unwrap_or_default();
            let name = if depth == 0 { "backing files" } else { "" };
            write_field(out, name, &format!("{indent}{BRANCH}{} ({size}, {allocated} allocated{note})", image.file))?;
        }
        if let Some(opener) = &self.opened_by {
            write_field(out, "open in", &format!("`{}` (process {})", opener.program, opener.pid))?;
        }
        for user in &self.used_by {
            write_field(out, "used by", &used_by(user))?;
        }
        if drive.readonly {
            write_field(out, "access", "read-only")?;
        }
        match &drive.image.problem {
            Some(problem) => write_field(out, "problem", problem),
            None => Ok(()),
        }
    }
}

impl TextOutput for StorageResized {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let [before, size] = [self.before_bytes, self.size_bytes].map(BinaryBytes);
        let (drive, vm) = (&self.drive, &self.name);
        match (self.resized, self.definition_changed) {
            (true, _) => writeln!(out, "resized drive `{drive}` of `{vm}` from {before} to {size}"),
            (false, true) => writeln!(out, "drive `{drive}` of `{vm}` has {size} already; its definition now says so"),
            (false, false) => writeln!(out, "drive `{drive}` of `{vm}` has {size} already"),
        }
    }
}

impl TextOutput for StorageCompacted {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let (drive, vm, now) = (&self.drive, &self.name, BinaryBytes(self.allocated_bytes));
        if self.replaced {
            writeln!(out, "compacted drive `{drive}` of `{vm}` from {} to {now}", BinaryBytes(self.before_bytes))
        } else {
            writeln!(out, "drive `{drive}` of `{vm}` takes {now} already, and would not get smaller")
        }
    }
}

impl TextOutput for StorageConverted {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let (size, file) = (BinaryBytes(self.allocated_bytes), escape_control(&self.file));
        writeln!(out, "drive `{}` of `{}` is now {}, {size} in {file}", self.drive, self.name, self.format)?;
        match &self.old_file {
            Some(old) => writeln!(out, "  kept old image: {}", escape_control(old)),
            None => Ok(()),
        }
    }
}

impl TextOutput for StorageVerified {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows = self.images.iter().map(|image| {
            let [drive, file, format] = [&image.drive, &image.file, &image.format].map(Cow::from);
            (PLAIN, [drive, file, format, Cow::from(result_of(image))])
        });
        write_table(out, &["DRIVE", "FILE", "FORMAT", "RESULT"], 0, rows)?;
        self.images.iter().filter_map(|image| image.copy.as_ref()).try_for_each(|copy| {
            writeln!(out, "the image before the repair is in {}; remove it when all is well", escape_control(copy))
        })
    }
}

fn result_of(image: &VerifiedImage) -> String {
    let count = |number: u64, noun| counted(usize::try_from(number).unwrap_or(usize::MAX), noun);
    let mut parts = Vec::new();
    if image.errors > 0 {
        parts.push(count(image.errors, "error"));
    }
    if image.leaks > 0 {
        parts.push(count(image.leaks, "lost cluster"));
    }
    if image.errors_repaired > 0 {
        parts.push(format!("{} repaired", count(image.errors_repaired, "error")));
    }
    if image.leaks_repaired > 0 {
        parts.push(format!("{} given back", count(image.leaks_repaired, "lost cluster")));
    }
    match (parts.is_empty(), image.checked) {
        (true, true) => "no errors".to_owned(),
        (true, false) => "nothing to check".to_owned(),
        (false, _) => parts.join(", "),
    }
}

fn used_by(used: &FileUse) -> String {
    let how = if used.is_backing { ", as a backing file" } else { "" };
    format!("{}{how}", used.user)
}
