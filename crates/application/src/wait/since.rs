//! The moment from which events and serial output count.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use maqet_domain::vm::Run;
use serde_with::{DeserializeFromStr, SerializeDisplay};

use crate::event::since::Since;

/// From when on events and serial output count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, DeserializeFromStr, SerializeDisplay)]
pub enum WaitSince {
    /// `now`: since the call.
    Now,
    /// `boot`: since the VM was started.
    Boot,
    /// Since this moment; output of the serial port has no times, so that only whole boots can count.
    Moment(Since),
}

/// A text that is not such a moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid time `{}`: expected `now`, `boot`, a time such as `2026-11-25T10:00:00Z` or a duration such as `10m`",
    value.escape_debug()
)]
pub struct InvalidWaitSince {
    /// The text.
    pub value: String,
}

impl FromStr for WaitSince {
    type Err = InvalidWaitSince;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "now" => Ok(Self::Now),
            "boot" => Ok(Self::Boot),
            _ => text.parse().map(Self::Moment).map_err(|_| InvalidWaitSince { value: text.to_owned() }),
        }
    }
}

impl fmt::Display for WaitSince {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now => f.write_str("now"),
            Self::Boot => f.write_str("boot"),
            Self::Moment(since) => since.fmt(f),
        }
    }
}

impl From<Since> for WaitSince {
    fn from(since: Since) -> Self {
        Self::Moment(since)
    }
}

/// From when on serial output counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SerialSince {
    /// The end of the log at the first look.
    Now,
    /// The start of the boot that runs, or runs next.
    Boot,
    /// The start of a boot that began at this time or later, whether or not it still runs.
    BootsFrom(Timestamp),
}

impl WaitSince {
    /// Returns the moment from which events of a VM count; `run` is its last run.
    pub(crate) fn events(this: Option<Self>, now: Timestamp, run: Option<&Run>) -> Timestamp {
        match this {
            None | Some(Self::Now) => now,
            Some(Self::Boot) => run.map_or(now, |run| run.started_at),
            Some(Self::Moment(since)) => since.moment(now),
        }
    }

    /// Returns the moment from which serial output counts.
    pub(crate) fn serial(this: Option<Self>, now: Timestamp) -> SerialSince {
        match this {
            None | Some(Self::Boot) => SerialSince::Boot,
            Some(Self::Now) => SerialSince::Now,
            Some(Self::Moment(since)) => SerialSince::BootsFrom(since.moment(now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_wait_since_every_form_is_read_and_written_back() {
        for text in ["now", "boot", "2026-11-25T10:00:00Z", "10s"] {
            assert_eq!(text.parse::<WaitSince>().unwrap().to_string(), text);
        }
        assert!("yesterday".parse::<WaitSince>().unwrap_err().to_string().contains("`boot`"));
    }

    #[test]
    fn test_wait_since_default_is_now_for_events_and_boot_for_serial() {
        let now = Timestamp::from_second(100).unwrap();

        assert_eq!(WaitSince::events(None, now, None), now);
        assert_eq!(WaitSince::serial(None, now), SerialSince::Boot);
        let ago = "10s".parse().unwrap();
        assert_eq!(WaitSince::events(Some(ago), now, None), Timestamp::from_second(90).unwrap());
        assert_eq!(WaitSince::serial(Some(ago), now), SerialSince::BootsFrom(Timestamp::from_second(90).unwrap()));
    }
}
