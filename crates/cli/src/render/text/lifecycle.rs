//! Results of the commands that change what runs.

use std::io::{self, Write};

use maqet::StopMethod;
use maqet::operation::{PowerChanged, Restarted, Started, Stopped, Waited};

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
        let how = match self.how {
            StopMethod::Nothing if self.vm.status == "defined" => ": it was never started".to_owned(),
            StopMethod::Nothing => " already".to_owned(),
            rung => format!(": {}", took(rung)),
        };
        writeln!(out, "`{}` is {}{how}", self.vm.name, self.vm.status)
    }
}

impl TextOutput for Restarted {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let pid = self.vm.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        writeln!(out, "`{}` is {} again{pid}: {}", self.vm.name, self.vm.status, took(self.how))
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
            "`{}` is {}: {} came true after {seconds}.{tenths} s",
            self.vm.name,
            self.vm.status,
            escape_control(&met)
        )
    }
}

/// Returns what a rung of the ladder was.
const fn took(rung: StopMethod) -> &'static str {
    match rung {
        StopMethod::Nothing => "it was not running",
        StopMethod::PowerDown => "the guest powered off",
        StopMethod::Quit => "QEMU was told to quit",
        StopMethod::Term => "QEMU was ended with SIGTERM",
        StopMethod::Kill => "QEMU was killed",
        StopMethod::Unseen => "QEMU ended before its guest powered off",
    }
}
