//! `events`: what happened, once or as it happens.

use std::time::Duration;

use maqet::operation::{self, Since};
use maqet::{Cursor, Maqet, Patience};

use crate::arguments::Events;
use crate::exit;
use crate::failure::Failure;
use crate::render::Output;

/// How long one call waits for news before the next one does.
const TURN: Duration = Duration::from_mins(1);

pub(crate) async fn run(maqet: &Maqet, arguments: Events, output: &Output) -> Result<u8, Failure> {
    let Events { vm, follow, since, kind } = arguments;
    let begin = if follow { since.or(Some(Since::Ago(Patience::new(Duration::ZERO)))) } else { since };
    let first = operation::Events { vm, since: begin, kind, after: None, wait: None };
    let page = maqet.run(first.clone()).await?;
    if !follow {
        output.show(&page.events)?;
        return Ok(exit::DONE);
    }
    for event in &page.events {
        if !output.stream(event)? {
            return Ok(exit::DONE);
        }
    }
    go_on(maqet, first, page.cursor, output).await
}

/// Shows what happens until nobody reads any more.
async fn go_on(maqet: &Maqet, first: operation::Events, mut cursor: Cursor, output: &Output) -> Result<u8, Failure> {
    let wait = Some(Patience::new(TURN));
    loop {
        let next = operation::Events { since: None, after: Some(cursor), wait, ..first.clone() };
        let page = maqet.run(next).await?;
        for event in &page.events {
            if !output.stream(event)? {
                return Ok(exit::DONE);
            }
        }
        cursor = page.cursor;
    }
}
