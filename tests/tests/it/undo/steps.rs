//! Each change is undone and made again, and many random ones, one by one.

use std::time::Duration;

use maqet_testkit::TestHome;

use super::fixture::{state, web_with_data};

/// Returns a change that maqet makes; the number makes names differ.
fn command(home: &TestHome, kind: u32, number: usize) -> Vec<String> {
    let words = match kind {
        0 => format!("apply web --set labels.a={number}"),
        1 => format!("apply web --memory {}M", 64 + number),
        2 => format!("add --empty --name vm{number} --set labels.n={number}"),
        3 => format!("snapshot create web hdd s{number}"),
        4 => "snapshot load web hdd one".to_owned(),
        5 => "snapshot load web hdd empty".to_owned(),
        6 => "storage resize web hdd +1M".to_owned(),
        7 => format!("snapshot create web all a{number} --description text"),
        8 => "rm db --delete-storage".to_owned(),
        9 => "storage convert db hdd raw".to_owned(),
        10 => "rm db".to_owned(),
        11 => format!("add {}", home.path("db.yaml").display()),
        _ => format!("storage attach web {} --type raw", home.path("extra.raw").display()),
    };
    words.split(' ').map(str::to_owned).collect()
}

fn home_with_vms() -> TestHome {
    let home = TestHome::new();
    web_with_data(&home);
    let db = "name: db\nmemory: 64M\nstorage:\n  - {name: hdd, size: 2M}\n";
    std::fs::write(home.path("db.yaml"), db).unwrap();
    home.add(db);
    home.json(&["snapshot", "create", "db", "hdd", "first"]);
    home.json(&["snapshot", "rm", "db", "hdd", "first"]);
    std::fs::write(home.path("extra.raw"), vec![7; 1 << 20]).unwrap();
    home
}

fn run(home: &TestHome, kind: u32, number: usize) -> bool {
    home.maqet(command(home, kind, number)).run().code == Some(0)
}

/// Do, undo: nothing happened. Undo, redo: done.
#[test]
fn test_undo_of_each_change_restores_and_redo_repeats() {
    for kind in [0, 2, 3, 4, 6, 8, 9, 10, 12] {
        let home = home_with_vms();
        let before = state(&home);
        assert!(run(&home, kind, 1), "{kind}");
        let after = state(&home);
        assert_ne!(before, after, "{kind}");

        for _ in 0..2 {
            home.json(&["undo"]);
            assert_eq!(state(&home), before, "undo of {:?}", command(&home, kind, 1));
            home.json(&["redo"]);
            assert_eq!(without_ids(&state(&home)), without_ids(&after), "redo of {:?}", command(&home, kind, 1));
        }
        home.json(&["undo"]);
        assert!(run(&home, 1, 1));
        assert_eq!(home.json_error(&["redo"], 4)["code"], "history.change-not-found", "a new change clears the redos");
    }
}

/// A snapshot that is created again is another one, as its name in the image may be.
fn without_ids(state: &serde_json::Value) -> String {
    state.to_string().replace("before-load~2", "before-load")
}

fn newest(home: &TestHome) -> serde_json::Value {
    home.json(&["history", "--limit", "1"])[0].clone()
}

/// A hundred random changes, undone one by one, give the first state, disks included; redone, the last one.
#[test]
fn test_undo_of_a_hundred_random_changes_gives_the_first_state() {
    let home = home_with_vms();
    let mut states = vec![state(&home)];
    // Numerical Recipes' generator; the seed is that of a first run.
    let mut seed: u32 = 2_026;
    let mut number = 0;
    while states.len() <= 100 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        number += 1;
        let before = newest(&home);
        // A conversion in place is a note, which no undo is about.
        if run(&home, (seed >> 16) % 13, number) && newest(&home) != before && newest(&home)["kind"] == "work" {
            // Reading all of it takes a while.
            states.push(if states.len() % 10 == 0 { state(&home) } else { serde_json::Value::Null });
        }
        assert!(number < 400, "most changes are refused");
    }
    let last = state(&home);

    while states.len() > 1 {
        home.json(&["undo"]);
        states.pop();
        let expected = states.last().unwrap();
        if !expected.is_null() {
            assert_eq!(state(&home), *expected, "after an undo to state {}", states.len() - 1);
        }
    }

    let all = |command: &str| home.maqet([command, "100"]).deadline(Duration::from_mins(10)).run().ok();
    let _redone = all("redo");
    assert_eq!(without_ids(&state(&home)), without_ids(&last));
    let _undone = all("undo");
    assert_eq!(state(&home), states[0]);
}
