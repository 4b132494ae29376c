//! VMs and their definitions.

use std::borrow::Cow;
use std::io::{self, Write};

use maqet::VmStatus;
use maqet::domain::config::Node;
use maqet::domain::storage::{ByteLimit, RequestLimit};
use maqet::operation::{Added, Applied, Removed, TakesEffect, VmInfo};

use super::lifecycle::seconds;
use super::table::write_table;
use super::{PLAIN, TextOutput, forward_text, if_coloured, status_style, whole_seconds};
use crate::render::sanitize::{escape_control, escape_control_lines, escape_for_shell};

impl TextOutput for Added {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "defined `{}` ({})", self.name, self.id)
    }
}

impl TextOutput for Removed {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "removed `{}`", self.name)?;
        for path in &self.kept_storage {
            writeln!(out, "  kept disk: {}", escape_control(path))?;
        }
        if let Some(trash) = &self.trash {
            for image in &trash.images {
                writeln!(out, "  moved to the trash: {}", escape_control(&image.path))?;
            }
            writeln!(out, "  restore it with `maqet storage trash restore {}`", trash.entry)?;
        }
        let Some(backups) = &self.backups else { return Ok(()) };
        let directory = escape_control(&backups.directory);
        for name in &backups.names {
            writeln!(out, "  kept backup: {directory}/{}", escape_control(name))?;
        }
        writeln!(out, "  list them with `maqet backup ls {0}`, remove them with `maqet backup rm {0} …`", self.name)
    }
}

/// Returns how far the clock of a guest is behind, as text.
fn clock_behind(milliseconds: u64) -> String {
    format!("the guest's clock is {} behind, unless it was set since", seconds(milliseconds))
}

impl TextOutput for VmStatus {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        write_heading(self, out)?;
        let rows = [
            ("pid", self.pid.map(|pid| pid.to_string())),
            ("pid namespace", self.pid_namespace.map(|_| "another one: QEMU has no pid here".to_owned())),
            ("id", Some(self.id.clone())),
            ("defined", Some(whole_seconds(&self.created_at))),
            ("started", self.started_at.as_ref().map(whole_seconds)),
            ("stopped", self.stopped_at.as_ref().map(whole_seconds)),
            ("serial log", self.serial_log.clone()),
            ("QEMU log", self.qemu_log.clone()),
            ("external monitor", self.external_monitor.clone()),
        ];
        write_state(self, out)?;
        for (name, value) in rows {
            value.map_or(Ok(()), |value| write_field(out, name, &value))?;
        }
        self.forwards.iter().try_for_each(|forward| write_field(out, "forwarded", &forward_text(forward)))
    }
}

/// Writes the name of a VM, its state, and the reason for it.
pub(super) fn write_heading(vm: &VmStatus, out: &mut dyn Write) -> io::Result<()> {
    let style = if_coloured(status_style(vm.status));
    let reason = match (vm.reason, &vm.details) {
        (Some(reason), Some(details)) => format!(" ({reason}: {})", escape_control(&details.to_string())),
        (Some(reason), None) => format!(" ({reason})"),
        (None, _) => String::new(),
    };
    writeln!(out, "{}: {style}{}{style:#}{reason}", escape_control(&vm.name), vm.status)
}

/// Writes what there is to say about the state of a VM.
pub(super) fn write_state(vm: &VmStatus, out: &mut dyn Write) -> io::Result<()> {
    let rows = [
        ("hint", vm.hint.clone()),
        ("resets", vm.resets.map(|resets| format!("the guest was reset {} since the start", times(resets)))),
        ("clock", vm.clock_behind_ms.map(clock_behind)),
        ("busy", vm.busy.as_ref().map(ToString::to_string)),
    ];
    rows.into_iter().try_for_each(|(name, value)| value.map_or(Ok(()), |value| write_field(out, name, &value)))
}

/// Returns a number of times, as in "once" or "4 times".
fn times(number: u64) -> String {
    match number {
        1 => "once".to_owned(),
        more => format!("{more} times"),
    }
}

/// Returns the limits of a drive for a line of text.
pub(super) fn limits(iops: Option<RequestLimit>, bps: Option<ByteLimit>) -> Vec<String> {
    let iops = iops.map(|limit| format!("iops {limit}"));
    iops.into_iter().chain(bps.map(|limit| format!("bps {limit}"))).collect()
}

/// Writes a name and a value below a heading.
pub(super) fn write_field(out: &mut dyn Write, name: &str, value: &str) -> io::Result<()> {
    writeln!(out, "  {name:<17} {}", escape_control(value))
}

impl TextOutput for Vec<VmStatus> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let is_shared = self.iter().any(|vm| vm.host.is_some());
        let rows = self.iter().map(|vm| {
            let status = match vm.reason {
                Some(reason) => Cow::Owned(format!("{} ({})", vm.status, reason.as_str())),
                None => Cow::Borrowed(vm.status),
            };
            let status = match vm.host_away_since {
                Some(since) => Cow::Owned(format!("{status} (host away since {since:.0})")),
                None => status,
            };
            let pid = vm.pid.map(|pid| pid.to_string()).unwrap_or_default();
            let since = whole_seconds(vm.started_at.as_ref().unwrap_or(&vm.created_at));
            // Unique in practice.
            let short_id = vm.id.get(..8).unwrap_or(&vm.id);
            let mut cells = vec![Cow::from(&vm.name), status, pid.into(), since.into(), short_id.into()];
            if is_shared {
                cells.extend([&vm.host, &vm.owner].map(|name| Cow::from(name.as_deref().unwrap_or_default())));
            }
            (status_style(vm.status), cells)
        });
        let headings = ["NAME", "STATUS", "PID", "SINCE", "ID", "HOST", "OWNER"];
        write_table(out, if is_shared { &headings[..] } else { &headings[..5] }, 1, rows)
    }
}

impl TextOutput for VmInfo {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if let Some(line) = &self.command_line {
            // In a subshell, so that the caller's umask does not change.
            let setup = self.setup_commands.as_deref().unwrap_or_default().join(" && ");
            if !setup.is_empty() {
                write!(out, "(umask 077 && {}) && ", escape_for_shell(&setup))?;
            }
            return writeln!(out, "{}", escape_for_shell(line));
        }
        writeln!(out, "{} ({}), defined {}", self.name, self.id, whole_seconds(&self.created_at))?;
        for storage in &self.storage {
            let state = match (storage.exists, storage.created_on_start) {
                (true, _) => "",
                (false, true) => " (created at the first start)",
                (false, false) => " (missing)",
            };
            let limits = limits(storage.iops, storage.bps).join(", ");
            let separator = if limits.is_empty() { "" } else { ", " };
            let file = escape_control(&storage.file);
            writeln!(out, "  drive {}: {} {file}{state}{separator}{limits}", storage.name, storage.r#type)?;
        }
        writeln!(out)?;
        if let Some(origins) = &self.origins {
            let rows = origins.iter().map(|(path, origin)| (PLAIN, [path, origin].map(Cow::from)));
            return write_table(out, &["KEY", "ORIGIN"], 0, rows);
        }
        let yaml = serde_yaml::to_string(&self.definition).map_err(io::Error::other)?;
        writeln!(out, "{}", escape_control_lines(yaml.trim_end()))
    }
}

impl TextOutput for Applied {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.differences.is_empty() {
            return writeln!(out, "`{}` unchanged", self.name);
        }
        let verb = if self.changed { "changed" } else { "would change" };
        writeln!(out, "{verb} `{}`:", self.name)?;
        for changed in &self.differences {
            let difference = &changed.difference;
            let time = match changed.takes_effect {
                TakesEffect::Now => "",
                TakesEffect::NextStart => "  (at the next start)",
            };
            let [before, after] = [&difference.before, &difference.after].map(|node| one_line(node.as_ref()));
            let [path, before, after] = [&difference.path, &before, &after].map(|text| escape_control(text));
            writeln!(out, "  {path}: {before} -> {after}{time}")?;
        }
        Ok(())
    }
}

/// Returns a value on one line.
fn one_line(node: Option<&Node>) -> String {
    match node {
        Some(node) => node.written().or_else(|| serde_json::to_string(node).ok()).unwrap_or_default(),
        None => "(unset)".to_owned(),
    }
}
