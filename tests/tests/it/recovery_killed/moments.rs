//! Commands killed at random moments.

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use maqet_testkit::{parallel, variable};

use super::THREADS;
use super::aftermath::{self, Before, First};
use super::scenario::{SCENARIOS, Scenario};

/// How many commands are killed, on each QEMU; all of them with `--long`.
const KILLS: u64 = 25;
const KILLS_LONG: u64 = 1_000;

/// Returns how long the command takes if it is not killed.
fn length(scenario: &'static Scenario) -> Duration {
    let home = scenario.home();
    scenario.command(&home).run().code(scenario.code).duration
}

/// Returns a number below `limit` that is the same for the same `seed`.
fn chance(seed: u64, limit: u64) -> u64 {
    let mut hasher = std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default().build_hasher();
    hasher.write_u64(seed);
    hasher.finish() % limit.max(1)
}

#[test]
fn test_command_killed_at_any_moment_loses_nothing() {
    let _turn = parallel::heavy_turn();
    let lengths: Vec<Duration> = SCENARIOS.iter().map(length).collect();
    let kills: Vec<u64> = (0..if variable::is_long() { KILLS_LONG } else { KILLS }).collect();

    parallel::in_threads(THREADS, &kills, |seed| {
        let which = usize::try_from(*seed).unwrap() % SCENARIOS.len();
        let (scenario, length) = (&SCENARIOS[which], lengths[which]);
        let delay = Duration::from_micros(chance(*seed, u64::try_from(length.as_micros()).unwrap()));
        eprintln!("{seed}: {} killed after {delay:?} of {length:?}", scenario.name);
        let home = scenario.home();
        let before = Before::of(&home, scenario);

        let _killed_or_ended_before = scenario.command(&home).spawn().kill_after(delay);

        aftermath::check(
            &home,
            scenario,
            &before,
            First::by_turns(which + usize::try_from(*seed).unwrap() / SCENARIOS.len()),
        );
    });
}
