//! Snapshots of stopped VMs: sets, replacing, taking back a load, and the data of each.

mod at_once;
mod check;
mod full_disk;
mod in_guide;
mod two_versions;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use maqet_testkit::{TestHome, guest, parallel, variable};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRng, TestRunner};
use serde_json::json;

const DRIVES: [&str; 2] = ["hdd", "ssd"];

/// A stopped VM with two drives, each of which holds one value.
struct Pair {
    home: TestHome,
}

impl Pair {
    fn new(home: TestHome) -> Self {
        let storage = "storage: [{name: hdd, size: 1M}, {name: ssd, size: 1M}]\n";
        home.add(&(guest::paused_yaml("web") + storage));
        home.json(&["snapshot", "create", "web", "all", "zero"]);
        Self { home }
    }

    fn image(&self, drive: &str) -> PathBuf {
        self.home.data().join("storage/web").join(format!("{drive}.qcow2"))
    }

    fn qemu_io(&self, drive: &str, command: &str) -> String {
        let output = Command::new("qemu-io").args(["-c", command]).arg(self.image(drive)).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn write(&self, drive: &str, value: u8) {
        self.qemu_io(drive, &format!("write -P {value} 0 128k"));
    }

    fn write_both(&self, value: u8) {
        for drive in DRIVES {
            self.write(drive, value);
        }
    }

    /// Returns the value of a drive, all of which holds it.
    fn value(&self, drive: &str) -> u8 {
        let printed = self.qemu_io(drive, "read -v 0 16");
        let first = printed.split_whitespace().nth(1).unwrap();
        let value = u8::from_str_radix(first, 16).unwrap();
        let all = self.qemu_io(drive, &format!("read -P {value} 0 128k"));
        assert!(!all.contains("verification failed"), "{drive} is not whole: {all}");
        value
    }

    fn values(&self) -> [u8; 2] {
        DRIVES.map(|drive| self.value(drive))
    }

    /// Returns the snapshots as `drive name kind`.
    fn list(&self) -> Vec<String> {
        let listed = self.home.json(&["snapshot", "ls", "web"]);
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let mut list: Vec<String> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|one| format!("{} {} {}", text(&one["drive"]), text(&one["name"]), text(&one["kind"])))
            .collect();
        list.sort();
        list
    }

    fn check_images(&self) {
        for drive in DRIVES {
            let checked = Command::new("qemu-img").args(["check", "-q"]).arg(self.image(drive)).output().unwrap();
            assert!(checked.status.success(), "{drive}: {checked:?}");
        }
    }

    /// Returns a PATH with a `qemu-img` that refuses `option` for an image whose path contains `drive`.
    fn refuse(&self, option: &str, drive: &str) -> String {
        self.tool(&format!(
            "case \"$*\" in *' {option} '*{drive}.qcow2) echo 'No space left on device' >&2; exit 1;; esac"
        ))
    }

    /// Returns a PATH with a `qemu-img` that runs `script` first.
    fn tool(&self, script: &str) -> String {
        let folder = self.home.path("tools");
        fs::create_dir_all(&folder).unwrap();
        let path = std::env::var("PATH").unwrap();
        let file = folder.join("qemu-img");
        fs::write(&file, format!("#!/bin/sh\n{script}\nPATH='{path}' exec qemu-img \"$@\"\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        format!("{}:{path}", folder.display())
    }
}

#[test]
fn test_set_is_loaded_and_the_load_taken_back() {
    let pair = Pair::new(TestHome::new());
    pair.write_both(1);
    let created = pair.home.json(&["snapshot", "create", "web", "all", "one", "--description", "both are 1"]);
    pair.write_both(2);

    let loaded = pair.home.json(&["snapshot", "load", "web", "all", "one"]);
    assert_eq!(pair.values(), [1, 1]);
    pair.home.json(&["snapshot", "load", "web", "all", "before-load"]);
    assert_eq!(pair.values(), [2, 2]);
    pair.home.json(&["snapshot", "load", "web", "ssd", "zero", "--no-safety"]);

    assert_eq!(pair.values(), [2, 0]);
    assert_eq!(created["drives"], json!(DRIVES));
    assert_eq!(loaded["safety"], "before-load");
    let listed = pair.home.json(&["snapshot", "ls", "web", "ssd"]);
    assert_eq!(listed[1]["description"], "both are 1");
    assert_eq!(listed[1]["set"], pair.home.json(&["snapshot", "ls", "web", "hdd"])[1]["set"]);
    let kinds = ["before-load safety", "before-load~1 safety", "one disk", "zero disk"];
    let expected: Vec<String> =
        DRIVES.iter().flat_map(|drive| kinds.iter().map(move |kind| format!("{drive} {kind}"))).collect();
    assert_eq!(pair.list(), expected);
    pair.check_images();
}

#[test]
fn test_set_that_fails_in_one_drive_changes_none() {
    let pair = Pair::new(TestHome::new());
    pair.write_both(1);
    let before = pair.list();
    let fails = |path: &str, arguments: &[&str]| {
        let refused = pair.home.maqet(arguments).args(["--format", "json"]).env("PATH", path).run();
        assert_eq!(refused.code(69).json_error()["error"]["code"], "storage.full");
        assert_eq!((pair.list(), pair.values()), (before.clone(), [1, 1]));
        assert!(!pair.home.json(&["doctor"]).to_string().contains("interrupted"), "it is taken back");
    };

    let path = pair.refuse("-c", "ssd");
    fails(&path, &["snapshot", "create", "web", "all", "one"]);
    fails(&path, &["snapshot", "create", "web", "all", "zero", "--overwrite"]);
    fails(&path, &["snapshot", "load", "web", "all", "zero"]);
    // The second load fails; the first one is taken back.
    fails(&pair.refuse("-a 1", "ssd"), &["snapshot", "load", "web", "all", "zero"]);
}

#[test]
fn test_overwrite_replaces_and_keeps_the_name() {
    let pair = Pair::new(TestHome::new());
    for value in 1..=3 {
        pair.write("hdd", value);
        let created = pair.home.json(&["snapshot", "create", "web", "hdd", "zero", "--overwrite"]);
        assert_eq!(created["replaced"], true);
        assert_eq!(pair.list(), ["hdd zero disk", "ssd zero disk"]);
    }
    pair.write("hdd", 9);

    pair.home.json(&["snapshot", "load", "web", "hdd", "zero", "--no-safety"]);

    assert_eq!(pair.values(), [3, 0]);
    pair.home.json(&["snapshot", "rm", "web", "all", "zero"]);
    assert_eq!(pair.list(), [""; 0]);
}

#[test]
fn test_names_odd_but_legal_work_everywhere() {
    let pair = Pair::new(TestHome::new());
    let longest = "x".repeat(128);
    for name in ["ü, b=c", "a'b\"c\\d", "%s $HOME `id`", "a/b", "a~3", "名前", ".", "#1 x", "a  b", "1e3", &longest]
    {
        pair.write("hdd", 1);
        pair.home.json(&["snapshot", "create", "web", "hdd", name]);
        pair.home.json(&["snapshot", "create", "web", "hdd", name, "--overwrite"]);
        pair.write("hdd", 2);
        pair.home.json(&["snapshot", "load", "web", "hdd", name, "--no-safety"]);
        assert_eq!(pair.value("hdd"), 1, "{name}");
        assert_eq!(pair.home.json(&["snapshot", "ls", "web", "hdd"])[1]["name"], *name);
        pair.home.json(&["snapshot", "rm", "web", "hdd", name]);
    }
}

#[test]
fn test_names_taken_missing_or_elsewhere_say_so() {
    let pair = Pair::new(TestHome::new());
    pair.home.json(&["snapshot", "create", "web", "hdd", "only"]);
    let failure = |arguments: &[&str], code: i32| {
        let error = pair.home.json_error(arguments, code);
        format!("{} {}", error["code"].as_str().unwrap(), error["hints"])
    };

    let said = [
        failure(&["snapshot", "create", "web", "hdd", "only"], 4),
        failure(&["snapshot", "create", "web", "all", "only"], 4),
        failure(&["snapshot", "load", "web", "ssd", "only"], 3),
        failure(&["snapshot", "load", "web", "all", "only"], 3),
        failure(&["snapshot", "rm", "web", "hdd", "none"], 3),
        failure(&["snapshot", "rm", "web", "none", "zero"], 3),
        failure(&["snapshot", "create", "web", "hdd", "a~2"], 2),
    ];

    insta::assert_snapshot!(said.join("\n"), @r#"
    snapshot.exists ["choose another name, or remove it with `maqet snapshot rm web hdd only`","replace it with `maqet snapshot create web hdd only --overwrite`"]
    snapshot.exists ["choose another name, or remove it with `maqet snapshot rm web all only`","replace it with `maqet snapshot create web all only --overwrite`"]
    snapshot.not-found ["name a drive that has it: hdd","choose one of its snapshots: zero"]
    snapshot.not-found ["name a drive that has it: hdd","choose one of its snapshots: zero"]
    snapshot.not-found ["choose one of its snapshots: zero, only"]
    drive.not-found ["choose one of its drives: hdd, ssd"]
    snapshot.name-invalid []
    "#);
}

/// Both drives are in step after each kill, and after the next command nothing is left of the work.
#[test]
fn test_load_killed_at_every_step_leaves_drives_in_step() {
    let _turn = parallel::heavy_turn();
    for step in 1.. {
        let pair = Pair::new(TestHome::with_fault_points());
        pair.write_both(1);
        let killed = pair
            .home
            .maqet(["snapshot", "load", "web", "all", "zero"])
            .env("MAQET_FAULT_POINT", format!("snapshot.step:{step}"))
            .run();
        if killed.code.is_some() {
            assert!(step > 4, "it has more steps than {step}");
            break;
        }
        // Work that the next command recovers is not in the list.
        assert_eq!(pair.list(), ["hdd zero disk", "ssd zero disk"], "step {step}");

        let recovered = pair.home.json(&["doctor", "--fix"]);

        assert!(recovered.to_string().contains("`snapshot.load` was interrupted"), "{recovered}");
        assert_eq!(pair.values(), [1, 1], "step {step}");
        assert_eq!(pair.list(), ["hdd zero disk", "ssd zero disk"], "step {step}");
        let events = pair.home.maqet(["events", "--type", "vm.recovered"]).run().ok();
        assert!(events.stdout.contains("rolled-back"), "{events}");
        pair.check_images();
    }
}

/// A step of the model.
#[derive(Debug, Clone)]
enum Step {
    Write { drive: usize, value: u8 },
    Create { drive: usize, name: &'static str, overwrite: bool },
    Load { drive: usize, name: &'static str, keep: bool },
    Remove { drive: usize, name: &'static str },
}

/// The drives of an operation; the last one is `all`.
const CHOICES: [&[usize]; 3] = [&[0], &[1], &[0, 1]];
const CHOICE_NAMES: [&str; 3] = ["hdd", "ssd", "all"];
const BEFORE_LOAD: &str = "before-load";

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = || prop_oneof![Just("a"), Just("b")];
    let any_name = || prop_oneof![4 => Just("a"), 4 => Just("b"), 2 => Just(BEFORE_LOAD)];
    let step = prop_oneof![
        (0..2_usize, 1..255_u8).prop_map(|(drive, value)| Step::Write { drive, value }),
        (0..3_usize, name(), any::<bool>()).prop_map(|(drive, name, overwrite)| Step::Create {
            drive,
            name,
            overwrite
        }),
        (0..3_usize, any_name(), any::<bool>()).prop_map(|(drive, name, keep)| Step::Load { drive, name, keep }),
        (0..3_usize, any_name()).prop_map(|(drive, name)| Step::Remove { drive, name }),
    ];
    proptest::collection::vec(step, 1..9)
}

/// What the drives hold, and their snapshots.
#[derive(Debug, Default)]
struct Model {
    values: [u8; 2],
    snapshots: [BTreeMap<&'static str, u8>; 2],
}

impl Model {
    /// Takes a step; returns the exit code of its command.
    fn take(&mut self, step: &Step) -> i32 {
        match *step {
            Step::Write { drive, value } => self.values[drive] = value,
            Step::Create { drive, name, overwrite } => {
                if !overwrite && CHOICES[drive].iter().any(|drive| self.snapshots[*drive].contains_key(name)) {
                    return 4;
                }
                for drive in CHOICES[drive] {
                    self.snapshots[*drive].insert(name, self.values[*drive]);
                }
            }
            Step::Load { drive, name, keep } => {
                if !CHOICES[drive].iter().all(|drive| self.snapshots[*drive].contains_key(name)) {
                    return 3;
                }
                for drive in CHOICES[drive] {
                    let before = self.values[*drive];
                    self.values[*drive] = self.snapshots[*drive][name];
                    if keep {
                        self.snapshots[*drive].insert(BEFORE_LOAD, before);
                    }
                }
            }
            Step::Remove { drive, name } => {
                let removed = CHOICES[drive].iter().filter(|drive| self.snapshots[**drive].remove(name).is_some());
                if removed.count() == 0 {
                    return 3;
                }
            }
        }
        0
    }

    fn list(&self) -> Vec<String> {
        let names = |drive: usize| {
            self.snapshots[drive].keys().map(move |name| {
                let kind = if *name == BEFORE_LOAD { "safety" } else { "disk" };
                format!("{} {name} {kind}", DRIVES[drive])
            })
        };
        names(0).chain(names(1)).collect()
    }
}

fn carry_out(pair: &Pair, step: &Step, code: i32) {
    let arguments = match *step {
        Step::Write { drive, value } => return pair.write(DRIVES[drive], value),
        Step::Create { drive, name, overwrite } => {
            let more = if overwrite { vec!["--overwrite"] } else { Vec::new() };
            [vec!["snapshot", "create", "web", CHOICE_NAMES[drive], name], more].concat()
        }
        Step::Load { drive, name, keep } => {
            let more = if keep { Vec::new() } else { vec!["--no-safety"] };
            [vec!["snapshot", "load", "web", CHOICE_NAMES[drive], name], more].concat()
        }
        Step::Remove { drive, name } => vec!["snapshot", "rm", "web", CHOICE_NAMES[drive], name],
    };
    pair.home.maqet(arguments).run().code(code);
}

/// Random sequences against a model: 200 with `--long`.
#[test]
fn test_random_sequences_agree_with_the_model() {
    let _turn = parallel::heavy_turn();
    let cases = if variable::is_long() { 200 } else { 10 };
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let algorithm = config.rng_algorithm;
    // The short form runs the same sequences each time; a sequence that fails is shown.
    let mut runner = if variable::is_long() {
        TestRunner::new(config)
    } else {
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(algorithm))
    };

    let result = runner.run(&steps(), |steps| {
        let pair = Pair::new(TestHome::new());
        pair.home.json(&["snapshot", "rm", "web", "all", "zero"]);
        let mut model = Model::default();
        for step in &steps {
            let code = model.take(step);
            carry_out(&pair, step, code);
        }
        prop_assert_eq!(pair.list(), model.list());
        prop_assert_eq!(pair.values(), model.values);
        for (drive, snapshots) in model.snapshots.iter().enumerate() {
            for (name, value) in snapshots {
                pair.home.json(&["snapshot", "load", "web", DRIVES[drive], name, "--no-safety"]);
                prop_assert_eq!(pair.value(DRIVES[drive]), *value, "snapshot {} of {}", name, DRIVES[drive]);
            }
        }
        pair.check_images();
        Ok(())
    });

    result.unwrap();
}
