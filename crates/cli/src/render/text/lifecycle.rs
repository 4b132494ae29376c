//! Results of the commands that start and stop VMs.

use std::io::{self, Write};

use maqet::domain::guest::GuestBoot;
use maqet::operation::{PowerChanged, Restarted, Started, Stopped, Upgraded, Waited};
use maqet::{StopMethod, VmStatus};

use super::TextOutput;
use crate::render::sanitize::escape_control;

impl TextOutput for Started {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        write_state(out, &self.vm, self.changed, &pid(&self.vm))
    }
}

impl TextOutput for Stopped {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.removed {
            return writeln!(out, "`{}` is stopped and was removed, as it is ephemeral", self.vm.name);
        }
        match self.method {
            StopMethod::None if self.vm.status == "defined" => writeln!(out, "`{}` was never started", self.vm.name),
            StopMethod::None => write_state(out, &self.vm, false, ""),
            method => {
                let cause = cause(&self.vm, method);
                write_state(
                    out,
                    &self.vm,
                    true,
                    &format!(": {}", ended(&cause, method, self.waited_ms, self.power_cut_after_ms)),
                )
            }
        }
    }
}

impl TextOutput for Restarted {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let VmStatus { name, status, .. } = &self.vm;
        match self.method {
            StopMethod::None => writeln!(out, "`{name}` is {status}{}; it was not running before", pid(&self.vm)),
            method => {
                let ended = ended(stopped_by(method), method, self.waited_ms, self.power_cut_after_ms);
                writeln!(out, "`{name}` is {status} again{}: {ended}", pid(&self.vm))
            }
        }
    }
}

impl TextOutput for Upgraded {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { from, to, binary, pause_ms, .. } = self;
        let VmStatus { name, status, .. } = &self.vm;
        let pause = pause_ms.map(|pause| format!("; the guest was paused for {pause} ms")).unwrap_or_default();
        writeln!(
            out,
            "`{name}` is {status} in QEMU {to} (`{}`){}, before in {from}{pause}",
            escape_control(binary),
            pid(&self.vm)
        )
    }
}

impl TextOutput for PowerChanged {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.awaits_resume {
            let name = &self.vm.name;
            return writeln!(out, "`{name}` was reset and is still paused; it boots once `maqet resume {name}` is run");
        }
        let clock = self.vm.clock_behind_ms.filter(|_| self.changed).map(|milliseconds| {
            let behind = seconds(milliseconds);
            format!("; its guest's clock is {behind} behind: set it there, as with NTP or `hwclock --hctosys`")
        });
        write_state(out, &self.vm, self.changed, &clock.unwrap_or_default())
    }
}

impl TextOutput for Waited {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let met: Vec<String> = self.met.iter().map(|condition| format!("`{condition}`")).collect();
        let met = met.join(" and ");
        let (met, after) = (escape_control(&met), seconds(self.waited_ms));
        writeln!(out, "`{}` is {}: {met} met after {after}", self.vm.name, self.vm.status)?;
        if let Some(GuestBoot::Degraded { failed_units }) = &self.guest.boot {
            writeln!(out, "failed in its guest: {}", failed_units.join(", "))?;
        }
        for address in &self.guest.addresses {
            writeln!(out, "address: {}/{}", escape_control(&address.address), address.prefix)?;
        }
        Ok(())
    }
}

fn write_state(out: &mut dyn Write, vm: &VmStatus, changed: bool, more: &str) -> io::Result<()> {
    let already = if changed { "" } else { "already " };
    writeln!(out, "`{}` is {already}{}{more}", vm.name, vm.status)
}

/// Returns how a VM was stopped: `cause`, and how long the guest took or had to power off.
fn ended(cause: &str, method: StopMethod, waited_ms: u64, power_cut_after_ms: Option<u64>) -> String {
    match (method, power_cut_after_ms) {
        (StopMethod::PowerDown, _) => format!("{cause} after {}", seconds(waited_ms)),
        (_, Some(had)) => format!("its guest did not power off in {}, so {cause}", seconds(had)),
        (_, None) => cause.to_owned(),
    }
}

pub(super) fn seconds(milliseconds: u64) -> String {
    format!("{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100)
}

/// Returns the process of a VM that was started, or why it has ended already.
pub(super) fn pid(vm: &VmStatus) -> String {
    match (vm.pid, vm.reason) {
        (Some(pid), _) => format!(" (pid {pid})"),
        (None, Some(reason)) => format!(" ({reason})"),
        (None, None) => String::new(),
    }
}

/// Returns why a VM is stopped, as `status` does, and the signal that maqet sent.
fn cause(vm: &VmStatus, method: StopMethod) -> String {
    match (vm.reason, method) {
        (Some(reason), StopMethod::Sigterm | StopMethod::Sigkill) => format!("{reason} ({method})"),
        (Some(reason), _) => reason.to_string(),
        (None, _) => stopped_by(method).to_owned(),
    }
}

const fn stopped_by(method: StopMethod) -> &'static str {
    match method {
        StopMethod::None => "it was not running",
        StopMethod::PowerDown => "the guest powered off",
        StopMethod::Quit => "QEMU quit on request",
        StopMethod::Sigterm => "QEMU was ended by SIGTERM",
        StopMethod::Sigkill => "QEMU was killed by SIGKILL",
        StopMethod::Unobserved => "QEMU ended before the guest powered off",
    }
}
