//! The accelerators that the user's switches choose.

use super::{Refusal, UserSwitch};
use crate::machine::{AccelChoice, Machine};
use crate::qemu::option_value;

/// The accelerator without which guests run on any host.
const TCG: &str = "tcg";

const KVM: &str = "kvm";

impl Machine {
    /// Returns the accelerators that the user's switches choose, in the order in which QEMU tries them; none if they
    /// leave it to maqet.
    ///
    /// `-enable-kvm` is that option of the machine, which excludes `-accel` (7.2, 10.0).
    pub fn user_accelerators(&self) -> Vec<String> {
        let of_machine = self.machine_arguments().filter_map(|argument| option_value(argument, "accel")).next_back();
        match of_machine {
            Some(list) => list.split(':').map(str::to_owned).collect(),
            None if self.has_switch("enable-kvm") => vec![KVM.to_owned()],
            None => self.user_options("accel").map(|options| options.head().to_owned()).collect(),
        }
    }

    /// Returns whether the user's switches make QEMU try KVM before an accelerator that always works.
    pub fn tries_kvm(&self) -> bool {
        self.user_accelerators().iter().take_while(|name| *name != TCG).any(|name| name == KVM)
    }

    /// A switch replaces that of the key, whose promise would not hold: that KVM is used, or not.
    pub(super) fn contradicted_accelerator(&self, switch: &UserSwitch<'_>) -> Option<Refusal> {
        let key = match self.accel {
            AccelChoice::Auto => return None,
            AccelChoice::Kvm => KVM,
            AccelChoice::Tcg => TCG,
        };
        let chosen = match switch.name.as_str() {
            "enable-kvm" => KVM,
            "accel" => switch.head(),
            _ => switch.option("accel")?,
        };
        // QEMU reports others, which it does not have.
        let is_other = |name: &str| name != key && [KVM, TCG].contains(&name);
        let message = match switch.name.as_str() {
            "machine" => format!("`accel={chosen}` of the machine contradicts `accel: {key}`"),
            _ => format!("{} contradicts `accel: {key}`", switch.shown(&switch.argument)),
        };
        chosen.split(':').any(is_other).then(|| Refusal { message, help: "remove one of them".to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use crate::machine::reading::read;

    #[test]
    fn test_user_accelerators_are_in_the_order_of_qemu() {
        let chosen = |definition: &str| {
            let machine = read(definition).0;
            (machine.user_accelerators().join(" "), machine.tries_kvm())
        };
        for (definition, expected, tries_kvm) in [
            (r#"{"accel": "tcg"}"#, "", false),
            (r#"{"arguments": ["enable-kvm"]}"#, "kvm", true),
            (r#"{"args": ["--enable-kvm"]}"#, "kvm", true),
            (r#"{"arguments": [{"accel": "kvm,kernel-irqchip=split"}]}"#, "kvm", true),
            (r#"{"args": ["-accel", "kvm", "-accel", "tcg"]}"#, "kvm tcg", true),
            (r#"{"args": ["-accel", "tcg", "-accel", "kvm"]}"#, "tcg kvm", false),
            (r#"{"machine": {"type": "q35", "accel": "kvm:tcg"}}"#, "kvm tcg", true),
            (r#"{"machine": "q35,accel=kvm", "args": ["-machine", "accel=tcg:kvm"]}"#, "tcg kvm", false),
            (r#"{"args": ["-M", "pc,accel=xen:kvm"]}"#, "xen kvm", true),
        ] {
            assert_eq!(chosen(definition), (expected.to_owned(), tries_kvm), "{definition}");
        }
    }
}
