//! `events`: what happened, once or as it happens.

use std::time::Duration;

use maqet::operation::{self, Since};
use maqet::{Fault, HumanDuration, Maqet};
use tokio::time::Instant;

use crate::args::{EventsArgs, QmpEventsArgs, WatchArgs};
use crate::exit_code;
use crate::failure::Failure;
use crate::render::Output;

/// How long one call waits for news before the next one does.
const TURN: Duration = Duration::from_mins(1);

pub(crate) async fn run(maqet: &Maqet, args: EventsArgs, output: &Output) -> Result<u8, Failure> {
    let EventsArgs { vm, watch, kind } = args;
    shown(maqet, operation::Events { vm, since: None, kind, after: None, wait: None }, &watch, output).await
}

/// The same for what QEMU told.
pub(crate) async fn from_qmp(maqet: &Maqet, args: QmpEventsArgs, output: &Output) -> Result<u8, Failure> {
    let QmpEventsArgs { vm, watch, kind } = args;
    let wanted = operation::QmpEvents::new(vm).kind(kind);
    shown(maqet, wanted.into(), &watch, output).await
}

async fn shown(maqet: &Maqet, wanted: operation::Events, watch: &WatchArgs, output: &Output) -> Result<u8, Failure> {
    if watch.follow {
        return followed(maqet, wanted, watch, output).await;
    }
    let page = maqet.run(operation::Events { since: watch.since, ..wanted }).await?;
    output.show(&page.events)?;
    note_left_out(page.left_out, output);
    Ok(exit_code::DONE)
}

async fn followed(maqet: &Maqet, wanted: operation::Events, watch: &WatchArgs, output: &Output) -> Result<u8, Failure> {
    let until = watch.timeout.map(|timeout| Instant::now() + timeout.duration());
    let mut shown = 0;
    let since = watch.since.or(Some(Since::Ago(HumanDuration::new(Duration::ZERO))));
    let mut wanted = operation::Events { since, ..wanted };
    loop {
        let page = maqet.run(wanted.clone()).await?;
        note_left_out(page.left_out, output);
        for event in &page.events {
            shown += 1;
            // Whoever read us went away.
            if !output.stream(event)? || Some(shown) == watch.count {
                return Ok(exit_code::DONE);
            }
        }
        let time = until.map_or(TURN, |until| until.saturating_duration_since(Instant::now()));
        if time.is_zero() {
            return Err(timed_out(watch, shown));
        }
        let wait = Some(HumanDuration::new(time.min(TURN)));
        wanted = operation::Events { since: None, after: Some(page.cursor), wait, ..wanted };
    }
}

fn note_left_out(left_out: u64, output: &Output) {
    if left_out > 0 {
        output.note(&format!("{left_out} older events were left out; `--since` and `--type` ask for fewer"));
    }
}

fn timed_out(watch: &WatchArgs, shown: u64) -> Failure {
    let timeout = watch.timeout.map(|timeout| timeout.to_string()).unwrap_or_default();
    let message = match watch.count {
        Some(count) => format!("{shown} of {count} events came within {timeout}"),
        None => format!("left after {timeout}, as `--timeout` says"),
    };
    Failure {
        code: "events.timed-out".to_owned(),
        fault: Fault::TimedOut,
        message,
        causes: Vec::new(),
        hints: Vec::new(),
        config: None,
    }
}
