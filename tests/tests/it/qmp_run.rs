//! `qmp run`: arguments typed by the schema of the running QEMU, and commands that access the host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use insta::assert_snapshot;
use maqet_testkit::{TestHome, guest};
use serde_json::{Value, json};

use crate::output::failure;

/// Returns a home with a paused VM `web`.
fn with_web() -> TestHome {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);
    home
}

fn qmp(home: &TestHome, line: &str) -> Value {
    home.json(&[&["qmp", "web"], line.split(' ').collect::<Vec<_>>().as_slice()].concat())
}

/// Runs a command that is a usage error, and returns the error's code and hints.
#[track_caller]
fn refused(home: &TestHome, line: &str) -> (String, String) {
    let error = home.json_error(&[&["qmp", "web"], line.split(' ').collect::<Vec<_>>().as_slice()].concat(), 2);
    (error["code"].as_str().unwrap_or_default().to_owned(), error["hints"].to_string())
}

/// Returns the files of cached schemas.
fn kept(home: &TestHome) -> Vec<PathBuf> {
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    home.files().into_iter().filter(|path| name(path).starts_with("qmp-schema-")).collect()
}

#[test]
fn test_qmp_unknown_command_or_argument_suggests_names() {
    let home = with_web();

    let failures = [
        ["query-statsu"].as_slice(),
        &["block_resize", "nodename=x", "size=1"],
        &["pmemsave", "--allow-dangerous"],
        &["set-action", "panic=puase"],
        &["eject", "--json", r#"{"idd": "x"}"#],
    ]
    .map(|arguments| failure(&home, &[&["qmp", "web"], arguments].concat()));

    assert_snapshot!(failures.join("\n"), @"
    qmp.command-not-found, exit code 2
    error: QEMU has no command `query-statsu`
      hint: did you mean `query-stats`, `query-status` or `query-colo-status`?
      hint: list the commands with `maqet qmp web query-commands`

    qmp.argument-not-found, exit code 2
    error: `block_resize` has no argument `nodename`
      hint: did you mean `node-name`?
      hint: use one of `device`, `node-name`, `size`

    qmp.argument-required, exit code 2
    error: `pmemsave` requires `val`, `size`, `filename`
      hint: add `val=… size=… filename=…`

    qmp.argument-invalid, exit code 2
    error: invalid value `puase` for `panic` of `set-action`: expected one of `pause`, `shutdown`, `exit-failure`, `none`
      hint: did you mean `pause`?

    qmp.argument-not-found, exit code 2
    error: `eject` has no argument `idd`
      hint: did you mean `id`?
      hint: use one of `device`, `id`, `force`
    ");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_qmp_arguments_are_sent_with_schema_types() {
    let home = with_web();

    qmp(&home, "blockdev-add driver=null-co node-name=n size=2G read-zeroes=on");
    qmp(&home, "migrate-set-capabilities capabilities.0.capability=events capabilities.0.state=on");
    qmp(&home, "object-add qom-type=throttle-group id=tg limits.iops-total=100");
    qmp(&home, "transaction actions.0.type=block-dirty-bitmap-add actions.0.data.node=n actions.0.data.name=7");

    let nodes = qmp(&home, "query-named-block-nodes flat=true");
    let node = nodes.as_array().unwrap().iter().find(|node| node["node-name"] == "n").unwrap();
    assert_eq!(node["image"]["virtual-size"], 2_u64 << 30);
    assert_eq!(node["dirty-bitmaps"][0]["name"], "7");
    let capabilities = qmp(&home, "query-migrate-capabilities");
    assert!(capabilities.as_array().unwrap().contains(&json!({"capability": "events", "state": true})));
    assert_eq!(qmp(&home, "qom-get path=/objects/tg property=limits")["iops-total"], 100);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_qmp_json_is_read_from_argument_file_and_stdin() {
    let home = with_web();
    let file = home.write("arguments.json", r#"{"path": "/machine", "property": "type"}"#);
    let input = fs::File::open(&file).unwrap();
    let file = format!("@{}", file.display());

    let by_word = home.json(&["qmp", "web", "qom-get", "--json", r#"{"path": "/machine", "property": "type"}"#]);
    let by_file = home.json(&["qmp", "web", "qom-get", "--json", &file]);
    let piped = home.maqet(["qmp", "web", "qom-get", "--json", "-", "--format", "json"]).stdin(input);
    let by_pipe = piped.run().ok().json_value();
    let nothing = home.json_error(&["qmp", "web", "qom-get", "--json", "-"], 2);

    assert!(by_word.as_str().unwrap().ends_with("-machine"), "{by_word}");
    assert_eq!((&by_file, &by_pipe), (&by_word, &by_word));
    assert_eq!(nothing["message"], "`standard input` is empty");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_qmp_schema_is_cached_and_refetched_if_corrupt() {
    let home = with_web();

    qmp(&home, "query-status");
    let [file] = kept(&home).try_into().unwrap();
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    qmp(&home, "query-status");
    let repaired = fs::read(&file).unwrap();
    // The cache is trusted: a command that is removed from it is unknown.
    let (code, _) = refused(&home, "query-statsu");

    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(repaired, whole);
    assert_eq!(code, "qmp.command-not-found");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_qmp_host_access_commands_require_confirmation() {
    let home = with_web();
    let target = home.path("memory");
    let save = format!("pmemsave val=0 size=16 filename={}", target.display());

    let (code, hints) = refused(&home, &save);
    let after_refusal = target.exists();
    let error = home.json_error(&["qmp", "web", "migrate", "uri=exec:cat"], 2);
    let hmp = home.json_error(&["qmp", "web", "human-monitor-command", "command-line=logfile /x"], 2);
    let device = home.json_error(&["qmp", "web", "device_add", "driver=usb-mtp", "rootdir=/"], 2);
    let memory = home
        .json_error(&["qmp", "web", "object-add", "qom-type=memory-backend-ram", "id=m", "size=1M", "prealloc=on"], 2);
    qmp(&home, "object-add qom-type=memory-backend-ram id=m size=1M");
    qmp(&home, "object-add qom-type=memory-backend-memfd id=n size=1M prealloc=off");
    qmp(&home, &format!("{save} --allow-dangerous"));

    assert_eq!(code, "qmp.host-access-refused");
    assert!(hints.contains("--allow-dangerous"), "{hints}");
    assert!(!after_refusal);
    assert_eq!(error["message"], "`migrate` can run programs of the host or connect it to others");
    assert_eq!((&hmp["code"], &device["code"]), (&json!("qmp.host-access-refused"), &json!("qmp.host-access-refused")));
    assert_eq!(
        memory["message"],
        "`object-add` of `memory-backend-ram` allocates memory of the host in advance or on chosen nodes"
    );
    assert_eq!(fs::read(target).unwrap().len(), 16);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_qmp_hmp_error_output_is_a_failure() {
    let home = with_web();
    let line = |line: &str, code: i32| {
        let line = format!("command-line={line}");
        home.json_error(&["qmp", "web", "human-monitor-command", &line, "--allow-dangerous"], code)
    };

    let unknown = line("no-such", 1);
    let refused = line("drive_del nope", 1);
    let reported = home.json(&["qmp", "web", "human-monitor-command", "command-line=info status"]);

    assert_eq!((&unknown["code"], &refused["code"]), (&json!("qmp.hmp-failed"), &json!("qmp.hmp-failed")));
    assert!(refused["message"].as_str().unwrap().ends_with("Device 'nope' not found"), "{refused}");
    assert!(reported.as_str().unwrap().starts_with("VM status: paused"), "{reported}");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_qmp_reply_is_table_as_text_and_json_in_pipe() {
    let home = with_web();
    let info = ["qmp", "web", "human-monitor-command", "command-line=info status"];

    let piped = home.maqet(["qmp", "web", "query-status"]).run().ok();
    let table = home.maqet(["qmp", "web", "query-status", "--format", "table"]).run().ok();
    let text = home.maqet(info).run().ok();
    let nothing = home.maqet(["qmp", "web", "system_reset", "--format", "table"]).run().ok();

    assert_eq!(piped.json_value()["status"], "prelaunch");
    let mut rows = table.stdout.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    assert!(rows.any(|row| row == ["status", "prelaunch"]), "{}", table.stdout);
    assert_eq!(text.stdout, "VM status: paused (prelaunch)\n");
    assert_eq!(nothing.stdout, "");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_qmp_device_add_properties_are_checked_and_typed() {
    let home = with_web();
    qmp(&home, "blockdev-add driver=null-co node-name=n size=1M");

    let (code, hints) = refused(&home, "device_add driver=usb-storage id=u drvie=n");
    let json = r#"{"driver": "usb-storage", "id": "u", "drvie": "n"}"#;
    let by_json = home.json_error(&["qmp", "web", "device_add", "--json", json], 2);
    let unknown = home.json_error(&["qmp", "web", "device_add", "driver=virtio-blk-no-such", "x=1"], 1);
    qmp(&home, "device_add driver=virtio-blk-pci id=d drive=n share-rw=on queue-size=0x40 addr=1e");

    assert_eq!(code, "qmp.argument-not-found");
    assert!(hints.contains("`drive`"), "{hints}");
    assert_eq!(by_json["code"], "qmp.argument-not-found");
    assert_eq!(unknown["code"], "qmp.refused");
    assert_eq!(qmp(&home, "qom-get path=/machine/peripheral/d property=queue-size"), 64);
    assert_eq!(qmp(&home, "qom-get path=/machine/peripheral/d property=share-rw"), true);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_qmp_tiny_timeout_is_not_a_busy_monitor() {
    let home = with_web();

    let before_the_schema = home.json_error(&["qmp", "web", "query-status", "--timeout", "0s"], 124);
    qmp(&home, "query-status");
    let with_it = home.json_error(&["qmp", "web", "query-status", "--timeout", "0s"], 124);

    assert_eq!(
        (&before_the_schema["code"], &with_it["code"]),
        (&json!("qmp.connect-timed-out"), &json!("qmp.connect-timed-out"))
    );
    home.json(&["stop", "web", "--force"]);
}
