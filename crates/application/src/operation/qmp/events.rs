//! `qmp events`: the QMP events of one VM.

use derive_setters::Setters;
use maqet_domain::hook::QEMU_EVENTS;
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::event::reader::Cursor;
use crate::operation::{EventPage, Events, Since};
use crate::{App, Error, HumanDuration};

/// Returns the QMP events of a VM, of all boots whose QMP log is kept.
///
/// QEMU writes them to its log, so none is lost while maqet does not run, and no monitor is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct QmpEvents {
    /// The VM: a name, an ID, or a unique prefix of an ID.
    pub vm: String,
    /// Only events since then.
    pub since: Option<Since>,
    /// Only events whose QMP names match, as in `SHUTDOWN`; `*` and `?` are wildcards, and case is ignored.
    #[serde(rename = "type")]
    #[setters(strip_option)]
    pub kind: Option<String>,
    /// Only events after this `cursor` of an earlier result.
    pub after: Option<Cursor>,
    /// How long to wait for an event if there is none yet.
    pub wait: Option<HumanDuration>,
}

impl QmpEvents {
    /// Returns all events of `vm`.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into(), since: None, kind: None, after: None, wait: None }
    }
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
        let is_qualified = name.get(..QEMU_EVENTS.len()).is_some_and(|start| start.eq_ignore_ascii_case(QEMU_EVENTS));
        let kind = if is_qualified { name } else { format!("{QEMU_EVENTS}{name}") };
        Self { vm: Some(vm), since, kind: Some(kind), after, wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_qmp_events_type_may_omit_prefix() {
        let kind = |kind: &str| Events::from(QmpEvents::new("web").kind(kind)).kind.unwrap();

        assert_eq!(Events::from(QmpEvents::new("web")).kind.unwrap(), "qemu.*");
        assert_eq!(kind("BLOCK_JOB_*"), "qemu.BLOCK_JOB_*");
        assert_eq!(kind("Qemu.STOP"), "Qemu.STOP");
        assert_eq!(kind("é"), "qemu.é");
    }
}
