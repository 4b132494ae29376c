//! Databases, copies and running VMs of maqet at commit d09c362, the last one with schema 1, used by this version.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use insta::assert_snapshot;
use maqet_testkit::{TestHome, guest};
use rusqlite::Connection;
use serde_json::{Value, json};

/// The fixture, and the folder in which it was written.
const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/schema-1");
const WRITTEN_IN: &str = "/tmp/maqet-fixture";

/// Returns a home with the database and the copies of the old version, as if they had been written here.
fn old_home() -> TestHome {
    let home = TestHome::new();
    let root = home.root().to_str().unwrap();
    let database = home.write("data/maqet/maqet.db", fs::read(format!("{FIXTURE}/maqet.db")).unwrap());
    for (table, column) in [("vm", "sockets"), ("vm", "records"), ("storage", "path")] {
        let update = format!("UPDATE {table} SET {column} = replace({column}, '{WRITTEN_IN}', '{root}')");
        Connection::open(&database).unwrap().execute(&update, []).unwrap();
    }
    for copy in fs::read_dir(format!("{FIXTURE}/state")).unwrap().map(Result::unwrap) {
        let text = fs::read_to_string(copy.path().join("vm.json")).unwrap().replace(WRITTEN_IN, root);
        home.write(Path::new("state/maqet").join(copy.file_name()).join("vm.json"), text);
    }
    home
}

/// Creates the disks of its VMs.
fn create_disks(home: &TestHome) {
    for disk in ["web/hdd.qcow2", "db/disk.qcow2"] {
        let file = home.write(home.data().join("storage").join(disk), "");
        let created = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&file).arg("16M").status();
        assert!(created.unwrap().success());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

fn schema(home: &TestHome) -> i64 {
    let database = Connection::open(home.data().join("maqet.db")).unwrap();
    database.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|vm| vm["name"].as_str().unwrap()).collect()
}

#[test]
fn test_upgrade_old_database_shows_every_vm() {
    let home = old_home();

    let list = home.json(&["ls"]);
    let web = home.json(&["status", "web"]);
    let info = home.json(&["info", "web"]);

    assert_eq!(names(&list), ["db", "web"]);
    assert_eq!((&web["status"], &web["reason"], &web["boot"]), (&json!("stopped"), &json!("host-quit"), &json!(4)));
    assert_eq!(info["definition"]["arguments"], json!([{"-device": "qemu-xhci"}]));
    assert_eq!(info["storage"][0]["file"], json!(home.data().join("storage/web/hdd.qcow2")));
    assert_eq!(schema(&home), 6);
}

#[test]
fn test_upgrade_old_events_have_the_new_names() {
    let home = old_home();

    let events = home.json(&["events"]);
    let of = |kind: &str| {
        let chosen = events.as_array().unwrap().iter().filter(|event| event["type"] == kind);
        chosen
            .map(|event| format!("{} {}", event["vm"].as_str().unwrap(), event["data"]))
            .collect::<Vec<_>>()
            .join("\n")
    };

    assert_eq!(events.as_array().unwrap().len(), 29);
    assert_snapshot!(of("vm.stopped"), @r#"
    web {"reason":"host-quit","method":"quit"}
    web {"reason":"host-signal","method":"sigkill"}
    web {"reason":"crashed","method":"unobserved","boot":3}
    web {"reason":"host-quit","method":"quit"}
    db {"reason":"host-signal","method":"sigkill"}
    "#);
    assert_snapshot!(of("device.removed"), @r#"
    web {"boot":2,"device":"stick","backend":"hotplug-stick"}
    web {"boot":2,"device":"pen","backend":null}
    "#);
}

#[test]
fn test_upgrade_old_vms_start_change_and_are_removed() {
    let home = old_home();
    create_disks(&home);

    home.json(&["apply", "db", "--set", "memory=96M"]);
    let started = home.json(&["start", "db"]);
    let stopped = home.json(&["stop", "db", "--force"]);
    home.json(&["snapshot", "create", "web", "hdd", "new"]);
    home.json(&["rm", "web"]);

    assert_eq!(started["boot"], 2);
    assert_eq!((&stopped["status"], &stopped["method"]), (&json!("stopped"), &json!("sigkill")));
    assert_eq!(names(&home.json(&["ls"])), ["db"]);
    let last = home.json(&["events", "web"]);
    assert_eq!(last.as_array().unwrap().last().unwrap()["type"], "vm.removed");
}

#[test]
fn test_upgrade_old_copies_restore_a_lost_database() {
    let home = old_home();
    fs::write(home.data().join("maqet.db"), "damaged").unwrap();

    home.maqet(["doctor", "--fix"]).run().code(1);

    assert_eq!(names(&home.json(&["ls"])), ["db", "web"]);
    assert_eq!(home.json(&["info", "db"])["definition"]["labels"]["role"], "web");
}

/// Removes what later schemas added.
const OF_SCHEMA_1: &str = "DROP INDEX event_removal; \
    DROP INDEX history_reverts; \
    ALTER TABLE history DROP COLUMN reverts; \
    ALTER TABLE history DROP COLUMN vm_name; \
    ALTER TABLE history DROP COLUMN kind; \
    ALTER TABLE history DROP COLUMN irreversible; \
    ALTER TABLE vm DROP COLUMN pid_namespace; \
    ALTER TABLE vm DROP COLUMN pending; \
    ALTER TABLE vm DROP COLUMN layers; \
    DROP TABLE snapshot; \
    PRAGMA user_version = 1";

/// The sockets of a run are the same in schema 1, and its columns but for the PID namespace.
#[test]
fn test_upgrade_running_vm_is_observed_and_stopped() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    let pid = home.json(&["start", "web"])["pid"].clone();
    let database = Connection::open(home.data().join("maqet.db")).unwrap();
    database.execute_batch(OF_SCHEMA_1).unwrap();
    drop(database);

    let status = home.json(&["status", "web"]);
    home.json(&["qmp", "web", "query-status"]);
    let stopped = home.json(&["stop", "web", "--force"]);

    assert_eq!((&status["status"], &status["pid"]), (&json!("paused"), &pid));
    assert!(status["external_monitor"].as_str().unwrap().ends_with("/b1/qmp-free.sock"), "renamed: {status}");
    assert_eq!(stopped["status"], "stopped");
    assert_eq!((schema(&home), home.qemu_pids()), (6, Vec::new()));
}
