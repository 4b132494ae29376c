//! `qmp events`: what the QEMU of one VM told, and nothing else.

use maqet_domain::hook::QEMU_EVENTS;
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::event::reader::Cursor;
use crate::operation::{EventPage, Events, Since};
use crate::{App, Error, HumanDuration};

/// Tells the events of QMP that the QEMU of a VM had, in all its boots that are kept.
///
/// QEMU itself writes them down, so that none is lost while nobody listens, and no monitor is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QmpEvents {
    /// The VM: a name, an id, or the unique beginning of one.
    pub vm: String,
    /// Only what happened since then.
    #[serde(default)]
    pub since: Option<Since>,
    /// Only events whose QMP names match, as in `SHUTDOWN`; `*` stands for any text and `?` for one character, and case
    /// does not count.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// Only what came after this; the `cursor` of an earlier answer.
    #[serde(default)]
    pub after: Option<Cursor>,
    /// Waits that long for something to happen, if there is nothing to tell yet.
    #[serde(default)]
    pub wait: Option<HumanDuration>,
}

impl Operation for QmpEvents {
    const NAME: &'static str = "qmp.events";
    const EFFECT: Effect = Effect::Acts;
    type Output = EventPage;

    async fn run(&self, app: &App) -> Result<Done<EventPage>, Error> {
        Events::from(self.clone()).run(app).await
    }
}

impl From<QmpEvents> for Events {
    fn from(QmpEvents { vm, since, kind, after, wait }: QmpEvents) -> Self {
        let name = kind.unwrap_or_else(|| "*".to_owned());
        let is_long = name.get(..QEMU_EVENTS.len()).is_some_and(|start| start.eq_ignore_ascii_case(QEMU_EVENTS));
        let kind = if is_long { name } else { format!("{QEMU_EVENTS}{name}") };
        Self { vm: Some(vm), since, kind: Some(kind), after, wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_qmp_events_types_are_names_of_qmp_and_may_be_long() {
        let of = |kind: Option<&str>| {
            let kind = kind.map(ToOwned::to_owned);
            let asked = QmpEvents { vm: "web".to_owned(), since: None, kind, after: None, wait: None };
            Events::from(asked).kind.unwrap()
        };

        assert_eq!(of(None), "qemu.*");
        assert_eq!(of(Some("BLOCK_JOB_*")), "qemu.BLOCK_JOB_*");
        assert_eq!(of(Some("Qemu.STOP")), "Qemu.STOP");
        assert_eq!(of(Some("é")), "qemu.é");
    }
}
