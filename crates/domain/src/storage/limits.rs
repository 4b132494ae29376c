//! Limits of the requests to a drive, which QEMU delays beyond them.

use crate::qemu::Switch;
use crate::qmp::QmpCommand;

/// The limits of a drive, each for one second.
///
/// They hold for what the guest requests. Jobs of QEMU and the memory in a snapshot are not delayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DriveLimits {
    /// Of the number of requests.
    pub iops: Option<Limit>,
    /// Of the number of bytes.
    pub bps: Option<Limit>,
}

/// A limit for all requests, or for reads and writes on their own: QEMU does not combine them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the documentation of the type names the fields")]
pub enum Limit {
    /// For reads and writes together.
    Total(u64),
    /// For each of them; `None` is unlimited.
    Each { read: Option<u64>, write: Option<u64> },
}

impl Limit {
    /// The highest limit (QEMU 7.2 and 10.0: `THROTTLE_VALUE_MAX`).
    pub const MAX: u64 = 1_000_000_000_000_000;

    /// Returns the limits of all requests, of reads and of writes; 0 is unlimited, as in QEMU.
    const fn parts(self) -> [u64; 3] {
        const fn of(limit: Option<u64>) -> u64 {
            match limit {
                Some(limit) => limit,
                None => 0,
            }
        }
        match self {
            Self::Total(total) => [total, 0, 0],
            Self::Each { read, write } => [0, of(read), of(write)],
        }
    }
}

impl DriveLimits {
    /// Returns whether there is no limit.
    pub fn is_unlimited(&self) -> bool {
        self.iops().into_iter().chain(self.bps()).all(|limit| limit == 0)
    }

    fn iops(&self) -> [u64; 3] {
        self.iops.map(Limit::parts).unwrap_or_default()
    }

    fn bps(&self) -> [u64; 3] {
        self.bps.map(Limit::parts).unwrap_or_default()
    }

    /// Adds the limits to a `-drive`.
    #[must_use]
    pub(super) fn of_drive(&self, drive: Switch) -> Switch {
        let iops = ["throttling.iops-total", "throttling.iops-read", "throttling.iops-write"].into_iter();
        let bps = ["throttling.bps-total", "throttling.bps-read", "throttling.bps-write"].into_iter();
        let all = iops.zip(self.iops()).chain(bps.zip(self.bps()));
        all.filter(|(_, limit)| *limit != 0).fold(drive, |drive, (key, limit)| drive.option(key, limit.to_string()))
    }

    /// Returns the command that sets these limits, and no others, for the drive of a device.
    pub fn command(&self, device: &str) -> QmpCommand {
        let keys = ["iops", "iops_rd", "iops_wr", "bps", "bps_rd", "bps_wr"];
        let command = QmpCommand::new("block_set_io_throttle").with("id", device);
        let limits = self.iops().into_iter().chain(self.bps());
        keys.into_iter().zip(limits).fold(command, |command, (key, limit)| command.with(key, limit))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const EACH: Limit = Limit::Each { read: Some(5), write: None };

    fn drive(iops: Option<Limit>, bps: Option<Limit>) -> String {
        let limits = DriveLimits { iops, bps };
        limits.of_drive(Switch::new("drive").option("id", "a")).argument().unwrap_or_default().to_owned()
    }

    #[test]
    fn test_limits_of_drive_have_the_names_of_qemu() {
        assert_eq!(drive(Some(Limit::Total(7)), Some(EACH)), "id=a,throttling.iops-total=7,throttling.bps-read=5");
        let both = Limit::Each { read: Some(1), write: Some(2) };
        assert_eq!(drive(Some(both), None), "id=a,throttling.iops-read=1,throttling.iops-write=2");
        assert_eq!(drive(None, Some(Limit::Total(9))), "id=a,throttling.bps-total=9");
        let write = Limit::Each { read: None, write: Some(3) };
        assert_eq!(drive(None, Some(write)), "id=a,throttling.bps-write=3");
    }

    /// `block_set_io_throttle` requires all six (7.2, 10.0).
    #[test]
    fn test_limits_of_a_device_are_all_set() {
        let limits = DriveLimits { iops: Some(EACH), bps: Some(Limit::Total(6)) };

        let expected = json!({"id": "d1", "iops": 0, "iops_rd": 5, "iops_wr": 0, "bps": 6, "bps_rd": 0, "bps_wr": 0});
        assert_eq!(json!(limits.command("d1").arguments), expected);
    }

    #[test]
    fn test_limits_without_any_are_unlimited() {
        let none = Limit::Each { read: None, write: None };

        assert!(DriveLimits::default().is_unlimited());
        assert!(DriveLimits { iops: Some(none), bps: None }.is_unlimited());
        assert!(!DriveLimits { iops: None, bps: Some(EACH) }.is_unlimited());
    }
}
