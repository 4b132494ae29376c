//! `maqet events` and `maqet qmp events`.

use std::time::Duration;

use maqet::operation::{self, Since};
use maqet::{ErrorReport, Explanation, Fault, HumanDuration, Maqet};
use tokio::time::Instant;

use crate::args::{EventsArgs, QmpEventsArgs, WatchArgs};
use crate::exit_code;
use crate::render::Output;

/// How long one call waits for new events.
const POLL_TIMEOUT: Duration = Duration::from_mins(1);

pub(super) async fn run(maqet: &Maqet, args: EventsArgs, output: &Output) -> Result<u8, ErrorReport> {
    let EventsArgs { vm, watch, kind } = args;
    let mut query = operation::Events::default();
    query.vm = vm;
    query.kind = kind;
    show(maqet, query, &watch, output).await
}

pub(super) async fn run_qmp(maqet: &Maqet, args: QmpEventsArgs, output: &Output) -> Result<u8, ErrorReport> {
    let QmpEventsArgs { vm, watch, kind } = args;
    let mut query = operation::QmpEvents::new(vm);
    query.kind = kind;
    show(maqet, query.into(), &watch, output).await
}

async fn show(maqet: &Maqet, query: operation::Events, watch: &WatchArgs, output: &Output) -> Result<u8, ErrorReport> {
    if watch.follow {
        return follow(maqet, query, watch, output).await;
    }
    let page = maqet.run(query.since(watch.since)).await?;
    output.show(&page.events)?;
    note_omitted(page.omitted, output);
    Ok(exit_code::DONE)
}

async fn follow(
    maqet: &Maqet,
    query: operation::Events,
    watch: &WatchArgs,
    output: &Output,
) -> Result<u8, ErrorReport> {
    let deadline = watch.timeout.map(|timeout| Instant::now() + timeout.duration());
    let mut count = 0;
    let since = watch.since.or(Some(Since::Ago(HumanDuration::new(Duration::ZERO))));
    let mut query = query.since(since);
    loop {
        let page = maqet.run(query.clone()).await?;
        note_omitted(page.omitted, output);
        for event in &page.events {
            count += 1;
            let is_read = output.stream(event)?;
            if !is_read || Some(count) == watch.count {
                return Ok(exit_code::DONE);
            }
        }
        let remaining = deadline.map_or(POLL_TIMEOUT, |deadline| deadline.saturating_duration_since(Instant::now()));
        if remaining.is_zero() {
            return Err(follow_timed_out(watch, count));
        }
        let wait = Some(HumanDuration::new(remaining.min(POLL_TIMEOUT)));
        query = query.since(None).after(page.cursor).wait(wait);
    }
}

fn note_omitted(omitted: u64, output: &Output) {
    if omitted > 0 {
        output.note(&format!("omitted {omitted} older events; limit the output with `--since` or `--type`"));
    }
}

fn follow_timed_out(watch: &WatchArgs, count: u64) -> ErrorReport {
    let timeout = watch.timeout.map(|timeout| timeout.to_string()).unwrap_or_default();
    let message = match watch.count {
        Some(expected) => format!("timed out after {timeout}: {count} of {expected} events occurred"),
        None => format!("timed out after {timeout}"),
    };
    ErrorReport::new(message, Explanation::new("events.timed-out", Fault::TimedOut))
}
