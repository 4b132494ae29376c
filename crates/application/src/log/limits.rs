//! How large the logs of VMs may become.

use maqet_domain::size::ByteSize;

use crate::limits;

/// The limits of logs, which settings can change; the defaults are in [`limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// The space of the serial log of a boot.
    pub serial: ByteSize,
    /// The space of QEMU's output in a boot.
    pub qemu: ByteSize,
    /// The space of the QMP log of a boot.
    pub qmp: ByteSize,
    /// The size of maqet's own log of a VM.
    pub maqet: ByteSize,
    /// The size of the log of hooks; the one before is kept as well.
    pub hooks: ByteSize,
    /// How many boots of a VM keep their logs.
    pub boots: usize,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            serial: limits::MAX_SERIAL_LOG,
            qemu: limits::MAX_QEMU_LOG,
            qmp: limits::MAX_QMP_LOG,
            maqet: limits::MAX_MAQET_LOG,
            hooks: limits::MAX_HOOK_LOG,
            boots: limits::KEPT_BOOTS,
        }
    }
}

impl LogLimits {
    /// The names of the sizes, as in the settings.
    pub const SIZES: [&'static str; 5] = ["serial", "qemu", "qmp", "maqet", "hooks"];

    /// Returns the size of this name.
    pub fn size_mut(&mut self, name: &str) -> Option<&mut ByteSize> {
        match name {
            "serial" => Some(&mut self.serial),
            "qemu" => Some(&mut self.qemu),
            "qmp" => Some(&mut self.qmp),
            "maqet" => Some(&mut self.maqet),
            "hooks" => Some(&mut self.hooks),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_log_limits_every_name_is_a_size_of_its_own() {
        for name in LogLimits::SIZES {
            let mut limits = LogLimits::default();

            *limits.size_mut(name).unwrap() = ByteSize::from_bytes(7);

            let LogLimits { serial, qemu, qmp, maqet, hooks, boots: _ } = limits;
            let changed = [serial, qemu, qmp, maqet, hooks].map(|size| size.bytes() == 7);
            assert_eq!(changed, LogLimits::SIZES.map(|one| one == name));
        }
        assert_eq!(LogLimits::default().size_mut("boots"), None);
    }
}
