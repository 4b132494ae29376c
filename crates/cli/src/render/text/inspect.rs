//! Results of `maqet inspect`.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use indicatif::{BinaryBytes, HumanDuration};
use maqet::VmStatus;
use maqet::operation::{
    InspectedDisk, InspectedGuest, InspectedMachine, InspectedProcess, InspectedSocket, VmInspection,
};

use super::table::write_table;
use super::vm::{limits, write_field, write_heading, write_state};
use super::{PLAIN, TextOutput, whole_seconds};

impl TextOutput for VmInspection {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        write_heading(&self.vm, out)?;
        write_state(&self.vm, out)?;
        if let Some(machine) = &self.machine {
            write_machine(machine, out)?;
        }
        if let Some(guest) = &self.guest {
            write_guest(guest, out)?;
        }
        match &self.process {
            Some(process) => write_process(process, out)?,
            None => write_last_run(&self.vm, out)?,
        }
        if !self.disks.is_empty() {
            writeln!(out)?;
            let rows = self.disks.iter().map(|disk| (PLAIN, disk_row(disk)));
            write_table(out, &["DISK", "TYPE", "SIZE", "ALLOCATED", "FILE", "NOTE"], 0, rows)?;
            for (name, hint) in self.disks.iter().flat_map(|disk| disk.hints.iter().map(|hint| (&disk.name, hint))) {
                writeln!(out, "hint for `{name}`: {hint}")?;
            }
        }
        if !self.sockets.is_empty() {
            writeln!(out)?;
            let rows = self.sockets.iter().map(|socket| (PLAIN, socket_row(socket)));
            write_table(out, &["SOCKET", "CONNECTED", "PURPOSE", "FILE"], 0, rows)?;
            for (socket, problem) in self.sockets.iter().filter_map(|socket| Some((socket, socket.problem.as_ref()?))) {
                writeln!(out, "warning: `{}`: {problem}", socket.name)?;
            }
        }
        Ok(())
    }
}

fn write_machine(machine: &InspectedMachine, out: &mut dyn Write) -> io::Result<()> {
    write_field(out, "QEMU", &machine.qemu_version)?;
    write_field(out, "machine type", &machine.r#type)?;
    write_field(out, "accelerator", machine.accelerator)?;
    write_field(out, "virtual CPUs", &machine.vcpus.to_string())?;
    write_field(out, "guest memory", &BinaryBytes(machine.memory_bytes).to_string())
}

fn write_guest(guest: &InspectedGuest, out: &mut dyn Write) -> io::Result<()> {
    let system = guest.system.as_ref();
    let agent = guest.agent_version.as_ref().map(|version| version.0.clone());
    let fields = [
        ("guest agent", agent),
        ("guest system", system.and_then(|system| system.name.clone())),
        ("guest kernel", system.and_then(|system| system.kernel.clone())),
        ("guest host name", guest.hostname.clone()),
    ];
    fields.into_iter().try_for_each(|(name, value)| value.map_or(Ok(()), |value| write_field(out, name, &value)))?;
    for interface in &guest.interfaces {
        let addresses: Vec<String> =
            interface.addresses.iter().map(|one| format!("{}/{}", one.address, one.prefix)).collect();
        write_field(out, "guest address", &format!("{} ({})", addresses.join(" "), interface.name))?;
    }
    Ok(())
}

fn write_process(process: &InspectedProcess, out: &mut dyn Write) -> io::Result<()> {
    let uptime = Duration::try_from_secs_f64(process.uptime_seconds).unwrap_or_default();
    let (now, average, sample) = (process.cpu.percent, process.cpu.percent_since_start, process.cpu.sample_seconds);
    let pss = process.pss_bytes.map(|pss| format!(", {} proportional", BinaryBytes(pss))).unwrap_or_default();

    write_field(out, "pid", &process.pid.to_string())?;
    if let Some(binary) = &process.binary {
        let deleted = if process.binary_deleted { " (deleted or replaced since)" } else { "" };
        write_field(out, "binary", &format!("{binary}{deleted}"))?;
    }
    write_field(out, "uptime", &format!("{}, since {}", HumanDuration(uptime), whole_seconds(&process.started_at)))?;
    write_field(out, "threads", &process.threads.to_string())?;
    let cpu = format!("{now:.0}% of one CPU over the last {sample:.2} s, {average:.0}% on average");
    write_field(out, "CPU", &cpu)?;
    write_field(out, "host memory", &format!("{} resident{pss}", BinaryBytes(process.rss_bytes)))
}

fn write_last_run(vm: &VmStatus, out: &mut dyn Write) -> io::Result<()> {
    let rows = [
        ("started", vm.started_at.as_ref().map(whole_seconds)),
        ("stopped", vm.stopped_at.as_ref().map(whole_seconds)),
        ("serial log", vm.serial_log.clone()),
        ("QEMU log", vm.qemu_log.clone()),
    ];
    rows.into_iter().try_for_each(|(name, value)| value.map_or(Ok(()), |value| write_field(out, name, &value)))
}

fn disk_row(disk: &InspectedDisk) -> [Cow<'_, str>; 6] {
    let size = |bytes: Option<u64>| bytes.map(|bytes| BinaryBytes(bytes).to_string()).unwrap_or_default();
    let limits = limits(disk.iops, disk.bps);
    let mut notes: Vec<&str> = disk.problem.as_deref().into_iter().collect();
    if disk.attached == Some(false) {
        notes.push("not attached to the running VM");
    }
    if disk.readonly {
        notes.push("read-only");
    }
    notes.extend(limits.iter().map(String::as_str));
    [
        Cow::from(&disk.name),
        disk.r#type.or(disk.format.as_deref()).unwrap_or_default().into(),
        size(disk.virtual_bytes).into(),
        size(disk.allocated_bytes).into(),
        Cow::from(&disk.file),
        notes.join(", ").into(),
    ]
}

fn socket_row(socket: &InspectedSocket) -> [Cow<'_, str>; 4] {
    let connected = match socket.connected {
        Some(true) => "yes",
        Some(false) => "no",
        None => "",
    };
    [Cow::from(&socket.name), connected.into(), socket.role.to_string().into(), Cow::from(&socket.file)]
}
