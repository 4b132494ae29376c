//! Each change is undone and made again, and many random ones, one by one.

use std::fs;
use std::time::Duration;

use maqet_testkit::{TestHome, guest, variable};
use serde_json::Value;

use super::fixture::{qemu_io, state, web_with_data};

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
        13 => "snapshot load web all one".to_owned(),
        14 => "snapshot load web all two".to_owned(),
        _ => format!("storage attach web {} --type raw", home.path("extra.raw").display()),
    };
    words.split(' ').map(str::to_owned).collect()
}

fn home_with_vms() -> TestHome {
    let home = TestHome::new();
    web_with_data(&home);
    add_images(&home);
    home
}

/// Adds `db`, whose disk has no snapshots, and an image that no VM has.
fn add_images(home: &TestHome) {
    let db = "name: db\nmemory: 64M\nstorage:\n  - {name: hdd, size: 2M}\n";
    fs::write(home.path("db.yaml"), db).unwrap();
    home.add(db);
    home.json(&["snapshot", "create", "db", "hdd", "first"]);
    home.json(&["snapshot", "rm", "db", "hdd", "first"]);
    fs::write(home.path("extra.raw"), vec![7; 1 << 20]).unwrap();
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
fn without_ids(state: &Value) -> String {
    state.to_string().replace("before-load~2", "before-load")
}

fn newest(home: &TestHome) -> Value {
    home.json(&["history", "--limit", "1"])[0].clone()
}

/// A home to change at random, with all kinds of changes whose undo is possible there.
struct Scenario {
    home: fn() -> TestHome,
    kinds: &'static [u32],
}

const STOPPED: Scenario = Scenario { home: home_with_vms, kinds: &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12] };

/// What is loaded has UEFI variables and the state of a TPM, too.
const FIRMWARE: Scenario = Scenario { home: home_with_firmware, kinds: &[0, 1, 3, 6, 7, 12, 13, 13, 14] };

/// Loads and other sizes of disks that a guest uses cannot be undone.
const STARTED: Scenario = Scenario { home: home_with_started_vm, kinds: &[0, 1, 2, 3, 7, 8, 9, 10, 11, 12] };

/// `web` has UEFI variables and a TPM, whose states differ between its snapshots `one` and `two` and now.
fn home_with_firmware() -> TestHome {
    let home = TestHome::new();
    let keys = "machine: q35\nfirmware: uefi\ntpm: true\nstorage: [{name: hdd, size: 4M}]\n";
    home.add(&(guest::paused_yaml("web") + keys));
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);
    for (byte, snapshot) in (1..).zip([Some("one"), Some("two"), None]) {
        for image in ["hdd.qcow2", "uefi-vars.qcow2"] {
            qemu_io(&home.data().join("storage/web").join(image), &format!("write -P {byte} 64k 64k"));
        }
        fs::write(home.data().join("storage/web/tpm2-00.permall"), vec![byte; 100]).unwrap();
        if let Some(snapshot) = snapshot {
            home.json(&["snapshot", "create", "web", "all", snapshot]);
        }
    }
    add_images(&home);
    home
}

/// `web` runs.
fn home_with_started_vm() -> TestHome {
    let home = TestHome::new();
    home.add(&(guest::paused_yaml("web") + "storage: [{name: hdd, size: 4M}]\n"));
    add_images(&home);
    home.json(&["start", "web"]);
    home
}

impl Scenario {
    /// Makes `count` random changes and returns the states before and after each.
    fn change(&self, home: &TestHome, seed: u32, count: usize) -> Vec<Value> {
        let mut states = vec![state(home)];
        // Numerical Recipes' generator.
        let (mut random, mut number) = (seed, 0);
        while states.len() <= count {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            number += 1;
            let before = newest(home);
            let kind = self.kinds[(random >> 16) as usize % self.kinds.len()];
            let is_done = run(home, kind, number);
            let after = newest(home);
            // A conversion in place is a note, which no undo is about.
            if is_done && after != before && after["kind"] == "work" {
                assert_eq!(after["irreversible"], Value::Null, "{after}");
                states.push(state(home));
            }
            assert!(number < 4 * count, "most changes are refused");
        }
        states
    }

    /// Many random changes, undone one by one, give the states before them, disks included; redone, the last one.
    fn check(&self, seed: u32, count: usize) {
        let home = (self.home)();
        let states = self.change(&home, seed, count);
        let [first, .., last] = &states[..] else { panic!("there are changes") };

        for (number, expected) in states.iter().enumerate().rev().skip(1) {
            let undone = home.json(&["undo"]);
            assert_eq!(state(&home), *expected, "state {number} of seed {seed} after {undone}");
        }

        let all = |command: &str| {
            home.maqet([command, &count.to_string()]).deadline(Duration::from_mins(10)).run().ok();
        };
        all("redo");
        assert_eq!(without_ids(&state(&home)), without_ids(last), "seed {seed}");
        all("undo");
        assert_eq!(state(&home), *first, "seed {seed}");
    }

    /// Checks many changes with several seeds, or a few with one unless `--long` is given.
    fn check_seeds(&self) {
        if variable::is_long() {
            for seed in [2_026, 15, 71, 4_096] {
                self.check(seed, 100);
            }
        } else {
            self.check(2_026, 12);
        }
    }
}

#[test]
fn test_undo_of_random_changes_gives_the_first_state() {
    STOPPED.check_seeds();
}

#[test]
fn test_undo_of_random_changes_with_uefi_and_tpm() {
    FIRMWARE.check_seeds();
}

#[test]
fn test_undo_of_random_changes_of_a_started_vm() {
    STARTED.check_seeds();
}
