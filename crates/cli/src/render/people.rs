//! Results in words and tables for people.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table, presets};
use maqet::VmStatus;
use maqet::operation::{Added, Removed, SnapshotDone, SnapshotInfo, Started, Stopped, VmInfo};

use super::is_terminal;

const GOOD: Style = AnsiColor::Green.on_default();
const ODD: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const PLAIN: Style = Style::new();

/// Something that can be written for people.
pub(crate) trait People {
    /// Writes it, ending with a line break if it writes anything.
    fn write(&self, out: &mut dyn Write) -> io::Result<()>;
}

impl People for Added {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "defined `{}` ({})", self.name, self.id)
    }
}

impl People for Started {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let already = if self.changed { "" } else { " already" };
        let pid = self.vm.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        writeln!(out, "`{}` is {}{already}{pid}", self.vm.name, self.vm.status)
    }
}

impl People for Stopped {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        use serde::Serialize;

        let how = self.how.serialize(serde_json::value::Serializer).unwrap_or_default();
        let how = match how.as_str() {
            Some("power-down") => ": the guest powered off",
            Some("quit") => ": QEMU was told to quit",
            Some("term") => ": QEMU was ended with SIGTERM",
            Some("kill") => ": QEMU was killed",
            Some(_) | None => " already",
        };
        writeln!(out, "`{}` is {}{how}", self.vm.name, self.vm.status)
    }
}

impl People for Removed {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "removed `{}`", self.name)?;
        self.kept_storage.iter().try_for_each(|path| writeln!(out, "  its disk stays: {path}"))
    }
}

impl People for VmStatus {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let style = style(self.status);
        let reason = self.reason_in_words().map(|words| format!(" ({words})")).unwrap_or_default();
        writeln!(out, "{}: {style}{}{style:#}{reason}", self.name, self.status)?;
        let rows = [
            ("pid", self.pid.map(|pid| pid.to_string())),
            ("id", Some(self.id.clone())),
            ("defined", Some(whole_seconds(&self.created_at))),
            ("started", self.started_at.as_deref().map(whole_seconds)),
            ("stopped", self.stopped_at.as_deref().map(whole_seconds)),
            ("serial log", self.serial_log.clone()),
            ("QEMU log", self.qemu_log.clone()),
            ("free monitor", self.free_monitor.clone()),
        ];
        for (name, value) in rows {
            if let Some(value) = value {
                writeln!(out, "  {name:<13} {value}")?;
            }
        }
        Ok(())
    }
}

impl People for Vec<VmStatus> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows = self.iter().map(|vm| {
            let status = match vm.reason {
                Some(reason) => format!("{} ({reason})", vm.status),
                None => vm.status.to_owned(),
            };
            let pid = vm.pid.map(|pid| pid.to_string()).unwrap_or_default();
            let since = vm.started_at.as_deref().unwrap_or(&vm.created_at);
            (style(vm.status), [vm.name.clone(), status, pid, whole_seconds(since), short(&vm.id)])
        });
        columns(out, ["NAME", "STATUS", "PID", "SINCE", "ID"], 1, rows)
    }
}

impl People for VmInfo {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if let Some(line) = &self.command_line {
            return writeln!(out, "{line}");
        }
        writeln!(out, "{} ({}), defined {}", self.name, self.id, whole_seconds(&self.created_at))?;
        for storage in &self.storage {
            let there = match (storage.exists, storage.is_made) {
                (true, _) => "",
                (false, true) => " (made at the first start)",
                (false, false) => " (missing)",
            };
            writeln!(out, "  drive {}: {} {}{there}", storage.name, storage.r#type, storage.file)?;
        }
        let yaml = serde_yaml::to_string(&self.definition).map_err(io::Error::other)?;
        writeln!(out, "\n{}", yaml.trim_end())
    }
}

impl People for SnapshotDone {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{} snapshot `{}` of drive `{}` of `{}`", self.done, self.name, self.drive, self.vm)
    }
}

impl People for Vec<SnapshotInfo> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows = self.iter().map(|snapshot| {
            let state = match snapshot.vm_state_bytes {
                0 => "disk only".to_owned(),
                bytes => format!("{} MiB of RAM", bytes >> 20),
            };
            (PLAIN, [snapshot.drive.clone(), snapshot.name.clone(), whole_seconds(&snapshot.created_at), state])
        });
        columns(out, ["DRIVE", "NAME", "CREATED", "HOLDS"], 1, rows)
    }
}

/// Writes rows in aligned columns; on a terminal with a head, and the column `coloured` in colour.
fn columns<const N: usize>(
    out: &mut dyn Write,
    head: [&str; N],
    coloured: usize,
    rows: impl Iterator<Item = (Style, [String; N])>,
) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head);
    let mut styles = Vec::new();
    for (style, cells) in rows {
        styles.push((style, cells[coloured].clone()));
        table.add_row(cells);
    }
    let in_colour = is_terminal();
    for (index, line) in table.lines().enumerate() {
        let line = line.trim_end();
        let line = line.strip_prefix(' ').unwrap_or(line);
        match index.checked_sub(1).and_then(|row| styles.get(row)) {
            Some((style, cell)) if in_colour && !cell.is_empty() => {
                writeln!(out, "{}", line.replacen(cell.as_str(), &format!("{style}{cell}{style:#}"), 1))?;
            }
            Some(_) | None => writeln!(out, "{line}")?,
        }
    }
    Ok(())
}

fn style(status: &str) -> Style {
    match status {
        "running" => GOOD,
        "starting" | "stopping" | "paused" | "busy" => ODD,
        "restore-failed" | "io-error" | "panicked" | "unreachable" => BAD,
        _ => PLAIN,
    }
}

/// Cuts the fraction of a second off a time stamp.
fn whole_seconds(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => time.to_owned(),
    }
}

/// Cuts an id to the part that is unique in practice.
fn short(id: &str) -> String {
    id.chars().take(8).collect()
}
