//! `events`: what happened, once or as it happens.

use std::time::Duration;

use maqet::operation::{self, Since};
use maqet::{Maqet, Patience};

use crate::arguments::Events;
use crate::exit;
use crate::failure::Failure;
use crate::render::Output;

/// How long one call waits for news before the next one does.
const TURN: Duration = Duration::from_mins(1);

pub(crate) async fn run(maqet: &Maqet, arguments: Events, output: &Output) -> Result<u8, Failure> {
    let Events { vm, follow, since, kind } = arguments;
    let begin = if follow { since.or(Some(Since::Ago(Patience::new(Duration::ZERO)))) } else { since };
    let mut wanted = operation::Events { vm, since: begin, kind, after: None, wait: None };
    if !follow {
        output.show(&maqet.run(wanted).await?.events)?;
        return Ok(exit::DONE);
    }
    loop {
        let page = maqet.run(wanted.clone()).await?;
        for event in &page.events {
            // Whoever read us went away.
            if !output.stream(event)? {
                return Ok(exit::DONE);
            }
        }
        wanted = operation::Events { since: None, after: Some(page.cursor), wait: Some(Patience::new(TURN)), ..wanted };
    }
}
