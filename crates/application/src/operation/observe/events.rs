//! `events`: what happened, from any process, also while nobody watched.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use maqet_domain::text::glob_matches;
use maqet_domain::vm::{VmId, VmName};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::app::operations::{Done, Effect, Operation};
use crate::event::filter;
use crate::event::reader::{Cursor, EventReader, ShownEvent, Wanted};
use crate::{App, Error, HumanDuration, limits};

/// Tells what happened, to all VMs or to one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// The VM: a name, an ID, or a unique prefix of an ID; all of them if it is left out.
    #[serde(default)]
    pub vm: Option<String>,
    /// Only what happened since then.
    #[serde(default)]
    pub since: Option<Since>,
    /// Only types that match; `*` stands for any text and `?` for one character, and case does not count.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// Only what came after this; the `cursor` of an earlier answer.
    #[serde(default)]
    pub after: Option<Cursor>,
    /// Waits that long for something to happen, if there is nothing to tell yet.
    #[serde(default)]
    pub wait: Option<HumanDuration>,
}

/// A moment: a time, or how long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Since {
    /// This moment.
    At(Timestamp),
    /// That long ago.
    Ago(HumanDuration),
}

/// A text that is no moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is neither a time such as `2026-11-25T10:00:00Z` nor a duration such as `10m`")]
pub struct InvalidSince {
    /// What was given.
    pub given: String,
}

impl FromStr for Since {
    type Err = InvalidSince;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let at = text.parse().map(Self::At);
        at.or_else(|_| text.parse().map(Self::Ago)).map_err(|_| InvalidSince { given: text.to_owned() })
    }
}

impl TryFrom<String> for Since {
    type Error = InvalidSince;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(at) => at.fmt(f),
            Self::Ago(patience) => patience.fmt(f),
        }
    }
}

impl From<Since> for String {
    fn from(since: Since) -> Self {
        since.to_string()
    }
}

impl Since {
    /// Returns the moment, `now` being now.
    pub(crate) fn moment(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(patience) => now.checked_sub(patience.duration()).unwrap_or(Timestamp::MIN),
        }
    }
}

/// What happened, and where the reader is now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EventPage {
    /// The events, the oldest first.
    pub events: Vec<ShownEvent>,
    /// How many older events were left out, because there are more than one answer holds.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out: u64,
    /// For `after` of the next call.
    pub cursor: Cursor,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Operation for Events {
    const NAME: &'static str = "events";
    /// The end of a machine that nobody saw is written down in passing, so that it is an event, too.
    const EFFECT: Effect = Effect::Acts;
    type Output = EventPage;

    async fn run(&self, app: &App) -> Result<Done<EventPage>, Error> {
        self.kind.as_deref().map_or(Ok(()), filter::check)?;
        let until = self.wait.map(|wait| Instant::now() + wait.duration());
        let since = self.since.map(|since| since.moment(app.ports.clock.now()));
        let vm = self.vm(app).await?;
        let mut feed = EventReader::open(app, vm, self.after.clone().unwrap_or_default(), self.wanted(since)).await?;
        let (mut events, mut left_out) = feed.all().await?;
        let mut refreshed = Instant::now();
        loop {
            if !events.is_empty() || until.is_none_or(|until| Instant::now() >= until) {
                feed.tell_hooks(&events).await;
                return Ok(Done::reading(EventPage { events, left_out, cursor: feed.cursor }));
            }
            tokio::time::sleep(limits::FOLLOW_INTERVAL).await;
            if refreshed.elapsed() >= limits::FOLLOW_REFRESH_INTERVAL {
                feed.refresh().await?;
                refreshed = Instant::now();
            }
            (events, left_out) = feed.news().await?;
        }
    }
}

impl Events {
    /// Returns the id of the VM; one that was removed is known by its events.
    async fn vm(&self, app: &App) -> Result<Option<VmId>, Error> {
        let Some(given) = &self.vm else { return Ok(None) };
        match app.vm(given).await {
            Ok(vm) => Ok(Some(vm.entry.id)),
            Err(unknown @ Error::NoSuchVm { .. }) => match removed(app, given).await? {
                Some(id) => Ok(Some(id)),
                None => Err(unknown),
            },
            Err(error) => Err(error),
        }
    }

    fn wanted(&self, since: Option<Timestamp>) -> Box<Wanted> {
        let pattern = self.kind.as_ref().map(|pattern| pattern.to_lowercase());
        Box::new(move |event| {
            let is_of_type = |pattern: &String| glob_matches(pattern, &event.kind.to_lowercase());
            since.is_none_or(|since| event.at >= since) && pattern.as_ref().is_none_or(is_of_type)
        })
    }
}

/// Returns the last VM of this name or id that our own events tell of.
async fn removed(app: &App, given: &str) -> Result<Option<VmId>, Error> {
    let (mut sequence, mut found) = (0, None);
    loop {
        let page = app.ports.store.after(sequence, limits::EVENT_PAGE).await?;
        let Some(last) = page.last() else { return Ok(found) };
        sequence = last.sequence;
        let is_meant = |id: &VmId, name: Option<&str>| name == Some(given) || id.to_string() == given;
        found = page
            .iter()
            .rev()
            .find_map(|recorded| {
                let id = recorded.event.vm?;
                is_meant(&id, recorded.event.vm_name.as_ref().map(VmName::as_str)).then_some(id)
            })
            .or(found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_since_times_and_durations_are_read_and_nonsense_is_refused() {
        let now: Timestamp = "2026-11-25T10:00:00Z".parse().unwrap();
        let moment = |text: &str| text.parse::<Since>().map(|since| since.moment(now).to_string());

        assert_eq!(moment("2026-11-25T09:00:00+02:00").unwrap(), "2026-11-25T07:00:00Z");
        assert_eq!(moment("10m").unwrap(), "2026-11-25T09:50:00Z");
        assert_eq!(moment("90").unwrap(), "2026-11-25T09:58:30Z");
        assert!(moment("yesterday").is_err());
    }
}
