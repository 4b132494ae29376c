//! Durations as text.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::{SpanRelativeTo, Unit};
use serde_with::{DeserializeFromStr, SerializeDisplay};

/// A duration as a person writes it: `30s`, `1m30s`, `500ms`, `2d`; a bare number is seconds.
///
/// ```
/// use std::time::Duration;
/// use maqet_application::HumanDuration;
///
/// let timeout: HumanDuration = "1m30s".parse().unwrap();
/// assert_eq!(timeout.duration(), Duration::from_secs(90));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, DeserializeFromStr, SerializeDisplay)]
pub struct HumanDuration(Duration);

/// A text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid duration `{value}`: expected a form such as `30s` or `1m30s`")]
pub struct InvalidDuration {
    /// The text.
    pub value: String,
}

/// A year: more means forever, and timers overflow far beyond.
const MAX: Duration = Duration::from_hours(365 * 24);

impl HumanDuration {
    /// Makes one from a duration; more than a year becomes a year.
    pub fn new(duration: Duration) -> Self {
        Self(duration.min(MAX))
    }

    /// Returns the duration.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for HumanDuration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidDuration { value: text.to_owned() };
        if let Ok(seconds) = text.parse::<u64>() {
            return Ok(Self::new(Duration::from_secs(seconds)));
        }
        let span: jiff::Span = text.parse().map_err(|_| invalid())?;
        let nanos = span.total((Unit::Second, SpanRelativeTo::days_are_24_hours())).map_err(|_| invalid())?;
        Duration::try_from_secs_f64(nanos).map(Self::new).map_err(|_| invalid())
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.subsec_nanos(), self.0.as_secs()) {
            (0, seconds) => write!(f, "{seconds}s"),
            (_, _) => write!(f, "{}ms", self.0.as_millis()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<Duration>) {
        assert_eq!(text.parse::<HumanDuration>().ok().map(HumanDuration::duration), expected, "{text}");
    }

    #[test]
    fn test_duration_usual_forms_are_read() {
        check("30s", Some(Duration::from_secs(30)));
        check("500ms", Some(Duration::from_millis(500)));
        check("1h30m", Some(Duration::from_mins(90)));
        check("2d", Some(Duration::from_hours(48)));
        check("45", Some(Duration::from_secs(45)));
    }

    #[test]
    fn test_duration_nonsense_is_refused() {
        for text in ["", "-1s", "soon", "1month", "s"] {
            check(text, None);
        }
    }
}
