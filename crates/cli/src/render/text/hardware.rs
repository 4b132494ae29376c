//! What became of the parts of a running machine.

use std::io::{self, Write};

use maqet::domain::size::ByteSize;
use maqet::operation::{Balloon, DeviceAdded, DeviceDeleted, Link, LinkSet, MediumChanged, NmiSent};

use super::TextOutput;
use super::escape_control;

impl TextOutput for DeviceAdded {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let bus = self.bus.as_deref().map(|bus| format!(" on `{}`", escape_control(bus))).unwrap_or_default();
        let addr = self.addr.as_deref().map(|addr| format!(" at {addr}")).unwrap_or_default();
        writeln!(out, "`{}` has `{}` ({}){bus}{addr}, until it stops", self.name, self.device, self.driver)?;
        self.forwards.iter().try_for_each(|forward| {
            let (protocol, address) = (forward.protocol.as_str(), forward.host_address);
            writeln!(out, "  {protocol} {address}:{} leads to port {}", forward.host_port, forward.guest_port)
        })
    }
}

impl TextOutput for DeviceDeleted {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let device = escape_control(&self.device);
        match (self.changed, &self.back_end) {
            (true, _) => writeln!(out, "`{device}` is out of `{}`", self.name),
            (false, _) => writeln!(out, "`{device}` was out of `{}` already; what was behind it is removed", self.name),
        }?;
        self.in_use.iter().try_for_each(|name| {
            let name = escape_control(name);
            writeln!(out, "  `{name}`, which was behind it, is open still: something else uses it, such as a block job")
        })
    }
}

impl TextOutput for MediumChanged {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let drive = escape_control(&self.drive);
        let (ejected, inserted) =
            (self.ejected.as_deref().map(escape_control), self.inserted.as_deref().map(escape_control));
        match (ejected, inserted) {
            (_, Some(inserted)) => writeln!(out, "`{drive}` of `{}` has {inserted}", self.name),
            (Some(ejected), None) => writeln!(out, "`{drive}` of `{}` is open; {ejected} is out", self.name),
            (None, None) => writeln!(out, "`{drive}` of `{}` is open; nothing was in it", self.name),
        }
    }
}

impl TextOutput for LinkSet {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let state = if self.state == Link::Up { "up" } else { "down" };
        writeln!(out, "the link of `{}` of `{}` is {state}", escape_control(&self.nic), self.name)
    }
}

impl TextOutput for Balloon {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let [actual, memory] = [self.actual_bytes, self.memory_bytes].map(ByteSize::from_bytes);
        writeln!(out, "the guest of `{}` has {actual} of {memory}", self.name)
    }
}

impl TextOutput for NmiSent {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "sent a non-maskable interrupt to `{}`", self.name)
    }
}
