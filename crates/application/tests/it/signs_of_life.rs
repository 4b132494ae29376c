//! Hosts on which a command takes long.

use std::time::Duration;

use maqet_application::{App, Done, Effect, Error, Operation};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::world::World;

/// An operation that takes a while.
#[derive(Debug, Serialize, Deserialize)]
struct Long {
    seconds: u64,
}

impl Operation for Long {
    const NAME: &'static str = "long";
    const EFFECT: Effect = Effect::Reads;
    type Output = ();

    async fn run(&self, _: &App) -> Result<Done<()>, Error> {
        sleep(Duration::from_secs(self.seconds)).await;
        Ok(Done::reading(()))
    }
}

/// Else another host would take its VMs after a quarter of an hour.
#[tokio::test(start_paused = true)]
async fn test_operation_that_takes_long_shows_signs_of_life() {
    let mut world = World::new();
    let app = world.app();

    app.run(Long { seconds: 59 }).await.unwrap();
    let of_a_short_one = world.store.signs_of_life();
    app.run(Long { seconds: 30 * 60 + 30 }).await.unwrap();

    assert_eq!((of_a_short_one, world.store.signs_of_life()), (0, 30));
}
