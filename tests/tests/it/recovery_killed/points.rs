//! Commands killed at every fault point, each time it is reached.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use maqet_fault_points::{FaultPoint, VARIABLE};
use maqet_testkit::{FAULT_POINTS, parallel, qemu};

use super::THREADS;
use super::aftermath::{self, Before, First};
use super::scenario::{SCENARIOS, Scenario};

/// A fault point of a command, and how many times it was reached by then.
#[derive(Debug)]
struct Kill {
    scenario: &'static Scenario,
    point: String,
    time: u32,
}

/// Returns the fault points of a command in order, from its log.
fn steps(scenario: &'static Scenario) -> Vec<Kill> {
    let home = scenario.home();
    let log = home.path("steps.log");
    scenario.command(&home).arg("-vvv").arg("--log-file").arg(&log).run().code(scenario.code);

    let mut times = BTreeMap::new();
    let reported = std::fs::read_to_string(log).unwrap();
    let points =
        reported.lines().filter_map(|line| line.split_once("fault point point=")).map(|(_, point)| point.to_owned());
    let count = |point: String| {
        let time = times.entry(point.clone()).or_insert(0);
        *time += 1;
        Kill { scenario, point, time: *time }
    };
    points.map(count).collect()
}

fn kill((kill, first): &(Kill, First)) {
    let Kill { scenario, point, time } = kill;
    eprintln!("{} killed at {point}, time {time}", scenario.name);
    let home = scenario.home();
    let before = Before::of(&home, scenario);

    let killed = scenario.command(&home).env(VARIABLE, format!("{point}:{time}")).run();

    assert_eq!(killed.code, None, "it was not killed:\n{killed}");
    aftermath::check(&home, scenario, &before, *first);
}

#[test]
fn test_command_killed_at_every_step_loses_nothing() {
    let _turn = parallel::heavy_turn();
    let kills: Vec<Kill> = SCENARIOS.iter().flat_map(steps).collect();

    let reached: BTreeSet<&str> = kills.iter().map(|kill| kill.point.as_str()).collect();
    let all: BTreeSet<String> = FAULT_POINTS.iter().map(ToString::to_string).collect();
    assert_eq!(reached, all.iter().map(String::as_str).collect(), "a step is never reached, or not in the list");

    let turn = |(number, kill)| (kill, First::by_turns(number));
    let kills: Vec<(Kill, First)> = qemu::ours(kills.into_iter().enumerate()).map(turn).collect();
    parallel::in_threads(THREADS, &kills, kill);
}

/// QEMU has not opened the FIFO of its QMP log when the starting process dies, so the FIFO's content is lost.
#[test]
fn test_start_killed_at_spawn_still_records_events() {
    let home = maqet_testkit::TestHome::with_fault_points();
    home.add(&maqet_testkit::guest::paused_yaml("web"));
    let point = FaultPoint::LaunchSpawned.to_string();

    assert_eq!(home.maqet(["start", "web"]).env(VARIABLE, point).run().code, None, "it was not killed");
    let status = home.json(&["status", "web"])["status"].clone();
    assert!(["starting", "paused"].contains(&status.as_str().unwrap()), "{status}");

    home.json(&["start", "web"]);
    home.json(&["resume", "web"]);
    home.json(&["wait", "web", "--for", "event:RESUME", "--since", "10m", "--timeout", "1m"]);
    home.json(&["stop", "web", "--force"]);
}

/// The released binary has no fault points: their names would be in it.
#[test]
fn test_fault_points_are_absent_from_user_binary() {
    let usual = maqet_testkit::TestHome::new().maqet([""; 0]).into_command();
    let faulty = maqet_testkit::TestHome::with_fault_points().maqet([""; 0]).into_command();
    // A search in tests, which are not optimized, would take half a minute.
    let holds = |binary: &Command, text: &str| {
        let found = Command::new("grep").args(["-qaF", "-e", text]).arg(binary.get_program()).status().unwrap();
        found.code() == Some(0)
    };

    for text in [VARIABLE, "before-commit", "paths-created", "tool-started"] {
        assert!(holds(&faulty, text), "`{text}` would be found");
        assert!(!holds(&usual, text), "`{text}` is there");
    }
}
