//! How far a guest came while it booted, by what it wrote to its serial console.

use serde::{Deserialize, Serialize};

/// How far a guest came.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, strum::Display, strum::EnumString
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum BootStage {
    /// Its firmware or boot loader wrote something.
    Firmware,
    /// Its kernel was started.
    Kernel,
    /// Its first program was started.
    Init,
    /// Its agent answered.
    Agent,
}

/// What init systems and login programs write.
const INIT: [&str; 6] = [
    "Run /init as init process",
    "Run /sbin/init as init process",
    "systemd[1]:",
    "INIT: version",
    "Welcome to ",
    " login:",
];

/// What kernels write.
const KERNEL: [&str; 5] =
    ["Linux version ", "Kernel panic - not syncing", "Booting Linux", "Decompressing Linux", "FreeBSD/"];

impl BootStage {
    /// Returns the stage that an output shows; `None` if there is none.
    pub fn from_serial(output: &str) -> Option<Self> {
        let has = |texts: &[&str]| texts.iter().any(|text| output.contains(text));
        if has(&INIT) {
            Some(Self::Init)
        } else if has(&KERNEL) || output.lines().any(has_kernel_time) {
            Some(Self::Kernel)
        } else {
            (!output.trim().is_empty()).then_some(Self::Firmware)
        }
    }
}

/// Returns whether a line begins as those of the Linux kernel: `[    1.234567] `.
fn has_kernel_time(line: &str) -> bool {
    let time = line.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("] "));
    let parts = time.and_then(|(time, _)| time.trim_start().split_once('.'));
    parts.is_some_and(|(seconds, fraction)| {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        fraction.len() == 6 && is_number(seconds) && is_number(fraction)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_stage_of_outputs_is_the_last_that_was_reached() {
        for (output, expected) in [
            ("", None),
            (" \r\n", None),
            ("SeaBIOS (version 1.16.2)\r\nBooting from Hard Disk...\r\n", Some(BootStage::Firmware)),
            ("GNU GRUB  version 2.06", Some(BootStage::Firmware)),
            ("[    0.000000] Linux version 6.1.0-31-amd64", Some(BootStage::Kernel)),
            ("[    0.123456] ACPI: Core revision", Some(BootStage::Kernel)),
            ("[ 12.34] menu", Some(BootStage::Firmware)),
            ("x\n[    1.000001] Kernel panic - not syncing: VFS", Some(BootStage::Kernel)),
            ("[    1.000001] x\n[    1.500000] Run /init as init process", Some(BootStage::Init)),
            ("[    2.000001] systemd[1]: Detected architecture x86-64.", Some(BootStage::Init)),
            ("debian login: ", Some(BootStage::Init)),
        ] {
            assert_eq!(BootStage::from_serial(output), expected, "{output:?}");
        }
        assert!(BootStage::Agent > BootStage::Init && BootStage::Init > BootStage::Kernel);
    }
}
