//! The command-line interface for users and scripts: results, messages, exit codes.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;

use insta::assert_snapshot;
use maqet_testkit::process::kill_naming;
use maqet_testkit::{TestHome, guest};
use serde_json::{Value, json};

use crate::output::{failure, stable};

/// Returns the code of the error a run failed with, and what it says.
fn error_of(finished: &maqet_testkit::Finished) -> (String, Value) {
    let error = finished.json_error()["error"].clone();
    (error["code"].as_str().unwrap_or_default().to_owned(), error)
}

fn add(home: &TestHome, yaml: &str) -> maqet_testkit::Maqet {
    let file = home.write("vm.yaml", yaml);
    home.maqet(["add", "--format", "json"]).arg(file)
}

/// Returns where a problem of a configuration is.
fn location(problem: &Value) -> String {
    format!("{} {}:{}", problem["path"].as_str().unwrap(), problem["line"], problem["column"])
}

fn names(home: &TestHome) -> Vec<String> {
    let list = home.maqet(["ls", "--format", "json"]).run().ok().json_value();
    list.as_array().unwrap().iter().map(|vm| vm["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn test_ls_without_vms_prints_empty_array() {
    let home = TestHome::new();

    let list = home.maqet(["ls", "--format", "json"]).run().ok().json_value();

    assert_eq!(list, json!([]));
}

#[test]
fn test_add_yaml_file_returns_id_and_name() {
    let home = TestHome::new();

    let added = add(&home, "name: web\nmemory: 64M\n").run().ok().json_value();

    assert_eq!(added["name"], "web");
    assert_eq!(added["id"].as_str().unwrap().len(), 36);
    assert_eq!(added.as_object().unwrap().len(), 2);
}

#[test]
fn test_add_files_and_flags_merges_left_to_right() {
    let home = TestHome::new();
    let base = home.write("base.yaml", "memory: 1G\ncpu: 2\nstorage: [{name: a, size: 1G}]\n");
    let over = home.write("over.yaml", "memory: 2G\nstorage: [{name: a, size: 3G}, {name: b}]\n");

    home.maqet(["add", "--name", "web", "--cpu", "4"]).arg(base).arg(over).run().ok();

    let info = home.maqet(["info", "web", "--format", "json"]).run().ok().json_value();
    let expected = json!({"memory": "2G", "cpu": 4, "storage": [{"name": "a", "size": "3G"}, {"name": "b"}]});
    assert_eq!(info["definition"], expected);
}

#[test]
fn test_add_empty_with_name_uses_defaults() {
    let home = TestHome::new();

    home.maqet(["add", "--empty", "--name", "scratch"]).run().ok();

    assert_eq!(names(&home), ["scratch"]);
}

#[test]
fn test_add_without_name_fails_and_stores_nothing() {
    let home = TestHome::new();
    home.write("vm.yaml", "memory: 64M\n");

    assert_snapshot!(failure(&home, &["add", "vm.yaml"]), @"
    vm.name-required, exit code 2
    error: no VM name given
      hint: set `name:` in the file, or pass `--name`
    ");
    assert_eq!(names(&home), Vec::<String>::new());
}

#[test]
fn test_add_existing_name_suggests_alternatives() {
    let home = TestHome::new();
    add(&home, "name: web\n").run().ok();

    assert_snapshot!(failure(&home, &["add", "vm.yaml"]), @"
    vm.exists, exit code 4
    error: VM `web` already exists
      hint: run `maqet apply web FILE` to change it
      hint: pass `--name` to choose another name
      hint: run `maqet rm web` to remove it
    ");
    assert_eq!(names(&home), ["web"]);
}

#[test]
fn test_add_invalid_yaml_reports_file_line_and_column() {
    let home = TestHome::new();
    home.write("vm.yaml", "name: web\nmemory: [1\ncpu: 2\n");

    assert_snapshot!(failure(&home, &["add", "vm.yaml"]), @"
    config.invalid, exit code 2
    error: invalid YAML: illegal placement of ':' indicator
     --> vm.yaml:3:4
      |
    3 | cpu: 2
      |    ^ here
      |
      = help: close the preceding `[`
    ");
    let problem = &home.json_error(&["add", "vm.yaml"], 2)["problems"][0];
    assert!(problem["file"].as_str().unwrap().ends_with("vm.yaml"), "{problem}");
    assert!(problem["line"].as_u64().unwrap() >= 2, "{problem}");
    assert_eq!(names(&home), Vec::<String>::new());
}

#[test]
fn test_add_several_errors_reports_all_of_them() {
    let home = TestHome::new();
    home.write("vm.yaml", "name: web\nmemry: 1G\ncpu: 0\nstorage: [{name: a, sise: 1G}]\n");

    assert_snapshot!(failure(&home, &["add", "vm.yaml"]), @"
    config.invalid, exit code 2
    error: unknown key `memry`
     --> vm.yaml:2:1
      |
    2 | memry: 1G
      | ^^^^^ here
      |
      = help: did you mean `memory`?

    error: `cpu`: expected an integer from 1 to 1024, found the number `0`
     --> vm.yaml:3:6
      |
    3 | cpu: 0
      |      ^ here

    error: `storage[0].sise`: unknown key `sise`
     --> vm.yaml:4:21
      |
    4 | storage: [{name: a, sise: 1G}]
      |                     ^^^^ here
      |
      = help: did you mean `size`?

    3 problems; nothing was changed
    ");
    let error = home.json_error(&["add", "vm.yaml"], 2);
    let locations: Vec<String> = error["problems"].as_array().unwrap().iter().map(location).collect();
    assert_eq!(locations, ["memry 2:1", "cpu 3:6", "storage[0].sise 4:21"]);
}

#[test]
fn test_add_error_shows_the_source_line() {
    let home = TestHome::new();
    home.write("vm.yaml", "name: web\nmemry: 1G\n");

    assert_snapshot!(failure(&home, &["add", "vm.yaml"]), @"
    config.invalid, exit code 2
    error: unknown key `memry`
     --> vm.yaml:2:1
      |
    2 | memry: 1G
      | ^^^^^ here
      |
      = help: did you mean `memory`?
    ");
}

#[test]
fn test_add_unreadable_or_binary_file_fails() {
    let home = TestHome::new();
    home.write("binary.yaml", [0_u8, 159, 146, 150]);
    home.write("large.yaml", "#".repeat(2 << 20));

    let failures = ["missing.yaml", "binary.yaml", "large.yaml", "data"].map(|file| failure(&home, &["add", file]));

    assert_snapshot!(failures.join("\n"), @"
    config.unavailable, exit code 2
    error: cannot read `missing.yaml`
      caused by: No such file or directory (os error 2)
      hint: check the path and the permissions of the file

    config.encoding-invalid, exit code 2
    error: `binary.yaml` is not UTF-8 text: invalid byte at offset 1
      hint: pass a YAML file

    config.too-large, exit code 2
    error: `large.yaml` is too large for a configuration: more than 1048576 bytes
      hint: pass a YAML file

    config.unavailable, exit code 2
    error: cannot read `data`
      caused by: Is a directory (os error 21)
      hint: check the path and the permissions of the file
    ");
}

#[test]
fn test_status_unknown_vm_suggests_similar_name() {
    let home = TestHome::new();
    add(&home, "name: web\n").run().ok();

    let failures = ["status", "start", "stop", "rm", "info"].map(|command| failure(&home, &[command, "wbe"]));

    assert_snapshot!(failures[0], @"
    vm.not-found, exit code 3
    error: VM `wbe` not found
      hint: did you mean `web`?
    ");
    assert!(failures.iter().all(|failure| *failure == failures[0]), "{failures:#?}");
}

#[test]
fn test_status_id_prefix_finds_vm() {
    let home = TestHome::new();
    let id = add(&home, "name: web\n").run().ok().json_value()["id"].as_str().unwrap().to_owned();

    let status = home.maqet(["status", &id[..8], "--format", "json"]).run().ok().json_value();

    assert_eq!(status["name"], "web");
}

#[test]
fn test_status_vm_never_started_is_defined() {
    let home = TestHome::new();
    add(&home, "name: web\n").run().ok();

    let status = home.maqet(["status", "web", "--format", "json"]).run().ok().json_value();

    assert_eq!((&status["status"], &status["pid"]), (&json!("defined"), &Value::Null));
}

#[test]
fn test_status_several_vms_exits_with_first_failure() {
    let home = TestHome::new();
    add(&home, "name: web\n").run().ok();
    home.maqet(["add", "--empty", "--name", "db"]).run().ok();

    let finished = home.maqet(["status", "web", "nope", "db", "--format", "json"]).run().code(3);

    let listed = finished.json_value();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(error_of(&finished).0, "vm.not-found");
}

#[test]
fn test_ls_filters_and_sort_key_select_vms() {
    let home = TestHome::new();
    for name in ["web-2", "db", "web-1"] {
        home.maqet(["add", "--empty", "--name", name]).run().ok();
    }
    let listed = |arguments: &[&str]| {
        let list = home.maqet(["ls", "--format", "json"]).args(arguments).run().ok().json_value();
        list.as_array().unwrap().iter().map(|vm| vm["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };

    assert_eq!(listed(&["--name", "web-*"]), ["web-1", "web-2"]);
    assert_eq!(listed(&["--sort", "created"]), ["web-2", "db", "web-1"]);
    assert_eq!(listed(&["--status", "running"]), Vec::<String>::new());
}

#[test]
fn test_ls_table_in_pipe_has_no_colors() {
    let home = TestHome::new();
    home.maqet(["add", "--empty", "--name", "web"]).run().ok();
    home.maqet(["add", "--empty", "--name", "db-1"]).run().ok();

    let finished = home.maqet(["ls"]).run().ok();

    assert_snapshot!(stable(&home, &finished.stdout), @"
    NAME  STATUS   PID  SINCE                 ID
    db-1  defined       [time]  [id]
    web   defined       [time]  [id]
    ");
}

#[test]
fn test_color_in_pipe_is_off_unless_requested() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);
    let check = |command: &[&str]| {
        let plain = home.maqet(command).run().stdout;
        let coloured = home.maqet(command).args(["--color", "always"]).run().stdout;
        assert!(!plain.contains('\u{1b}'), "{command:?}: {plain}");
        assert!(coloured.contains('\u{1b}'), "{command:?}: {coloured}");
    };

    for command in [["status", "web"].as_slice(), &["inspect", "web"], &["ls"], &["doctor"]] {
        check(command);
    }
    assert_eq!(kill_naming(home.root()).len(), 1);
    check(&["cleanup", "--dry-run"]);
}

#[test]
fn test_format_yaml_prints_same_data_as_json() {
    let home = TestHome::new();
    home.maqet(["add", "--empty", "--name", "web"]).run().ok();

    let yaml = home.maqet(["status", "web", "--format", "yaml"]).run().ok().stdout;

    assert_snapshot!(stable(&home, &yaml), @r#"
    id: [id]
    name: web
    status: defined
    pid: null
    created_at: "[time]"
    "#);
    assert_eq!(serde_yaml::from_str::<Value>(&yaml).unwrap(), home.json(&["status", "web"]));
}

#[test]
fn test_start_missing_binary_suggests_package() {
    let home = TestHome::new();
    home.add("name: web\nbinary: /opt/no/qemu-system-arm\n");

    assert_snapshot!(failure(&home, &["start", "web"]), @"
    host.binary-not-found, exit code 69
    error: QEMU binary `/opt/no/qemu-system-arm` not found
      hint: install it (Debian: `apt install qemu-system-arm`), or set `binary:`
    ");
}

#[test]
fn test_start_binary_not_qemu_is_refused() {
    let home = TestHome::new();
    let other = home.write("other", "#!/bin/sh\necho other 1.0\n");
    set_permissions(&other, Permissions::from_mode(0o700)).unwrap();
    home.add(&format!("name: web\nbinary: {}\n", other.display()));

    assert_snapshot!(failure(&home, &["start", "web"]), @"
    host.binary-invalid, exit code 69
    error: `[home]/other` is not a QEMU binary: `--version` printed `other 1.0` and ended with exit code 0
      hint: set `binary:` to a `qemu-system-…`
    ");
}

#[test]
fn test_start_missing_disk_is_named_and_leaves_no_files() {
    let home = TestHome::new();
    let disk = home.path("no/such.qcow2");
    home.add(&format!("name: web\naccel: tcg\nstorage: [{{name: hdd, file: {}}}]\n", disk.display()));

    assert_snapshot!(failure(&home, &["start", "web"]), @"
    storage.not-found, exit code 3
    error: disk image `[home]/no/such.qcow2` not found: the directory `[home]/no` does not exist; is its volume mounted?
      hint: move it back, mount its volume, or correct the path under `storage`
      hint: set a `size` for the entry to have maqet create the image
    ");
    assert_eq!(home.qemu_pids(), Vec::<i32>::new());
    assert_eq!(home.json(&["status", "web"])["status"], "defined");
}

#[test]
fn test_start_option_refused_by_qemu_shows_its_message() {
    let home = TestHome::new();
    home.add(&format!("{}  - {{icount: nonsense}}\n", guest::paused_yaml("web")));

    assert_snapshot!(failure(&home, &["start", "web"]), @"
    qemu.option-invalid, exit code 2
    error: VM `web` failed to start: the `shift` of `icount` is invalid
      caused by: QEMU exited with exit code 1: -icount nonsense: icount: Invalid shift value
      hint: set a number from 0 to 10, or `auto`, in `-icount nonsense`
    ");
    assert_eq!(home.qemu_pids(), Vec::<i32>::new());
    assert_eq!(home.json(&["status", "web"])["status"], "defined");
}

#[test]
fn test_info_command_line_is_one_shell_line() {
    let home = TestHome::new();
    add(&home, &guest::paused_yaml("web")).run().ok();

    let finished = home.maqet(["info", "web", "--command-line"]).run().ok();
    let data = home.maqet(["info", "web", "--command-line", "--format", "json"]).run().ok().json_value();

    assert_eq!(finished.stdout.lines().count(), 1);
    assert!(finished.stdout.contains(" -m 32M "), "{}", finished.stdout);
    assert!(data["argv"].as_array().unwrap().contains(&json!("-S")));
}

#[test]
fn test_start_dry_run_prints_command_and_starts_nothing() {
    let home = TestHome::new();
    add(&home, &guest::paused_yaml("web")).run().ok();

    let finished = home.maqet(["start", "web", "--dry-run"]).run().ok();

    let info = home.maqet(["info", "web", "--command-line"]).run().ok();
    assert_eq!(finished.stdout, info.stdout);
    assert_eq!(home.qemu_pids(), Vec::<i32>::new());
}

#[test]
fn test_qmp_stopped_vm_fails_with_hint() {
    let home = TestHome::new();
    add(&home, "name: web\n").run().ok();

    assert_snapshot!(failure(&home, &["qmp", "web", "query-status"]), @"
    vm.status-conflict, exit code 4
    error: cannot connect: VM `web` is defined
      hint: start it with `maqet start web`
    ");
}

#[test]
fn test_stop_defined_vm_changes_nothing() {
    let home = TestHome::new();
    add(&home, "name: web\n").run().ok();

    let stopped = home.maqet(["stop", "web", "--format", "json"]).run().ok().json_value();

    assert_eq!(stopped["method"], "none");
}

#[test]
fn test_usage_error_with_json_format_is_json() {
    let home = TestHome::new();

    let error = home.json_error(&["start"], 2);

    assert_eq!(error["code"], "usage.invalid");
    assert_eq!(error["message"], "the following required arguments were not provided: <VM>...");
}

#[test]
fn test_snapshot_python_argument_order_gets_hint() {
    let home = TestHome::new();

    assert_snapshot!(failure(&home, &["snapshot", "web", "create", "hdd", "clean"]), @"
    usage.invalid, exit code 2
    error: unrecognized subcommand 'web'

    Usage: maqet snapshot [OPTIONS] <COMMAND>

    For more information, try '--help'.

      hint: run `maqet snapshot create web hdd clean`
    ");
}

#[test]
fn test_help_lists_every_command_with_examples() {
    let home = TestHome::new();

    let finished = home.maqet(["--help"]).run().ok();

    for expected in
        ["add", "start", "stop", "rm", "ls", "status", "info", "qmp", "snapshot", "Examples:", "Exit codes:"]
    {
        assert!(finished.stdout.contains(expected), "{expected}");
    }
}

#[test]
fn test_database_unknown_scheme_lists_known_ones() {
    let home = TestHome::new();

    assert_snapshot!(failure(&home, &["ls", "--database", "oracle:x"]), @"
    store.url-unsupported, exit code 2
    error: unsupported database URL `oracle:x`
      hint: use a path, or a URL that begins with `sqlite:`, `postgres:`
    ");
}

#[test]
fn test_log_file_holds_operations_and_is_private() {
    let home = TestHome::new();
    let log = home.path("log");

    home.maqet(["ls", "-v", "--log-file"]).arg(&log).run().ok();

    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.contains("operation=\"ls\""), "{text}");
    assert_eq!(log.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}
