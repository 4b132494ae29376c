//! Changes to the hardware of a running VM.

use std::io::{self, Write};

use maqet::domain::size::ByteSize;
use maqet::operation::{Balloon, DeviceAdded, DeviceDeleted, Link, LinkSet, MediumChanged, NmiSent};

use super::{TextOutput, forward_text};
use crate::render::sanitize::escape_control;

impl TextOutput for DeviceAdded {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let bus = self.bus.as_deref().map(|bus| format!(" on bus `{}`", escape_control(bus))).unwrap_or_default();
        let addr = self.addr.as_deref().map(|addr| format!(" at {addr}")).unwrap_or_default();
        writeln!(out, "added `{}` ({}) to `{}`{bus}{addr} until it stops", self.device, self.driver, self.name)?;
        self.forwards.iter().try_for_each(|forward| writeln!(out, "  forwarded {}", forward_text(forward)))
    }
}

impl TextOutput for DeviceDeleted {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let device = escape_control(&self.device);
        if self.changed {
            writeln!(out, "removed `{device}` from `{}`", self.name)?;
        } else {
            writeln!(out, "`{device}` was already removed from `{}`; removed its backend", self.name)?;
        }
        self.in_use.iter().try_for_each(|name| {
            writeln!(
                out,
                "  kept its backend `{}`, which is still in use, for example by a block job",
                escape_control(name)
            )
        })
    }
}

impl TextOutput for MediumChanged {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let drive = escape_control(&self.drive);
        let [ejected, inserted] = [&self.ejected, &self.inserted].map(|file| file.as_deref().map(escape_control));
        match (ejected, inserted) {
            (_, Some(inserted)) => writeln!(out, "inserted {inserted} into `{drive}` of `{}`", self.name),
            (Some(ejected), None) => writeln!(out, "ejected {ejected} from `{drive}` of `{}`", self.name),
            (None, None) => writeln!(out, "opened `{drive}` of `{}`; it was empty", self.name),
        }
    }
}

impl TextOutput for LinkSet {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let state = if self.state == Link::Up { "up" } else { "down" };
        writeln!(out, "link of network card `{}` of `{}` is {state}", escape_control(&self.nic), self.name)
    }
}

impl TextOutput for Balloon {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let [actual, memory] = [self.actual_bytes, self.memory_bytes].map(ByteSize::from_bytes);
        writeln!(out, "guest of `{}` uses {actual} of {memory} of memory", self.name)
    }
}

impl TextOutput for NmiSent {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "sent a non-maskable interrupt to `{}`", self.name)
    }
}
