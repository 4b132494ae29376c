//! `events`: the events of all processes, also of the time before the call.

use derive_setters::Setters;
use jiff::Timestamp;
use maqet_domain::text::glob_matches;
use maqet_domain::vm::{VmId, VmName};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::app::operations::{Done, Effect, Operation};
use crate::event::filter;
use crate::event::reader::{Cursor, EventFilter, EventReader, ShownEvent};
use crate::event::since::Since;
use crate::event::window::EventBatch;
use crate::{App, Error, HumanDuration, limits};

/// Returns the events of all VMs or of one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct Events {
    /// The VM: a name, an ID, or a unique prefix of an ID; all VMs by default.
    #[setters(strip_option)]
    pub vm: Option<String>,
    /// Only events since then.
    pub since: Option<Since>,
    /// Only types that match a pattern with `*` and `?`; case does not matter.
    #[serde(rename = "type")]
    #[setters(strip_option)]
    pub kind: Option<String>,
    /// Only events after this `cursor` of an earlier result.
    pub after: Option<Cursor>,
    /// How long to wait for an event, if there is none yet.
    pub wait: Option<HumanDuration>,
}

impl Events {
    /// Returns the events of one VM.
    pub fn of_vm(vm: impl Into<String>) -> Self {
        Self { vm: Some(vm.into()), ..Self::default() }
    }
}

/// Events, and the position of the reader after them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct EventPage {
    /// The events, the oldest first.
    pub events: Vec<ShownEvent>,
    /// How many older events were omitted because the result is full.
    #[serde(skip_serializing_if = "is_zero")]
    pub omitted: u64,
    /// The value for `after` of the next call.
    pub cursor: Cursor,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Operation for Events {
    const NAME: &'static str = "events";
    /// A run that ended unobserved is recorded in passing, so that its end is an event, too.
    const EFFECT: Effect = Effect::Acts;
    type Output = EventPage;

    async fn run(&self, app: &App) -> Result<Done<EventPage>, Error> {
        self.kind.as_deref().map_or(Ok(()), filter::check)?;
        let deadline = self.wait.map(|wait| Instant::now() + wait.duration());
        let since = self.since.map(|since| since.moment(app.ports.clock.now()));
        let vm = self.vm_id(app).await?;
        let cursor = self.after.clone().unwrap_or_default();
        let mut reader = EventReader::open(app, vm, cursor, self.filter(since)).await?;
        let mut batch = reader.read_all().await?;
        let mut refreshed = Instant::now();
        loop {
            if !batch.events.is_empty() || deadline.is_none_or(|deadline| Instant::now() >= deadline) {
                let EventBatch { events, omitted } = batch;
                reader.queue_hooks(&events).await;
                return Ok(Done::reading(EventPage { events, omitted, cursor: reader.cursor }));
            }
            tokio::time::sleep(limits::FOLLOW_INTERVAL).await;
            if refreshed.elapsed() >= limits::FOLLOW_REFRESH_INTERVAL {
                reader.refresh().await?;
                refreshed = Instant::now();
            }
            batch = reader.read_new().await?;
        }
    }
}

impl Events {
    /// Returns the ID of the VM; one that was removed is found by its events.
    async fn vm_id(&self, app: &App) -> Result<Option<VmId>, Error> {
        let Some(name) = &self.vm else { return Ok(None) };
        match app.vms().find(name).await {
            Ok(vm) => Ok(Some(vm.entry.id)),
            Err(Error::ForeignVm { id, .. }) => Ok(Some(id)),
            Err(unknown @ Error::NoSuchVm { .. }) => match find_removed(app, name).await? {
                Some(id) => Ok(Some(id)),
                None => Err(unknown),
            },
            Err(error) => Err(error),
        }
    }

    fn filter(&self, since: Option<Timestamp>) -> Box<EventFilter> {
        let pattern = self.kind.as_ref().map(|pattern| pattern.to_lowercase());
        Box::new(move |event| {
            let matches = |pattern: &String| glob_matches(pattern, &event.kind.to_lowercase());
            since.is_none_or(|since| event.at >= since) && pattern.as_ref().is_none_or(matches)
        })
    }
}

/// Returns the last VM of this name or ID among the events of the store.
async fn find_removed(app: &App, name: &str) -> Result<Option<VmId>, Error> {
    let mut sequence = 0;
    let mut found = None;
    loop {
        let page = app.ports.store.events_after(sequence, limits::EVENT_PAGE).await?;
        let Some(last) = page.last() else { return Ok(found) };
        sequence = last.sequence;
        let matches = |id: &VmId, vm_name: Option<&str>| vm_name == Some(name) || id.to_string() == name;
        found = page
            .iter()
            .rev()
            .find_map(|recorded| {
                let id = recorded.event.vm?;
                matches(&id, recorded.event.vm_name.as_ref().map(VmName::as_str)).then_some(id)
            })
            .or(found);
    }
}
