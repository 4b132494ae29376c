//! What the command line promises to people and scripts: results, messages, exit codes.

use maqet_testkit::process::kill_naming;
use maqet_testkit::{TestHome, guest};
use serde_json::{Value, json};

/// Returns the code of the error a run failed with, and what it says.
fn error_of(finished: &maqet_testkit::Finished) -> (String, Value) {
    let error = finished.json_error()["error"].clone();
    (error["code"].as_str().unwrap_or_default().to_owned(), error)
}

fn add(home: &TestHome, yaml: &str) -> maqet_testkit::Maqet {
    let file = home.write("vm.yaml", yaml);
    home.maqet(["add", "--format", "json"]).arg(file)
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

    let finished = add(&home, "memory: 64M\n").run().code(2);

    assert_eq!(error_of(&finished).0, "vm.name-missing");
    assert_eq!(names(&home), Vec::<String>::new());
}

#[test]
fn test_add_existing_name_suggests_alternatives() {
    let home = TestHome::new();
    add(&home, "name: web\n").run().ok();

    let finished = add(&home, "name: web\n").run().code(4);

    let (code, error) = error_of(&finished);
    assert_eq!(code, "vm.name-taken");
    assert!(error["hints"].to_string().contains("maqet rm web"), "{error}");
    assert_eq!(names(&home), ["web"]);
}

#[test]
fn test_add_invalid_yaml_reports_file_line_and_column() {
    let home = TestHome::new();

    let finished = add(&home, "name: web\nmemory: [1\ncpu: 2\n").run().code(2);

    let (code, error) = error_of(&finished);
    assert_eq!(code, "config.invalid");
    assert!(error["problems"][0]["file"].as_str().unwrap().ends_with("vm.yaml"), "{error}");
    assert!(error["problems"][0]["line"].as_u64().unwrap() >= 2, "{error}");
    assert_eq!(names(&home), Vec::<String>::new());
}

#[test]
fn test_add_several_errors_reports_all_of_them() {
    let home = TestHome::new();

    let finished = add(&home, "name: web\nmemry: 1G\ncpu: 0\nstorage: [{name: a, sise: 1G}]\n").run().code(2);

    let (_, error) = error_of(&finished);
    let told: Vec<(&str, u64, u64)> = error["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (p["path"].as_str().unwrap(), p["line"].as_u64().unwrap(), p["column"].as_u64().unwrap()))
        .collect();
    assert_eq!(told, [("memry", 2, 1), ("cpu", 3, 6), ("storage[0].sise", 4, 21)]);
    assert_eq!(error["problems"][0]["help"], "did you mean `memory`?");
    assert_eq!(error["problems"][2]["help"], "did you mean `size`?");
}

#[test]
fn test_add_error_shows_the_source_line() {
    let home = TestHome::new();
    let file = home.write("vm.yaml", "name: web\nmemry: 1G\n");

    let finished = home.maqet(["add"]).arg(file).run().code(2);

    for expected in ["unknown key `memry`", "vm.yaml:2:1", "memry: 1G", "did you mean `memory`?"] {
        assert!(finished.stderr.contains(expected), "{expected}: {}", finished.stderr);
    }
}

#[test]
fn test_add_unreadable_or_binary_file_fails() {
    let home = TestHome::new();
    let binary = home.write("b.yaml", [0_u8, 159, 146, 150]);
    let large = home.write("l.yaml", "#".repeat(2 << 20));

    let missing = home.maqet(["add", "no.yaml", "--format", "json"]).run().code(2);
    let binary = home.maqet(["add", "--format", "json"]).arg(binary).run().code(2);
    let large = home.maqet(["add", "--format", "json"]).arg(large).run().code(2);
    let folder = home.maqet(["add", "--format", "json"]).arg(home.root()).run().code(2);

    assert_eq!(error_of(&missing).0, "config.unreadable");
    assert_eq!(error_of(&binary).0, "config.not-text");
    assert_eq!(error_of(&large).0, "config.too-large");
    assert_eq!(error_of(&folder).0, "config.unreadable");
}

#[test]
fn test_status_unknown_vm_suggests_similar_name() {
    let home = TestHome::new();
    add(&home, "name: web\n").run().ok();

    for command in [&["status", "wbe"][..], &["start", "wbe"], &["stop", "wbe"], &["rm", "wbe"], &["info", "wbe"]] {
        let finished = home.maqet(command).args(["--format", "json"]).run().code(3);

        let (code, error) = error_of(&finished);
        assert_eq!(code, "vm.not-found", "{command:?}");
        assert_eq!(error["hints"], json!(["did you mean `web`?"]), "{command:?}");
    }
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

    let finished = home.maqet(["ls"]).run().ok();

    let lines: Vec<Vec<&str>> = finished.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "STATUS", "PID", "SINCE", "ID"]);
    assert_eq!(lines[1][..2], ["web", "defined"]);
    assert!(!finished.stdout.contains('\u{1b}'));
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

    let finished = home.maqet(["status", "web", "--format", "yaml"]).run().ok();

    assert!(finished.stdout.contains("status: defined\n"), "{}", finished.stdout);
}

#[test]
fn test_start_missing_binary_suggests_package() {
    let home = TestHome::new();
    add(&home, "name: web\nbinary: /opt/no/qemu-system-arm\n").run().ok();

    let finished = home.maqet(["start", "web", "--format", "json"]).run().code(69);

    let (code, error) = error_of(&finished);
    assert_eq!(code, "host.binary-missing");
    assert_eq!(error["message"], "QEMU binary not found: /opt/no/qemu-system-arm");
    assert!(error["hints"][0].as_str().unwrap().contains("apt install qemu-system-arm"), "{error}");
}

#[test]
fn test_start_binary_not_qemu_is_refused() {
    let home = TestHome::new();
    add(&home, "name: web\nbinary: /bin/true\n").run().ok();

    let finished = home.maqet(["start", "web", "--format", "json"]).run().code(69);

    assert_eq!(error_of(&finished).0, "host.binary-not-qemu");
}

#[test]
fn test_start_missing_disk_is_named_and_leaves_no_files() {
    let home = TestHome::new();
    let disk = home.path("no/such.qcow2");
    add(&home, &format!("name: web\naccel: tcg\nstorage: [{{name: hdd, file: {}}}]\n", disk.display())).run().ok();

    let finished = home.maqet(["start", "web", "--format", "json"]).run().code(3);

    let (code, error) = error_of(&finished);
    assert_eq!(code, "storage.missing");
    assert!(error["message"].as_str().unwrap().contains("such.qcow2"), "{error}");
    assert_eq!(home.qemu_pids(), Vec::<i32>::new());
    let status = home.maqet(["status", "web", "--format", "json"]).run().ok().json_value();
    assert_eq!(status["status"], "defined");
}

#[test]
fn test_start_option_refused_by_qemu_shows_its_message() {
    let home = TestHome::new();
    add(&home, &format!("{}  - {{device: no-such-device}}\n", guest::paused_yaml("web"))).run().ok();

    let finished = home.maqet(["start", "web", "--format", "json"]).run().code(1);

    let (code, error) = error_of(&finished);
    assert_eq!(code, "vm.start-refused");
    assert!(
        error["causes"][0].as_str().unwrap().contains("'no-such-device' is not a valid device model name"),
        "{error}"
    );
    assert_eq!(home.qemu_pids(), Vec::<i32>::new());
    let status = home.maqet(["status", "web", "--format", "json"]).run().ok().json_value();
    assert_eq!(status["status"], "defined");
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

    let finished = home.maqet(["qmp", "web", "query-status", "--format", "json"]).run().code(4);

    let (code, error) = error_of(&finished);
    assert_eq!(code, "vm.wrong-state");
    assert_eq!(error["hints"], json!(["start it with `maqet start web`"]));
}

#[test]
fn test_stop_defined_vm_changes_nothing() {
    let home = TestHome::new();
    add(&home, "name: web\n").run().ok();

    let stopped = home.maqet(["stop", "web", "--format", "json"]).run().ok().json_value();

    assert_eq!(stopped["how"], "nothing");
}

#[test]
fn test_usage_error_with_json_format_is_json() {
    let home = TestHome::new();

    let finished = home.maqet(["start", "--format", "json"]).run().code(2);

    assert_eq!(error_of(&finished).0, "usage");
    let error = finished.json_error()["error"].clone();
    assert_eq!(error["message"], "the following required arguments were not provided: <VM>...");
}

#[test]
fn test_snapshot_python_argument_order_gets_hint() {
    let home = TestHome::new();

    let finished = home.maqet(["snapshot", "web", "create", "hdd", "clean"]).run().code(2);

    assert!(finished.stderr.contains("write `maqet snapshot create web hdd clean`"), "{}", finished.stderr);
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

    let finished = home.maqet(["ls", "--database", "oracle:x", "--format", "json"]).run().code(2);

    assert_eq!(error_of(&finished).0, "store.unknown");
}

#[test]
fn test_log_file_holds_operations_and_is_private() {
    use std::os::unix::fs::PermissionsExt;

    let home = TestHome::new();
    let log = home.path("log");

    home.maqet(["ls", "-v", "--log-file"]).arg(&log).run().ok();

    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.contains("operation=\"ls\""), "{text}");
    assert_eq!(log.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}
