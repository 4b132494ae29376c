//! Results of `maqet storage`.

use std::borrow::Cow;
use std::io::{self, Write};

use indicatif::BinaryBytes;
use maqet::ImageReference;
use maqet::operation::{StorageDetails, StoredDrive, StoredImage};

use super::table::write_table;
use super::vm::write_field;
use super::{PLAIN, TextOutput};

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

fn used_by(user: &ImageReference) -> String {
    let how = if user.is_backing { ", as a backing file" } else { "" };
    format!("drive `{}` of `{}`{how}", user.drive, user.vm)
}
