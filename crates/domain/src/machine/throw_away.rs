//! What a VM that is thrown away needs, unless its definition decides.

use super::Machine;
use super::bus::Bus;
use crate::qemu::OptionString;
use crate::vm::THROW_AWAY_LABEL;

impl Machine {
    /// Returns whether a device can be added by which the guest reports a panic: there is none, the machine has a place for
    /// it, and no argument says what happens then.
    pub fn takes_panic_device(&self, architecture: &str) -> bool {
        let has_own = self.device_texts().any(|text| text.contains("pvpanic"));
        let has_place = self.is_pc(architecture) && self.kind_on(architecture) != Some("microvm")
            || self.bus(architecture, std::path::Path::new("")) == Some(Bus::Pci) && self.has_free_slot(Bus::Pci);
        let is_free = self.devices.panic.is_none() && !has_own && !self.has_switch("nodefaults");
        is_free && has_place && !self.has_action("panic")
    }

    /// Returns whether the definition says what happens when the guest resets itself.
    pub fn decides_about_resets(&self) -> bool {
        self.has_switch("no-reboot") || self.has_action("reboot")
    }

    /// Returns whether the VM is one that is thrown away, with all that it writes but the images of `-drive` and the like.
    pub(super) fn is_thrown_away(&self) -> bool {
        self.labels.iter().any(|(label, _)| label == THROW_AWAY_LABEL)
    }

    fn has_action(&self, event: &str) -> bool {
        let names = |action: OptionString| action.get(event).is_some();
        self.user_options("action").any(names)
    }
}

#[cfg(test)]
mod tests {
    use crate::machine::reading::read;

    #[test]
    fn test_panic_device_is_added_where_nothing_speaks_against_it() {
        for (definition, expected) in [
            ("{}", true),
            (r#"{"machine": "q35"}"#, true),
            (r#"{"machine": "isapc"}"#, true),
            (r#"{"machine": "microvm"}"#, false),
            (r#"{"panic": "pause"}"#, false),
            (r#"{"arguments": [{"device": "pvpanic-pci"}]}"#, false),
            (r#"{"arguments": [{"action": {"panic": "none"}}]}"#, false),
            (r#"{"args": ["-nodefaults"]}"#, false),
        ] {
            let (machine, problems) = read(definition);
            assert_eq!((machine.takes_panic_device("x86_64"), problems.len()), (expected, 0), "{definition}");
        }
        let (arm, _) = read(r#"{"arch": "aarch64"}"#);
        assert!(arm.takes_panic_device("aarch64"));
    }

    #[test]
    fn test_decides_about_resets_by_either_switch() {
        for (definition, expected) in [
            ("{}", false),
            (r#"{"arguments": ["no-reboot"]}"#, true),
            (r#"{"args": ["-action", "reboot=reset"]}"#, true),
            (r#"{"arguments": [{"action": {"panic": "none"}}]}"#, false),
        ] {
            assert_eq!(read(definition).0.decides_about_resets(), expected, "{definition}");
        }
    }

    /// Nothing that such a VM writes is kept: disks are overlays or new, and so are the variables and the state of the TPM.
    #[test]
    fn test_snapshot_of_a_vm_that_is_thrown_away_is_accepted() {
        for key in [r#""storage": [{"name": "a"}]"#, r#""firmware": "uefi""#, r#""tpm": true"#] {
            let rest = format!(r#"{key}, "arguments": ["snapshot", {{"drive": "file=/a,format=raw"}}]"#);
            let (_, problems) = read(&format!("{{{rest}}}"));
            let (_, accepted) = read(&format!(r#"{{"labels": {{"maqet.run": "true"}}, {rest}}}"#));
            assert_eq!((problems.len(), accepted.len()), (1, 0), "{key}");
        }
    }
}
