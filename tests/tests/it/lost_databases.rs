//! Databases that lost VMs: dropped tables, a file that was deleted, or a restored older copy. No host deletes the last
//! copy of a definition, and each gets its VMs back.

use std::fs;
use std::path::Path;

use maqet_testkit::guest::paused_yaml;
use maqet_testkit::postgres::{PostgresSchema, PostgresServer, server};
use maqet_testkit::{Maqet, TestHome};
use serde_json::Value;

use crate::postgres::Host;

/// Returns the names of the VMs that a command lists.
fn names(listed: &Value) -> Vec<String> {
    listed.as_array().unwrap().iter().map(|vm| vm["name"].as_str().unwrap().to_owned()).collect()
}

/// Returns the VMs of which there is a copy, by name.
fn copies(home: &TestHome) -> Vec<String> {
    let copies = home.files().into_iter().filter(|path| path.ends_with("vm.json"));
    let name = |path: std::path::PathBuf| {
        let copy: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        copy["name"].as_str().unwrap().to_owned()
    };
    let mut names: Vec<String> = copies.map(name).collect();
    names.sort();
    names
}

/// Returns the problems that `doctor` finds, each with its subject and message.
fn problems(doctor: Maqet) -> Vec<String> {
    let finished = doctor.args(["--format", "json"]).run();
    let findings = finished.json_value()["findings"].as_array().unwrap().clone();
    let open = findings.into_iter().filter(|one| one["severity"] == "problem" && one["fixed"].is_null());
    open.map(|one| format!("{}: {}", one["subject"].as_str().unwrap(), one["message"].as_str().unwrap())).collect()
}

fn drop_tables(server: &PostgresServer, schema: &PostgresSchema) {
    server.query(&format!("DROP SCHEMA {0} CASCADE; CREATE SCHEMA {0}", schema.name));
}

#[test]
fn test_postgres_tables_created_again_cost_no_definition() {
    let server = server();
    let schema = server.schema();
    let (here, known, new) = (Host::new("a", &schema), Host::new("b", &schema), Host::new("c", &schema));
    here.add("web");
    here.add("db");
    here.ok(["start", "web"]);
    known.ok(["ls"]);
    drop_tables(&server, &schema);

    // A host that used the database does not create it again, even without VMs.
    let not_created = known.maqet(["ls"]).run().code(1);
    assert!(not_created.stderr.contains("not found, but it was used before"), "{}", not_created.stderr);
    new.ok(["ls"]);
    new.add("mail");
    for refused in [["ls"], ["cleanup"]] {
        let refused = here.maqet(refused).run().code(1);
        assert!(refused.stderr.contains("created again, and copies of 2 VMs exist"), "{}", refused.stderr);
    }
    assert_eq!(
        here.maqet(["ls", "--format", "json"]).run().code(1).json_error()["error"]["code"],
        "store.vms-not-found"
    );
    assert_eq!(copies(&here.home), ["db", "web"]);
    assert_eq!(problems(here.maqet(["doctor"])).len(), 1);
    here.ok(["doctor", "--fix"]);

    assert_eq!(names(&here.ok(["ls", "--format", "json"]).json_value()), ["db", "web"]);
    assert_eq!(here.maqet(["status", "web", "--format", "json"]).run().ok().json_value()["status"], "paused");
    here.ok(["stop", "--force", "web"]);
    here.ok(["cleanup"]);
    assert_eq!(copies(&here.home), ["db", "web"]);
    assert_eq!(names(&known.ok(["ls", "--host", "*", "--format", "json"]).json_value()), ["db", "mail", "web"]);
}

#[test]
fn test_postgres_restored_older_copy_gets_newer_vms_back() {
    let server = server();
    let schema = server.schema();
    let (here, there) = (Host::new("a", &schema), Host::new("b", &schema));
    here.add("old");
    here.add("gone");
    // As a restore of this moment: nothing that is written later is in the database.
    let tables = ["vm", "definition", "event", "history", "storage"];
    for table in tables {
        server.query(&format!("CREATE TABLE {0}_kept AS TABLE {0}", format!("{}.{table}", schema.name)));
    }
    here.add("new");
    here.ok(["rm", "gone"]);
    there.add("theirs");
    server.query(&format!("DELETE FROM {0}.vm; DELETE FROM {0}.event; DELETE FROM {0}.history", schema.name));
    for table in ["vm", "definition", "event", "history"] {
        let sql = format!("INSERT INTO {0}.{table} OVERRIDING SYSTEM VALUE TABLE {0}.{table}_kept", schema.name);
        server.query(&sql);
    }

    let listed = names(&here.ok(["ls", "--format", "json"]).json_value());
    let cleaned = here.ok(["cleanup"]).stdout;
    let found = problems(here.maqet(["doctor"]));
    here.ok(["doctor", "--fix"]);
    there.ok(["cleanup"]);

    assert_eq!(listed, ["gone", "old"]);
    assert!(cleaned.contains("does not record as removed"), "{cleaned}");
    assert_eq!(found, ["new: the database does not have this VM, but a copy of its definition exists"]);
    assert_eq!(names(&here.ok(["ls", "--format", "json"]).json_value()), ["gone", "new", "old"]);
    assert_eq!(
        (copies(&here.home), copies(&there.home)),
        (["gone", "new", "old"].map(str::to_owned).into(), vec!["theirs".to_owned()])
    );
}

#[test]
fn test_sqlite_restored_older_copy_gets_newer_vms_back() {
    let home = TestHome::new();
    let database = home.data().join("maqet.db");
    home.add(&paused_yaml("old"));
    home.add(&paused_yaml("gone"));
    let before = content(&database);
    home.add(&paused_yaml("new"));
    let removed = folder_of_copy(&home, "gone");
    home.json(&["rm", "gone"]);
    restore(&database, &before);
    // A removal that is recorded, and whose records were left by a kill.
    home.json(&["rm", "gone"]);
    fs::create_dir(&removed.0).unwrap();
    fs::write(removed.0.join("vm.json"), removed.1).unwrap();
    filetime_of_the_past(&removed.0.join("vm.json"));

    let found = problems(home.maqet(["doctor"]));
    home.json(&["cleanup"]);
    let kept = copies(&home);
    let lost = home.json_error(&["start", "new"], 3);
    home.json(&["doctor", "--fix"]);

    assert_eq!(found, ["new: the database does not have this VM, but a copy of its definition exists"]);
    assert_eq!(kept, ["new", "old"]);
    assert_eq!(lost["message"], "the database has no VM `new`, but a copy of its definition exists");
    assert_eq!(names(&home.json(&["ls"])), ["new", "old"]);
    assert_eq!(problems(home.maqet(["doctor"])), Vec::<String>::new());
}

#[test]
fn test_sqlite_file_created_again_costs_no_definition() {
    let (here, there) = (TestHome::new(), TestHome::new());
    let database = here.path("shared.db");
    let shared = |home: &TestHome, arguments: &[&str]| home.maqet(arguments).env("MAQET_DATABASE", &database);
    let file = here.write("web.yaml", paused_yaml("web"));
    shared(&here, &["add"]).arg(&file).run().ok();
    for ending in ["", "-wal", "-shm"] {
        let _may_be_missing = fs::remove_file(format!("{}{ending}", database.display()));
    }

    // It has the name of the lost VM.
    shared(&there, &["add"]).arg(&file).run().ok();
    shared(&here, &["cleanup"]).run().ok();
    let kept = copies(&here);
    let taken = problems(shared(&here, &["doctor", "--fix"]));
    shared(&there, &["rm", "web"]).run().ok();
    let fixed = problems(shared(&here, &["doctor", "--fix"]));

    assert_eq!(kept, ["web"]);
    assert!(taken.len() == 1 && taken[0].contains("another VM has its name"), "{taken:?}");
    assert_eq!(fixed, Vec::<String>::new());
    assert_eq!(names(&shared(&here, &["ls", "--format", "json"]).run().ok().json_value()), ["web"]);
}

#[test]
fn test_image_of_a_vm_that_the_database_lost_is_not_free() {
    let home = TestHome::new();
    let database = home.data().join("maqet.db");
    home.json(&["ls"]);
    let before = content(&database);
    home.add("name: web\nstorage: [{name: hdd, size: 1M}]\naccel: tcg\narguments: [S]\n");
    home.json(&["start", "web"]);
    home.json(&["stop", "--force", "web"]);
    restore(&database, &before);

    let orphaned = home.json(&["storage", "orphaned"]);

    assert_eq!(orphaned, serde_json::json!([]));
}

/// Returns the content of a database that no process has open, with its log.
fn content(database: &Path) -> Vec<(String, Option<Vec<u8>>)> {
    let path = |ending: &str| format!("{}{ending}", database.display());
    ["", "-wal"].map(|ending| (path(ending), fs::read(path(ending)).ok())).into()
}

fn restore(database: &Path, content: &[(String, Option<Vec<u8>>)]) {
    let _may_be_missing = fs::remove_file(format!("{}-shm", database.display()));
    for (path, bytes) in content {
        match bytes {
            Some(bytes) => fs::write(path, bytes).unwrap(),
            None => drop(fs::remove_file(path)),
        }
    }
}

/// Returns the folder of the records of a VM, with its copy.
fn folder_of_copy(home: &TestHome, name: &str) -> (std::path::PathBuf, Vec<u8>) {
    let copies = home.files().into_iter().filter(|path| path.ends_with("vm.json"));
    let mut of_vm = copies.filter(|path| fs::read_to_string(path).unwrap().contains(&format!("\"name\":\"{name}\"")));
    let path = of_vm.next().unwrap();
    (path.parent().unwrap().to_owned(), fs::read(path).unwrap())
}

/// Makes a file as old as it would be if it had not been written by the test.
fn filetime_of_the_past(path: &Path) {
    let hour = std::time::Duration::from_hours(1);
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(std::time::SystemTime::now() - hour).unwrap();
}
