//! Limits of the requests to a drive, which QEMU delays beyond them.

use std::fmt;
use std::str::FromStr;

use serde_with::{DeserializeFromStr, SerializeDisplay};

use crate::qemu::Switch;
use crate::size::ByteSize;
use crate::text::shortened;

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

    /// A rate without a unit is rarely meant as so few bytes.
    pub(crate) const MIN_BARE_BYTES: u64 = 1 << 16;

    /// Reads a number of bytes, or returns what is wrong with it.
    fn bytes(text: &str) -> Result<u64, String> {
        let bytes = ByteSize::from_str(text).map_err(|invalid| invalid.reason.to_owned())?.bytes();
        if bytes < Self::MIN_BARE_BYTES && bytes > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("without a unit, it is {bytes} bytes; add one, as in `{text}M` or `{text}B`"));
        }
        Ok(bytes)
    }

    /// Parses one limit, or those of reads and writes.
    fn parse(text: &str, one: impl Fn(&str) -> Result<u64, String>) -> Result<Self, InvalidLimit> {
        let invalid = |reason: String| InvalidLimit { value: text.to_owned(), reason };
        let one = |text: &str| match one(text) {
            Ok(limit @ 1..=Self::MAX) => Ok(limit),
            Ok(_) => Err(invalid(format!("expected from 1 to {}", Self::MAX))),
            Err(reason) => Err(invalid(reason)),
        };
        if !text.contains('=') {
            return one(text).map(Self::Total);
        }
        let (mut read, mut write) = (None, None);
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("read", limit)) if read.is_none() => read = Some(one(limit)?),
                Some(("write", limit)) if write.is_none() => write = Some(one(limit)?),
                Some(_) | None => return Err(invalid("expected one limit, or `read=…,write=…`".to_owned())),
            }
        }
        Ok(Self::Each { read, write })
    }

    fn write(self, f: &mut fmt::Formatter<'_>, one: impl Fn(u64) -> String) -> fmt::Result {
        match self {
            Self::Total(total) => f.write_str(&one(total)),
            Self::Each { read, write } => {
                let parts = [
                    read.map(|limit| format!("read={}", one(limit))),
                    write.map(|limit| format!("write={}", one(limit))),
                ];
                f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(","))
            }
        }
    }

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

/// A text that is not a valid limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid limit {}: {reason}", shortened(value))]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct InvalidLimit {
    pub value: String,
    pub reason: String,
}

/// A limit of the number of requests, as a text: `500`, or `read=500,write=200`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, DeserializeFromStr, SerializeDisplay)]
pub struct RequestLimit(pub Limit);

/// A limit of the number of bytes, as a text: `20M`, or `read=100M,write=20M`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, DeserializeFromStr, SerializeDisplay)]
pub struct ByteLimit(pub Limit);

impl FromStr for RequestLimit {
    type Err = InvalidLimit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Limit::parse(text, |number| number.parse().map_err(|_| "expected a number".to_owned())).map(Self)
    }
}

impl FromStr for ByteLimit {
    type Err = InvalidLimit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Limit::parse(text, Limit::bytes).map(Self)
    }
}

impl fmt::Display for RequestLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f, |limit| limit.to_string())
    }
}

impl fmt::Display for ByteLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f, |limit| {
            let size = ByteSize::from_bytes(limit).to_string();
            // A bare number would be taken for one without a unit.
            if size.ends_with(|last: char| last.is_ascii_digit()) { format!("{size}B") } else { size }
        })
    }
}

impl DriveLimits {
    /// Returns the limits that QEMU reports: of all requests, of reads and of writes; 0 is unlimited.
    pub fn from_parts(iops: [u64; 3], bps: [u64; 3]) -> Self {
        let limit = |[total, read, write]: [u64; 3]| {
            let each = || [read, write].map(|limit| (limit != 0).then_some(limit));
            match (total, each()) {
                (0, [None, None]) => None,
                (0, [read, write]) => Some(Limit::Each { read, write }),
                (total, _) => Some(Limit::Total(total)),
            }
        };
        Self { iops: limit(iops), bps: limit(bps) }
    }

    /// Returns both as texts, as `device-add` takes them.
    pub fn as_texts(&self) -> (Option<RequestLimit>, Option<ByteLimit>) {
        let limited = |limit: &Limit| limit.parts() != [0, 0, 0];
        (self.iops.filter(limited).map(RequestLimit), self.bps.filter(limited).map(ByteLimit))
    }

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
    pub(crate) fn of_drive(&self, drive: Switch) -> Switch {
        let iops = ["throttling.iops-total", "throttling.iops-read", "throttling.iops-write"].into_iter();
        let bps = ["throttling.bps-total", "throttling.bps-read", "throttling.bps-write"].into_iter();
        let all = iops.zip(self.iops()).chain(bps.zip(self.bps()));
        all.filter(|(_, limit)| *limit != 0).fold(drive, |drive, (key, limit)| drive.option(key, limit.to_string()))
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn test_limit_as_text_is_read_and_written() {
        for text in ["500", "read=500,write=200", "write=1"] {
            assert_eq!(text.parse::<RequestLimit>().unwrap().to_string(), text);
        }
        let bytes: ByteLimit = "write=20M,read=1.5K".parse().unwrap();
        assert_eq!(bytes.to_string(), "read=1536B,write=20M");
        for bytes in [bytes, ByteLimit(Limit::Total(100)), ByteLimit(Limit::Total(1 << 20))] {
            assert_eq!(bytes.to_string().parse(), Ok(bytes));
        }
    }

    #[test]
    fn test_limit_as_wrong_text_is_refused() {
        for text in ["", "0", "5K", "read=5,read=6", "reads=5", "read=5,", "1000000000000001", "read=0"] {
            assert!(text.parse::<RequestLimit>().is_err(), "{text}");
        }
        for text in ["", "0M", "100", "20X", "read", "write=1P"] {
            assert!(text.parse::<ByteLimit>().is_err(), "{text}");
        }
    }

    #[test]
    fn test_limits_that_qemu_reports_are_read_back() {
        let each = Limit::Each { read: None, write: Some(7) };
        for (iops, bps) in [(None, None), (Some(Limit::Total(5)), Some(each)), (Some(EACH), None)] {
            let limits = DriveLimits { iops, bps };

            assert_eq!(DriveLimits::from_parts(limits.iops(), limits.bps()), limits);
        }
        let none = Limit::Each { read: None, write: None };
        assert_eq!(DriveLimits { iops: Some(none), bps: Some(none) }.as_texts(), (None, None));
    }

    #[test]
    fn test_limits_without_any_are_unlimited() {
        let none = Limit::Each { read: None, write: None };

        assert!(DriveLimits::default().is_unlimited());
        assert!(DriveLimits { iops: Some(none), bps: None }.is_unlimited());
        assert!(!DriveLimits { iops: None, bps: Some(EACH) }.is_unlimited());
    }
}
