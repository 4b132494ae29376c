//! USB devices of the host that the user may not open.

use maqet_domain::machine::Machine;
use maqet_domain::text::quote;

use super::preflight::Preflight;

impl Preflight<'_> {
    /// Returns a warning for each USB device that the guest would not get, of which QEMU says nothing.
    pub(super) fn usb_warnings(&self, machine: &Machine) -> Vec<String> {
        let warning = |device| {
            let file = self.host.refused_usb_file(device)?;
            let quoted = quote(&file.to_string_lossy());
            Some(format!(
                "the guest does not get USB device `{device}`: you may not open `{}`; permit it until it is plugged in again: \
                 `sudo chmod a+rw {quoted}`, or for good by a rule of udev",
                file.display()
            ))
        };
        machine.devices.usb.iter().filter_map(warning).collect()
    }
}
