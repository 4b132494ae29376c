//! What `inspect` found, for people.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use indicatif::{BinaryBytes, HumanDuration};
use maqet::VmStatus;
use maqet::operation::{InspectedDisk, InspectedMachine, InspectedProcess, InspectedSocket, VmInspection};

use super::{PLAIN, TextOutput, columns, whole_seconds};
use crate::render::sanitize::escape_control;

impl TextOutput for VmInspection {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        head(&self.vm, out)?;
        if let Some(machine) = &self.machine {
            of_machine(machine, out)?;
        }
        if let Some(process) = &self.process {
            of_process(process, out)?;
        } else {
            last_run(&self.vm, out)?;
        }
        if !self.disks.is_empty() {
            writeln!(out)?;
            let rows = self.disks.iter().map(|disk| (PLAIN, of_disk(disk)));
            columns(out, ["DISK", "TYPE", "SIZE", "ON HOST", "FILE", "NOTE"], 0, rows)?;
        }
        if !self.sockets.is_empty() {
            writeln!(out)?;
            let rows = self.sockets.iter().map(|socket| (PLAIN, of_socket(socket)));
            columns(out, ["SOCKET", "CONNECTED", "FOR", "FILE"], 0, rows)?;
        }
        Ok(())
    }
}

fn line(out: &mut dyn Write, name: &str, value: &str) -> io::Result<()> {
    writeln!(out, "  {name:<13} {}", escape_control(value))
}

fn head(vm: &VmStatus, out: &mut dyn Write) -> io::Result<()> {
    super::head(vm, out)?;
    vm.busy.as_ref().map_or(Ok(()), |busy| line(out, "busy", &busy.to_string()))
}

fn of_machine(machine: &InspectedMachine, out: &mut dyn Write) -> io::Result<()> {
    let cpus = if machine.vcpus == 1 { "CPU" } else { "CPUs" };
    line(out, "QEMU", &machine.qemu_version)?;
    line(out, "machine", &format!("{}, accelerator {}", machine.r#type, machine.accelerator))?;
    line(out, "guest has", &format!("{} {cpus}, {} of memory", machine.vcpus, BinaryBytes(machine.memory_bytes)))
}

fn of_process(process: &InspectedProcess, out: &mut dyn Write) -> io::Result<()> {
    let gone = if process.binary_is_gone { " (removed or replaced since)" } else { "" };
    let uptime = Duration::try_from_secs_f64(process.uptime_seconds).unwrap_or_default();
    let cpu = process.cpu;
    line(out, "pid", &format!("{}, {} threads", process.pid, process.threads))?;
    if let Some(binary) = &process.binary {
        line(out, "binary", &format!("{binary}{gone}"))?;
    }
    line(out, "up", &format!("{}, since {}", HumanDuration(uptime), whole_seconds(&process.started_at)))?;
    line(
        out,
        "CPU",
        &format!(
            "{:.0}% of one CPU during the last {:.2} s, {:.0}% since the start",
            cpu.percent, cpu.sample_seconds, cpu.percent_since_start
        ),
    )?;
    let pss = process.pss_bytes.map(|pss| format!(", {} with shared pages divided", BinaryBytes(pss)));
    line(out, "memory", &format!("{} in RAM{}", BinaryBytes(process.rss_bytes), pss.unwrap_or_default()))
}

fn last_run(vm: &VmStatus, out: &mut dyn Write) -> io::Result<()> {
    let rows = [
        ("started", vm.started_at.as_ref().map(whole_seconds)),
        ("stopped", vm.stopped_at.as_ref().map(whole_seconds)),
        ("serial log", vm.serial_log.clone()),
        ("QEMU log", vm.qemu_log.clone()),
    ];
    rows.into_iter().try_for_each(|(name, value)| value.map_or(Ok(()), |value| line(out, name, &value)))
}

fn of_disk(disk: &InspectedDisk) -> [String; 6] {
    let size = |bytes: Option<u64>| bytes.map(|bytes| BinaryBytes(bytes).to_string()).unwrap_or_default();
    let kind = disk.r#type.map_or_else(|| disk.format.as_deref().unwrap_or_default().into(), Cow::Borrowed);
    let mut notes: Vec<&str> = disk.problem.as_deref().into_iter().collect();
    if disk.attached == Some(false) {
        notes.push("not in the running machine");
    }
    if disk.readonly {
        notes.push("read-only");
    }
    [
        disk.name.clone(),
        kind.into_owned(),
        size(disk.virtual_bytes),
        size(disk.allocated_bytes),
        disk.file.clone(),
        notes.join(", "),
    ]
}

fn of_socket(socket: &InspectedSocket) -> [String; 4] {
    let connected = match socket.connected {
        Some(true) => "yes",
        Some(false) => "no",
        None => "",
    };
    [socket.name.clone(), connected.to_owned(), socket.role.in_words().to_owned(), socket.file.clone()]
}
