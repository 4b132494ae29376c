//! Results of the commands that change what runs.

use std::io::{self, Write};

use maqet::operation::{PowerChanged, Restarted, Started, Stopped, Waited};
use maqet::{StopMethod, VmStatus};

use super::TextOutput;
use crate::render::sanitize::escape_control;

impl TextOutput for Started {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let already = if self.changed { "" } else { " already" };
        let pid = self.vm.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        writeln!(out, "`{}` is {}{already}{pid}", self.vm.name, self.vm.status)
    }
}

impl TextOutput for Stopped {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let cause = match self.method {
            StopMethod::None if self.vm.status == "defined" => ": it was never started".to_owned(),
            StopMethod::None => " already".to_owned(),
            method => format!(": {}", cause(&self.vm, method)),
        };
        writeln!(out, "`{}` is {}{cause}", self.vm.name, self.vm.status)
    }
}

impl TextOutput for Restarted {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let pid = self.vm.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        writeln!(out, "`{}` is {} again{pid}: {}", self.vm.name, self.vm.status, stopped_by(self.method))
    }
}

impl TextOutput for PowerChanged {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let already = if self.changed { "" } else { " already" };
        writeln!(out, "`{}` is {}{already}", self.vm.name, self.vm.status)
    }
}

impl TextOutput for Waited {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let met: Vec<String> = self.met.iter().map(|condition| format!("`{condition}`")).collect();
        let (seconds, tenths) = (self.waited_ms / 1_000, self.waited_ms % 1_000 / 100);
        let met = met.join(" and ");
        writeln!(
            out,
            "`{}` is {}: {} met after {seconds}.{tenths} s",
            self.vm.name,
            self.vm.status,
            escape_control(&met)
        )
    }
}

/// Returns why a VM is stopped, in the words of `status`, and the signal that maqet sent.
fn cause(vm: &VmStatus, method: StopMethod) -> String {
    match (vm.reason, method) {
        (Some(reason), StopMethod::Sigterm | StopMethod::Sigkill) => format!("{} ({method})", reason.in_words()),
        (Some(reason), _) => reason.in_words().to_owned(),
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
