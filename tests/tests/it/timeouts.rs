//! `timeouts` of the settings file.

use insta::assert_snapshot;
use maqet_testkit::{TestHome, guest};
use serde_json::json;

use crate::output::failure;

fn with(timeouts: &str) -> TestHome {
    let home = TestHome::new();
    home.write("config/maqet/maqet.conf", format!("timeouts: {timeouts}\n"));
    home
}

#[test]
fn test_timeouts_are_shown_with_their_origin() {
    let home = with("{start: 1m30s, qmp: 5, lock: 250ms}");

    let shown = home.json(&["config", "show", "--origin"]);

    let row = |name: &str| {
        let row = shown.as_array().unwrap().iter().find(|row| row["key"] == format!("timeouts.{name}")).unwrap();
        (row["value"].clone(), row["origin"].as_str().unwrap().to_owned())
    };
    assert_eq!([row("start").0, row("qmp").0, row("lock").0, row("kill").0], ["90s", "5s", "250ms", "5s"]);
    assert!(row("start").1.ends_with("maqet.conf:1:19"), "{shown}");
    assert_eq!(row("power_down"), (json!("30s"), "default".to_owned()));
}

#[test]
fn test_timeouts_start_applies_unless_flag_given() {
    let home = with("{start: 0s}");
    home.add(&guest::paused_yaml("web"));

    home.maqet(["start", "web"]).run().code(124);
    assert_eq!(home.json(&["status", "web"])["status"], "defined");

    home.json(&["start", "web", "--timeout", "1m"]);
    home.json(&["stop", "web", "--force"]);
}

#[track_caller]
fn refused(timeouts: &str) -> String {
    failure(&with(timeouts), &["ls"])
}

#[test]
fn test_timeouts_unknown_name_suggests_similar_one() {
    assert_snapshot!(refused("{strat: 1s}"), @"
    config.invalid, exit code 2
    error: `timeouts.strat`: unknown key `strat`
     --> [home]/config/maqet/maqet.conf:1:12
      |
    1 | timeouts: {strat: 1s}
      |            ^^^^^ here
      |
      = help: did you mean `start`?
    ");
}

#[test]
fn test_timeouts_invalid_duration_fails_with_location() {
    let failures = ["{start: soon}", "{start: -1s}", "{start: [1s]}", "30s"].map(refused);

    assert_snapshot!(failures.join("\n"), @"
    config.invalid, exit code 2
    error: `timeouts.start`: invalid duration `soon`: expected a form such as `30s` or `1m30s`
     --> [home]/config/maqet/maqet.conf:1:19
      |
    1 | timeouts: {start: soon}
      |                   ^^^^ here

    config.invalid, exit code 2
    error: `timeouts.start`: invalid duration `-1s`: expected a form such as `30s` or `1m30s`
     --> [home]/config/maqet/maqet.conf:1:19
      |
    1 | timeouts: {start: -1s}
      |                   ^^^ here

    config.invalid, exit code 2
    error: `timeouts.start`: expected a duration such as `30s` or `1m30s`, found a list
     --> [home]/config/maqet/maqet.conf:1:19
      |
    1 | timeouts: {start: [1s]}
      |                   ^^^^ here

    config.invalid, exit code 2
    error: `timeouts`: expected a map, found the string `30s`
     --> [home]/config/maqet/maqet.conf:1:11
      |
    1 | timeouts: 30s
      |           ^^^ here
    ");
}
