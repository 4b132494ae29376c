//! The devices that receive the keys of `send-key`.

/// The objects whose children are the devices of a VM, beside those that boards own (7.2, 10.0).
pub const DEVICE_PARENTS: [&str; 3] = ["/machine/unattached", "/machine/peripheral", "/machine/peripheral-anon"];

/// The keyboards of the boards in [`BOARDS`]: their own, and those that can be added, by the beginning of their types (7.2,
/// 10.0). Keyboards of the host that are passed through do not receive keys from QEMU.
const KEYBOARDS: [&str; 3] = ["i8042", "usb-kbd", "virtio-keyboard"];

/// The boards of which all keyboards are known, by the beginning of their types. Others may have one of their own.
const BOARDS: [&str; 5] = ["pc-", "isapc-", "microvm-", "virt-", "none-"];

/// Returns whether a device is a keyboard, by its type.
pub fn is_keyboard(device: &str) -> bool {
    // The type of virtio names its bus as well: `virtio-keyboard-pci`, `virtio-keyboard-device`.
    KEYBOARDS.iter().any(|keyboard| device.starts_with(keyboard))
}

/// Returns whether a VM whose machine has this type has no keyboard unless a device is one.
pub fn has_only_known_keyboards(machine: &str) -> bool {
    BOARDS.iter().any(|board| machine.starts_with(board))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_keyboard_devices_are_distinguished_from_others() {
        for device in ["i8042", "usb-kbd", "virtio-keyboard-pci", "virtio-keyboard-pci-non-transitional"] {
            assert!(is_keyboard(device), "{device}");
        }
        for device in ["usb-mouse", "usb-tablet", "virtio-tablet-pci", "virtio-input-host-pci", "i8257"] {
            assert!(!is_keyboard(device), "{device}");
        }
    }

    #[test]
    fn test_boards_with_own_keyboards_are_not_listed() {
        for machine in ["pc-q35-10.0-machine", "pc-i440fx-7.2-machine", "microvm-machine", "isapc-machine"] {
            assert!(has_only_known_keyboards(machine), "{machine}");
        }
        for machine in ["mac99-machine", "SS-5-machine", "q800-machine"] {
            assert!(!has_only_known_keyboards(machine), "{machine}");
        }
    }
}
