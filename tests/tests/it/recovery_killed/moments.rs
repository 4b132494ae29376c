//! Commands killed at random moments.

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use maqet_testkit::{parallel, qemu, variable};

use super::THREADS;
use super::aftermath::{self, Before, First};
use super::scenario::{SCENARIOS, Scenario};

/// How many commands are killed, on both QEMUs together.
const KILLS: usize = 30;
const KILLS_LONG: usize = 1_000;

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
    let kills = 0..if variable::is_long() { KILLS_LONG } else { KILLS };
    let kills: Vec<usize> = kills.filter(|seed| qemu::is_ours(*seed)).collect();

    parallel::in_threads(THREADS, &kills, |seed| {
        let which = *seed % SCENARIOS.len();
        let (scenario, length) = (&SCENARIOS[which], lengths[which]);
        let delay = Duration::from_micros(chance(*seed as u64, u64::try_from(length.as_micros()).unwrap()));
        eprintln!("{seed}: {} killed after {delay:?} of {length:?}", scenario.name);
        let home = scenario.home();
        let before = Before::of(&home, scenario);

        let _killed_or_ended_before = scenario.command(&home).spawn().kill_after(delay);

        aftermath::check(&home, scenario, &before, First::by_turns(which + seed / SCENARIOS.len()));
    });
}
