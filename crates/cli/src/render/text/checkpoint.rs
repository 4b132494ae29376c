//! Results of `maqet checkpoint`.

use std::borrow::Cow;
use std::io::{self, Write};

use indicatif::BinaryBytes;
use maqet::operation::{
    CheckpointCanceled, CheckpointCreated, CheckpointDetails, CheckpointList, CheckpointReadiness, CheckpointRemoved,
    CheckpointRestored, CheckpointSummary, Forked,
};

use super::lifecycle::pid;
use super::table::write_table;
use super::{PLAIN, TextOutput, whole_seconds};
use crate::render::sanitize::escape_control;

/// Returns what a method means for the guest.
fn described(method: &str) -> &'static str {
    match method {
        "background-snapshot" => "while the guest runs",
        _ => "while the guest is paused",
    }
}

impl TextOutput for CheckpointCreated {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let CheckpointSummary { name, pause_ms, saved_bytes, method, .. } = &self.checkpoint;
        let size = BinaryBytes(*saved_bytes);
        writeln!(out, "took checkpoint `{name}` of `{}` ({size}); the guest was paused for {pause_ms} ms", self.name)?;
        writeln!(out, "  saved {}: {}", described(method), escape_control(&self.reason))
    }
}

impl TextOutput for Forked {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for fork in &self.forks {
            let ports: Vec<String> = fork.forwards.iter().map(ToString::to_string).collect();
            let ports = if ports.is_empty() { String::new() } else { format!(", ports {}", ports.join(", ")) };
            writeln!(out, "`{}` is {}{}{ports}", fork.name, fork.status, pid(fork))?;
        }
        Ok(())
    }
}

impl TextOutput for CheckpointList {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let row = |one: &CheckpointSummary| {
            let description = if one.temporary { Some("goes with its last fork") } else { one.description.as_deref() };
            let description = description.map(escape_control).unwrap_or_default().into_owned();
            let (taken, size) = (whole_seconds(&one.taken_at), BinaryBytes(one.saved_bytes).to_string());
            [one.vm.clone(), one.name.clone(), taken, size, format!("{} ms", one.pause_ms), description].map(Cow::from)
        };
        let rows = self.checkpoints.iter().map(|one| (PLAIN, row(one)));
        write_table(out, &["VM", "NAME", "TAKEN", "SIZE", "PAUSE", "DESCRIPTION"], 3, rows)?;
        for one in &self.unusable {
            writeln!(out, "cannot be used: `{}`: {}", escape_control(&one.directory), escape_control(&one.problem))?;
        }
        Ok(())
    }
}

impl TextOutput for CheckpointDetails {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let summary = &self.summary;
        writeln!(out, "checkpoint `{}` of `{}`", summary.name, summary.vm)?;
        if let Some(description) = &summary.description {
            writeln!(out, "  description  {}", escape_control(description))?;
        }
        writeln!(out, "  taken        {}", whole_seconds(&summary.taken_at))?;
        writeln!(out, "  pause        {} ms, saved {}", summary.pause_ms, described(summary.method))?;
        writeln!(out, "  memory       {}", BinaryBytes(summary.memory_bytes))?;
        writeln!(out, "  on disk      {}", BinaryBytes(summary.saved_bytes))?;
        writeln!(out, "  QEMU         {}, {} ({})", self.qemu, self.machine_type, self.accelerator)?;
        writeln!(out, "  directory    {}", escape_control(&summary.directory))?;
        for disk in &self.disks {
            writeln!(out, "  drive `{}` is {}", disk.drive, escape_control(&disk.file))?;
        }
        for used in &self.uses {
            writeln!(out, "  used by {}", escape_control(used))?;
        }
        if !self.generation_id {
            writeln!(out, "  guests started from it repeat random numbers: the VM has no `vmgenid` device")?;
        }
        Ok(())
    }
}

impl TextOutput for CheckpointReadiness {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let verdict = if self.ready { "can be taken" } else { "cannot be taken" };
        writeln!(out, "a checkpoint of `{}` {verdict}", self.name)?;
        if let (Some(method), Some(reason)) = (self.method, &self.reason) {
            let pause = self.pause_ms.unwrap_or_default();
            writeln!(out, "  {}: {}", described(method), escape_control(reason))?;
            writeln!(out, "  the guest is paused for about {pause} ms")?;
        }
        for obstacle in &self.obstacles {
            writeln!(out, "in the way: {}", escape_control(&obstacle.problem))?;
            obstacle.hints.iter().try_for_each(|hint| writeln!(out, "  hint: {hint}"))?;
        }
        Ok(())
    }
}

impl TextOutput for CheckpointCanceled {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let outcome = if self.canceled { "gave up" } else { "was too late to give up" };
        writeln!(out, "{outcome} checkpoint `{}` of `{}`", escape_control(&self.checkpoint), self.name)
    }
}

impl TextOutput for CheckpointRestored {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let name = &self.vm.name;
        writeln!(out, "`{name}` is {} from checkpoint `{}`{}", self.vm.status, self.checkpoint, pid(&self.vm))?;
        match &self.saved_as {
            Some(saved) => writeln!(out, "  its state before is checkpoint `{saved}`")?,
            None => writeln!(out, "  its state before is gone")?,
        }
        self.removed_layers.iter().try_for_each(|layer| writeln!(out, "  layer removed: {}", escape_control(layer)))
    }
}

impl TextOutput for CheckpointRemoved {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for checkpoint in &self.removed {
            writeln!(out, "removed checkpoint `{}` of `{}`", escape_control(checkpoint), self.name)?;
        }
        for layer in &self.kept {
            writeln!(out, "  layer stays: {}", escape_control(layer))?;
        }
        Ok(())
    }
}
