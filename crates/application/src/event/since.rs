//! The moment from which events count.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde_with::{DeserializeFromStr, SerializeDisplay};

use crate::HumanDuration;

/// A moment: a time, or a duration before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, DeserializeFromStr, SerializeDisplay)]
pub enum Since {
    /// At this time.
    At(Timestamp),
    /// This long ago.
    Ago(HumanDuration),
}

/// A text that is not a moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid time `{value}`: expected a time such as `2026-11-25T10:00:00Z` or a duration such as `10m`")]
pub struct InvalidSince {
    /// The text.
    pub value: String,
}

impl FromStr for Since {
    type Err = InvalidSince;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let at = text.parse().map(Self::At);
        at.or_else(|_| text.parse().map(Self::Ago)).map_err(|_| InvalidSince { value: text.to_owned() })
    }
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(at) => at.fmt(f),
            Self::Ago(duration) => duration.fmt(f),
        }
    }
}

impl Since {
    /// Returns the time, relative to `now`.
    pub(crate) fn moment(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(duration) => now.checked_sub(duration.duration()).unwrap_or(Timestamp::MIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_since_reads_times_and_durations() {
        let now: Timestamp = "2026-11-25T10:00:00Z".parse().unwrap();
        let moment = |text: &str| text.parse::<Since>().map(|since| since.moment(now).to_string());

        assert_eq!(moment("2026-11-25T09:00:00+02:00").unwrap(), "2026-11-25T07:00:00Z");
        assert_eq!(moment("10m").unwrap(), "2026-11-25T09:50:00Z");
        assert_eq!(moment("90").unwrap(), "2026-11-25T09:58:30Z");
        assert!(moment("yesterday").is_err());
    }
}
