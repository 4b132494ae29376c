//! The channels to the guest: where a VM has them.

use std::path::Path;

use super::Machine;
use super::bus::Bus;

impl Machine {
    /// Returns the bus of the channels' controller; `None` if the machine has none.
    pub(crate) fn channel_bus(&self, architecture: &str, binary: &Path) -> Option<Bus> {
        let bus = self.bus(architecture, binary);
        match self.agent {
            Some(true) => Some(bus.unwrap_or(Bus::Pci)),
            Some(false) => None,
            None if self.has_switch("nodefaults") || self.has_own_channels() => None,
            None => bus.filter(|bus| self.has_free_slot(*bus)),
        }
    }

    /// Returns whether the user has added a virtio-serial controller, as for a guest agent.
    fn has_own_channels(&self) -> bool {
        self.device_texts().any(|text| text.contains("virtio-serial"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::builtin_handlers;
    use crate::storage::builtin_drivers;

    #[track_caller]
    fn check(definition: &str, architecture: &str, expected: Option<Bus>) {
        let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
        let (machine, problems) = Machine::read(&serde_json::from_str(definition).unwrap(), &handlers);
        assert!(problems.is_empty(), "{problems:?}");

        let bus = machine.channel_bus(architecture, Path::new("/usr/bin/qemu-system"));

        assert_eq!(bus, expected, "{definition} {architecture}");
    }

    #[test]
    fn test_channels_are_there_where_the_machine_has_a_bus() {
        for (definition, expected) in [
            ("{}", Some(Bus::Pci)),
            (r#"{"machine": "q35"}"#, Some(Bus::Pci)),
            (r#"{"machine": "microvm"}"#, Some(Bus::Mmio)),
            (r#"{"machine": "isapc"}"#, None),
            (r#"{"machine": "none"}"#, None),
        ] {
            check(definition, "x86_64", expected);
        }
        check("{}", "aarch64", Some(Bus::Pci));
        check("{}", "s390x", Some(Bus::Ccw));
        check("{}", "m68k", None);
    }

    #[test]
    fn test_channels_give_way_to_what_the_user_has() {
        for definition in [
            r#"{"guest": {"agent": false}}"#,
            r#"{"args": ["-nodefaults"]}"#,
            r#"{"arguments": [{"device": "virtio-serial-pci"}]}"#,
        ] {
            check(definition, "x86_64", None);
        }
        let drives: Vec<String> = (0..28).map(|number| format!(r#"{{"name": "d{number}"}}"#)).collect();
        check(&format!(r#"{{"storage": [{}]}}"#, drives.join(",")), "x86_64", None);
    }

    #[test]
    fn test_channels_on_request_are_there_all_the_same() {
        check(r#"{"guest": {"agent": true}, "args": ["-nodefaults"]}"#, "x86_64", Some(Bus::Pci));
        check(r#"{"guest": {"agent": true}}"#, "m68k", Some(Bus::Pci));
    }
}
