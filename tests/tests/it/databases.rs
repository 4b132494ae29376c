//! `database check` and `database backup`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use maqet_testkit::TestHome;
use maqet_testkit::guest::paused_yaml;
use maqet_testkit::postgres::server;
use rusqlite::Connection;
use serde_json::json;

use crate::postgres::Host;

#[test]
fn test_database_backup_is_a_private_database_of_its_own() {
    let home = TestHome::new();
    home.add(&paused_yaml("web"));
    let file = home.path("copy.db");
    let path = file.to_str().unwrap();

    let made = home.maqet(["database", "backup", "copy.db", "--format", "json"]).in_folder(home.root()).run().ok();
    home.add(&paused_yaml("later"));
    let refused = home.json_error(&["database", "backup", path], 4);
    let kept = home.json(&["database", "backup"])["file"].as_str().unwrap().to_owned();

    assert_eq!(made.json_value(), json!({ "file": path }));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let listed = home.maqet(["ls", "--format", "json", "--database", path]).run().ok().json_value();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["name"]), (1, &json!("web")));
    assert_eq!(refused["code"], "store.backup-exists");
    assert!(kept.starts_with(home.data().join("backups").to_str().unwrap()), "{kept}");
    assert_eq!(home.json(&["database", "check"])["newest_backup"], kept);
}

#[test]
fn test_database_check_finds_missing_vms_and_damage() {
    let home = TestHome::new();
    let new = home.json(&["database", "check"]);
    home.add(&paused_yaml("web"));
    let healthy = home.json(&["database", "check"]);
    let text = home.maqet(["database", "check"]).run().ok().stdout;
    let database = home.data().join("maqet.db");
    let connection = Connection::open(&database).unwrap();
    connection.execute_batch("PRAGMA foreign_keys = ON; DELETE FROM vm").unwrap();
    drop(connection);
    let lacking = home.maqet(["database", "check", "--format", "json"]).run().code(1).json_value();
    fs::write(&database, "no database").unwrap();
    let damaged = home.json_error(&["database", "check"], 1);

    assert_eq!((&new["exists"], &new["missing"]), (&json!(false), &json!([])));
    assert_eq!((&healthy["exists"], &healthy["vms"], &healthy["missing"]), (&json!(true), &json!(1), &json!([])));
    assert!(text.contains("is intact: VMs: 1, schema "), "{text}");
    assert_eq!(lacking["missing"], json!(["web"]));
    assert_eq!(damaged["code"], "store.corrupt");
}

#[test]
fn test_database_of_a_server_is_checked() {
    let server = server();
    let host = Host::new("a", &server.schema());
    host.add("web");

    let state = host.ok(["database", "check", "--format", "json"]).json_value();

    assert_eq!((&state["vms"], &state["missing"]), (&json!(1), &json!([])));
}

#[test]
fn test_database_of_a_server_lost_or_damaged_is_not_healthy() {
    let server = server();
    let schema = server.schema();
    let (host, without_vms) = (Host::new("a", &schema), Host::new("b", &schema));
    host.add("web");
    without_vms.ok(["ls"]);

    server.query(&format!("UPDATE {}.definition SET content = '{{'", schema.name));
    let damaged = host.maqet(["doctor", "--fix"]).run().code(1);
    server.query(&format!("DROP SCHEMA {0} CASCADE; CREATE SCHEMA {0}", schema.name));
    let lost = without_vms.maqet(["database", "check", "--format", "json"]).run().code(1);

    let text = format!("{}{}", damaged.stdout, damaged.stderr);
    assert!(text.contains("is corrupt") && text.contains("as made by `pg_dump`"), "{text}");
    assert!(!text.contains("rebuilt it"), "{text}");
    assert!(lost.stderr.contains("\"store.not-found\""), "{}", lost.stderr);
}
