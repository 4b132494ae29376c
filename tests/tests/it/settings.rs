//! The settings file: its `defaults` are checked like any configuration, with their source locations.

use insta::assert_snapshot;
use maqet_testkit::TestHome;
use serde_json::{Value, json};

use crate::output::failure;

const CONF: &str = "config/maqet/maqet.conf";

/// Returns the problems of an error about a configuration, each as path, file and line.
fn problems(error: &Value) -> Vec<(String, String, u64)> {
    let problems = error["problems"].as_array().unwrap_or_else(|| panic!("{error}"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = |value: &Value| text(value).rsplit('/').next().unwrap_or_default().to_owned();
    problems.iter().map(|one| (text(&one["path"]), name(&one["file"]), one["line"].as_u64().unwrap_or(0))).collect()
}

fn problem(path: &str, file: &str, line: u64) -> (String, String, u64) {
    (path.to_owned(), file.to_owned(), line)
}

#[test]
fn test_defaults_invalid_fail_every_command_with_lines() {
    let home = TestHome::new();
    home.write(CONF, "defaults:\n  memry: 1G\n  cpu: 0\n  network:\n    - bridge: br0\n");

    let listed = failure(&home, &["ls"]);

    assert_snapshot!(listed, @"
    config.invalid, exit code 2
    error: `defaults.memry`: unknown key `memry`
     --> [home]/config/maqet/maqet.conf:2:3
      |
    2 |   memry: 1G
      |   ^^^^^ here
      |
      = help: did you mean `memory`?

    error: `defaults.cpu`: expected an integer from 1 to 1024, found the number `0`
     --> [home]/config/maqet/maqet.conf:3:8
      |
    3 |   cpu: 0
      |        ^ here

    error: `defaults.network[0].bridge`: `mode: user`, the default, does not support `bridge`
     --> [home]/config/maqet/maqet.conf:5:15
      |
    5 |     - bridge: br0
      |               ^^^ here
      |
      = help: set `mode: bridge`, or remove `bridge`

    3 problems; nothing was changed
    ");
    for command in [["config", "show"], ["config", "defaults"]] {
        assert_eq!(failure(&home, &command), listed);
    }
}

#[test]
fn test_defaults_lose_to_vm_keys_and_vm_keys_to_flags() {
    let home = TestHome::new();
    home.write(CONF, "defaults: {accel: tcg, arguments: [{vga: std}]}\n");
    home.write("vm.yaml", "vga: virtio\narguments: [{m: 512}]\n");
    let line = |home: &TestHome| home.maqet(["info", "web", "--command-line"]).run().ok().stdout;

    home.json(&["add", "vm.yaml", "--name", "web"]);
    let added = line(&home);
    home.json(&["apply", "web", "--memory", "768M"]);
    let applied = line(&home);

    assert!(added.contains(" -vga virtio") && added.contains(" -m 512") && !added.contains("-vga std"), "{added}");
    assert!(applied.contains(" -m 768M") && !applied.contains("-m 512"), "{applied}");
}

#[test]
fn test_defaults_with_name_are_refused() {
    let home = TestHome::new();
    home.write(CONF, "defaults: {name: web}\n");

    assert_snapshot!(failure(&home, &["config", "defaults"]), @"
    config.invalid, exit code 2
    error: `defaults.name`: `name` cannot be a default
     --> [home]/config/maqet/maqet.conf:1:18
      |
    1 | defaults: {name: web}
      |                  ^^^ here
      |
      = help: set `name` in the file of the VM, or pass `--name`
    ");
}

#[test]
fn test_default_repeated_by_vm_is_reported_with_both_locations() {
    let home = TestHome::new();
    home.write(CONF, "defaults:\n  arguments:\n    - append: quiet\n");
    home.write("web.yaml", "name: web\narguments:\n  - append: debug\n");

    let error = home.json_error(&["config", "check", "web.yaml"], 2);

    assert_eq!(problems(&error), [problem("arguments[1]", "web.yaml", 3)]);
    let other = error["problems"][0]["other"].as_str().unwrap();
    assert!(other.ends_with("maqet.conf:3:7"), "{other}");
    assert_snapshot!(failure(&home, &["add", "web.yaml"]), @"
    config.invalid, exit code 2
    error: `arguments[1]`: the argument `append` can be given only once
     --> web.yaml:3:5
      |
    3 |   - append: debug
      |     ^^^^^^^^^^^^^ here
      |
     ::: [home]/config/maqet/maqet.conf:3:7
      |
    3 |     - append: quiet
      |       ------------- see also
    ");
}

/// The default was added after the VM was stored, so only `start` and the like can report it.
#[test]
fn test_default_conflicting_with_stored_vm_shows_both_locations() {
    let home = TestHome::new();
    let file = home.write("web.yaml", "name: web\naccel: tcg\narguments:\n  - append: debug\n");
    home.maqet(["add"]).arg(file).run().ok();
    home.write(CONF, "defaults:\n  arguments:\n    - append: quiet\n");

    let started = failure(&home, &["start", "web"]);
    let error = home.json_error(&["info", "web"], 2);

    assert_snapshot!(started, @"
    config.invalid, exit code 2
    error: [home]/web.yaml:4:13: `arguments[1]`: the argument `append` can be given only once
     --> [home]/config/maqet/maqet.conf:3:7
      |
    3 |     - append: quiet
      |       ------------- see also
    ");
    assert_eq!(failure(&home, &["info", "web"]), started);
    assert_eq!(problems(&error), [problem("arguments[1]", "web.yaml", 4)]);
    assert!(error["problems"][0]["other"].as_str().unwrap().ends_with("maqet.conf:3:7"), "{error}");
}

#[test]
fn test_setting_from_variable_has_its_origin_and_loses_to_flag() {
    let home = TestHome::new();
    let origins = |arguments: &[&str]| {
        let shown = home.maqet(["config", "show", "--origin", "--format", "json"]).args(arguments);
        let shown = ["CONFIG", "DATA", "RUNTIME"]
            .iter()
            .fold(shown, |run, name| run.env(format!("MAQET_{name}_DIR"), home.path(name)));
        let shown = shown.env("MAQET_DATABASE", home.path("x.db")).run().ok().json_value();
        let of = |key: &str| {
            let all = shown.as_array().unwrap();
            all.iter().find(|one| one["key"] == key).unwrap()["origin"].clone()
        };
        ["directories.config", "directories.data", "directories.runtime", "database"].map(of)
    };

    let by_variable = origins(&[]);
    let by_flag = origins(&["--data-dir", home.path("flag").to_str().unwrap(), "--database", "sqlite:/y.db"]);

    let variable = |name: &str| json!(format!("variable `MAQET_{name}`"));
    let [config, runtime] = ["CONFIG_DIR", "RUNTIME_DIR"].map(variable);
    assert_eq!(by_variable, [config.clone(), variable("DATA_DIR"), runtime.clone(), variable("DATABASE")]);
    assert_eq!(by_flag, [config, json!("option `--data-dir`"), runtime, json!("option `--database`")]);
}

#[test]
fn test_settings_empty_section_equals_none() {
    let home = TestHome::new();
    home.write(
        CONF,
        "directories: {state: null}\ndatabase:\ndefaults:\n#  memory: 4G\ntimeouts: {start: null}\nhooks:\n",
    );

    assert_eq!(home.json(&["ls"]), serde_json::json!([]));

    home.write(CONF, "defualts:\ntimeouts: {strat: null}\n");
    let error = home.json_error(&["ls"], 2);
    assert_eq!(problems(&error), [problem("defualts", "maqet.conf", 1), problem("timeouts.strat", "maqet.conf", 2)]);
}

#[test]
fn test_settings_without_origins_have_no_such_column() {
    let home = TestHome::new();

    let heads = [&["config", "show"][..], &["config", "show", "--origin"]]
        .map(|command| home.maqet(command).run().ok().stdout.lines().next().map(str::to_owned));

    let words = heads.each_ref().map(|head| head.as_deref().unwrap_or_default().split_whitespace().collect::<Vec<_>>());
    assert_eq!(words, [vec!["KEY", "VALUE"], vec!["KEY", "VALUE", "ORIGIN"]]);
}
