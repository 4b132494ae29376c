//! Results in words and tables for people.

mod events;
mod hardware;
mod health;
mod inspect;
mod keyboard;
mod lifecycle;
mod qmp;

pub(crate) use self::qmp::QmpAnswer;

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use maqet::VmStatus;
use maqet::domain::config::Node;
use maqet::operation::{
    Added, Applied, ConfigChecked, DefaultValue, KeyInfo, Removed, ShownSetting, SnapshotDone, SnapshotInfo,
    TakesEffect, VmInfo,
};
use unicode_width::UnicodeWidthStr;

pub(crate) use self::events::happened;
use super::is_coloured;
use super::sanitize::{escape_control, escape_control_lines, escape_for_shell};

const GOOD: Style = AnsiColor::Green.on_default();
const ODD: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const PLAIN: Style = Style::new();

/// The spaces between two columns.
const GAP: usize = 2;

/// Something that can be written for people.
pub(crate) trait TextOutput {
    /// Writes it, ending with a line break if it writes anything.
    fn write(&self, out: &mut dyn Write) -> io::Result<()>;
}

impl TextOutput for Added {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "defined `{}` ({})", self.name, self.id)
    }
}

impl TextOutput for Removed {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "removed `{}`", self.name)?;
        self.kept_storage.iter().try_for_each(|path| writeln!(out, "  its disk stays: {}", escape_control(path)))
    }
}

impl TextOutput for VmStatus {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        head(self, out)?;
        let rows = [
            ("busy", self.busy.as_ref().map(ToString::to_string)),
            ("pid", self.pid.map(|pid| pid.to_string())),
            ("id", Some(self.id.clone())),
            ("defined", Some(whole_seconds(&self.created_at))),
            ("started", self.started_at.as_ref().map(whole_seconds)),
            ("stopped", self.stopped_at.as_ref().map(whole_seconds)),
            ("serial log", self.serial_log.clone()),
            ("QEMU log", self.qemu_log.clone()),
            ("external monitor", self.external_monitor.clone()),
        ];
        for (name, value) in rows {
            if let Some(value) = value {
                writeln!(out, "  {name:<13} {}", escape_control(&value))?;
            }
        }
        for forward in &self.forwards {
            let protocol = forward.protocol.as_str();
            let (address, host, guest) = (forward.host_address, forward.host_port, forward.guest_port);
            writeln!(out, "  {:<13} {protocol} {address}:{host} to port {guest}", "forwarded")?;
        }
        Ok(())
    }
}

/// Writes the name of a VM, its state, and why it is in it.
fn head(vm: &VmStatus, out: &mut dyn Write) -> io::Result<()> {
    let style = in_colour(style(vm.status));
    let reason = vm.reason.map(|reason| format!(" ({})", reason.in_words())).unwrap_or_default();
    writeln!(out, "{}: {style}{}{style:#}{reason}", escape_control(&vm.name), vm.status)
}

impl TextOutput for Vec<VmStatus> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows = self.iter().map(|vm| {
            let status = match vm.reason {
                Some(reason) => Cow::Owned(format!("{} ({})", vm.status, reason.as_str())),
                None => Cow::Borrowed(vm.status),
            };
            let pid = vm.pid.map(|pid| pid.to_string()).unwrap_or_default();
            let since = vm.started_at.as_ref().unwrap_or(&vm.created_at);
            let cells = [Cow::from(&vm.name), status, pid.into(), whole_seconds(since).into(), short(&vm.id).into()];
            (style(vm.status), cells)
        });
        columns(out, ["NAME", "STATUS", "PID", "SINCE", "ID"], 1, rows)
    }
}

impl TextOutput for VmInfo {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if let Some(line) = &self.command_line {
            // In a shell of its own, so that the caller's umask stays as it is.
            let groundwork = self.groundwork.as_deref().unwrap_or_default().join(" && ");
            if !groundwork.is_empty() {
                write!(out, "(umask 077 && {}) && ", escape_for_shell(&groundwork))?;
            }
            return writeln!(out, "{}", escape_for_shell(line));
        }
        writeln!(out, "{} ({}), defined {}", self.name, self.id, whole_seconds(&self.created_at))?;
        for storage in &self.storage {
            let there = match (storage.exists, storage.is_made) {
                (true, _) => "",
                (false, true) => " (made at the first start)",
                (false, false) => " (missing)",
            };
            writeln!(out, "  drive {}: {} {}{there}", storage.name, storage.r#type, escape_control(&storage.file))?;
        }
        if let Some(origins) = &self.origins {
            writeln!(out)?;
            let rows = origins.iter().map(|(path, origin)| (PLAIN, [path.clone(), origin.clone()]));
            return columns(out, ["KEY", "CAME FROM"], 0, rows);
        }
        let yaml = serde_yaml::to_string(&self.definition).map_err(io::Error::other)?;
        writeln!(out, "\n{}", escape_control_lines(yaml.trim_end()))
    }
}

impl TextOutput for Applied {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.differences.is_empty() {
            return writeln!(out, "`{}` is so already", self.name);
        }
        let done = if self.changed { "changed" } else { "would change" };
        writeln!(out, "{done} `{}`:", self.name)?;
        for changed in &self.differences {
            let difference = &changed.difference;
            let waits = match changed.takes_effect {
                TakesEffect::Now => "",
                TakesEffect::NextStart => "  (at the next start)",
            };
            let [before, after] = [&difference.before, &difference.after].map(|node| one_line(node.as_ref()));
            let (path, before, after) =
                (escape_control(&difference.path), escape_control(&before), escape_control(&after));
            writeln!(out, "  {path}: {before} -> {after}{waits}")?;
        }
        Ok(())
    }
}

/// Returns a value on one line.
fn one_line(node: Option<&Node>) -> String {
    match node {
        Some(node) => node.scalar().or_else(|| serde_json::to_string(node).ok()).unwrap_or_default(),
        None => "(nothing)".to_owned(),
    }
}

impl TextOutput for ConfigChecked {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "the configuration is right")
    }
}

impl TextOutput for Vec<ShownSetting> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.iter().all(|setting| setting.origin.is_none()) {
            let rows = self.iter().map(|setting| (PLAIN, [setting.key.clone(), setting.value.clone()]));
            return columns(out, ["KEY", "VALUE"], 0, rows);
        }
        let rows = self.iter().map(|setting| {
            let origin = setting.origin.clone().unwrap_or_default();
            (PLAIN, [setting.key.clone(), setting.value.clone(), origin])
        });
        columns(out, ["KEY", "VALUE", "ORIGIN"], 0, rows)
    }
}

impl TextOutput for Vec<KeyInfo> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        self.iter().try_for_each(|key| writeln!(out, "{}\n    {}: {}", key.key, key.summary, key.form))
    }
}

impl TextOutput for Vec<DefaultValue> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        columns(out, ["KEY", "VALUE"], 0, self.iter().map(|one| (PLAIN, [one.key.clone(), one.value.clone()])))
    }
}

impl TextOutput for SnapshotDone {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let name = escape_control(&self.name);
        writeln!(out, "{} snapshot `{name}` of drive `{}` of `{}`", self.outcome, self.drive, self.vm)
    }
}

impl TextOutput for Vec<SnapshotInfo> {
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

/// Writes rows in aligned columns; the column `coloured` is in colour where colours are wanted.
///
/// Of our own: a list of 10,000 VMs is a bar, and a table crate takes four times as long for it.
fn columns<'a, const N: usize, C: Into<Cow<'a, str>>>(
    out: &mut dyn Write,
    head: [&str; N],
    coloured: usize,
    rows: impl Iterator<Item = (Style, [C; N])>,
) -> io::Result<()> {
    let shown = |cell: C| {
        let cell = cell.into();
        match escape_control(&cell) {
            Cow::Borrowed(_) => cell,
            Cow::Owned(escaped) => Cow::Owned(escaped),
        }
    };
    let rows: Vec<(Style, [Cow<'a, str>; N])> = rows.map(|(style, cells)| (style, cells.map(shown))).collect();
    let mut widths = head.map(width);
    for (_, cells) in &rows {
        for (widest, cell) in widths.iter_mut().zip(cells) {
            *widest = (*widest).max(width(cell));
        }
    }
    let has_colours = is_coloured();
    row(out, &head, &widths, None)?;
    for (style, cells) in &rows {
        let style = has_colours.then_some((coloured, *style));
        row(out, &cells.each_ref().map(AsRef::as_ref), &widths, style)?;
    }
    Ok(())
}

fn row(out: &mut dyn Write, cells: &[&str], widths: &[usize], coloured: Option<(usize, Style)>) -> io::Result<()> {
    let last = cells.iter().rposition(|cell| !cell.is_empty()).unwrap_or_default();
    for (index, (cell, widest)) in cells.iter().zip(widths).enumerate().take(last + 1) {
        match coloured {
            Some((column, style)) if column == index => write!(out, "{style}{cell}{style:#}")?,
            Some(_) | None => out.write_all(cell.as_bytes())?,
        }
        if index < last {
            spaces(out, widest - width(cell) + GAP)?;
        }
    }
    out.write_all(b"\n")
}

fn spaces(out: &mut dyn Write, mut count: usize) -> io::Result<()> {
    const SPACES: [u8; 64] = [b' '; 64];
    while count > 0 {
        let some = count.min(SPACES.len());
        out.write_all(&SPACES[..some])?;
        count -= some;
    }
    Ok(())
}

/// Returns how many columns of a terminal a cell takes.
fn width(cell: &str) -> usize {
    if cell.is_ascii() { cell.len() } else { cell.width() }
}

fn style(status: &str) -> Style {
    match status {
        "running" => GOOD,
        "starting" | "stopping" | "paused" | "busy" => ODD,
        "restore-failed" | "io-error" | "panicked" | "unreachable" => BAD,
        _ => PLAIN,
    }
}

/// Returns a style as it is where results are in colour, and none where they are not.
fn in_colour(style: Style) -> Style {
    if is_coloured() { style } else { PLAIN }
}

/// Cuts the fraction of a second off a time stamp.
fn whole_seconds(time: &impl Display) -> String {
    format!("{time:.0}")
}

/// Cuts an id to the part that is unique in practice.
fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_row_colours_the_named_column_alone() {
        let mut out = Vec::new();

        row(&mut out, &["web", "running", "7"], &[4, 8, 1], Some((1, GOOD))).unwrap();

        assert_eq!(String::from_utf8(out).unwrap(), "web   \u{1b}[32mrunning\u{1b}[0m   7\n");
    }

    #[test]
    fn test_columns_name_a_terminal_would_obey_stays_on_its_line() {
        let mut out = Vec::new();
        let name = "x\u{1b}[31mRED\nfake".to_owned();

        columns(&mut out, ["NAME", "SIZE"], 0, [(PLAIN, [name, "1".to_owned()])].into_iter()).unwrap();

        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "NAME                  SIZE\nx\\u{1b}[31mRED\\nfake  1\n");
    }
}
