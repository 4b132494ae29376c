//! `timeouts` of the settings file.

use maqet_testkit::{TestHome, guest};
use serde_json::{Value, json};

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
fn refused(timeouts: &str) -> Value {
    let error = with(timeouts).json_error(&["ls"], 2);

    assert_eq!(error["code"], "config.invalid", "{error}");
    error["problems"][0].clone()
}

#[test]
fn test_timeouts_unknown_name_suggests_similar_one() {
    let problem = refused("{strat: 1s}");

    assert_eq!(
        (&problem["path"], &problem["help"]),
        (&json!("timeouts.strat"), &json!("did you mean `start`?")),
        "{problem}"
    );
}

#[test]
fn test_timeouts_invalid_duration_fails_with_location() {
    for (timeouts, reported) in [
        ("{start: soon}", "`soon` is not a duration such as `30s` or `1m30s`"),
        ("{start: -1s}", "`-1s` is not a duration such as `30s` or `1m30s`"),
        ("{start: [1s]}", "expected a duration such as `30s` or `1m30s`, found a list"),
        ("30s", "expected a map of keys and values, found the text `30s`"),
    ] {
        let problem = refused(timeouts);

        assert_eq!((&problem["message"], &problem["line"]), (&json!(reported), &json!(1)), "{problem}");
    }
}
