//! `database move`, and backups of databases on a server.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use maqet_fault_points::{FaultPoint, VARIABLE};
use maqet_testkit::guest::paused_yaml;
use maqet_testkit::postgres::{PostgresSchema, PostgresServer, server};
use maqet_testkit::{Maqet, Running, TestHome, process, wait};
use serde_json::{Value, json};

use crate::postgres::Host;

/// A user with a database in a file, and one on a server.
struct Both {
    home: TestHome,
    schema: PostgresSchema,
}

impl Both {
    fn new(home: TestHome, server: &PostgresServer) -> Self {
        Self { home, schema: server.schema() }
    }

    fn file(&self) -> String {
        format!("sqlite:{}", self.home.data().join("maqet.db").display())
    }

    /// The databases in the direction of a move.
    fn direction(&self, is_to_server: bool) -> [String; 2] {
        let (file, url) = (self.file(), self.schema.url.clone());
        if is_to_server { [file, url] } else { [url, file] }
    }

    fn maqet(&self, url: &str, arguments: &[&str]) -> Maqet {
        self.home.maqet(arguments).args(["--format", "json"]).env("MAQET_DATABASE", url).env("MAQET_HOST", "a")
    }

    #[track_caller]
    fn json(&self, url: &str, arguments: &[&str]) -> Value {
        self.maqet(url, arguments).run().ok().json_value()
    }

    /// Returns the code of an error.
    #[track_caller]
    fn refused(&self, url: &str, arguments: &[&str], code: i32) -> Value {
        self.maqet(url, arguments).run().code(code).json_error()["error"].clone()
    }

    /// Returns what `ls`, `history`, `events` and `storage trash ls` print, without the numbers of entries.
    fn all(&self, url: &str) -> Vec<Value> {
        let mut all = vec![self.json(url, &["ls"]), self.json(url, &["storage", "trash", "ls"])];
        for (log, numbers) in
            [("history", &["sequence", "reverts", "reverted_by"][..]), ("events", &["sequence", "host"])]
        {
            let mut log = self.json(url, &[log]);
            for entry in log.as_array_mut().unwrap() {
                entry.as_object_mut().unwrap().retain(|key, _| !numbers.contains(&key.as_str()));
            }
            all.push(log);
        }
        all
    }
}

/// Defines VMs of which one runs and one is removed, with its disk in the trash.
fn add_vms(both: &Both, url: &str) {
    let web = both.home.write("web.yaml", paused_yaml("web") + "storage: [{name: hdd, size: 1M}]\n");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    both.json(url, &["add", &text(&web)]);
    both.json(url, &["add", &text(&web), "--name", "old"]);
    both.json(url, &["start", "web"]);
    both.json(url, &["apply", "web", "--set", "labels.role=front"]);
    both.json(url, &["start", "old"]);
    both.json(url, &["stop", "old", "--force"]);
    both.json(url, &["rm", "old", "--delete-storage"]);
}

#[test]
fn test_database_moved_to_server_and_back_has_everything() {
    let server = server();
    let both = Both::new(TestHome::new(), &server);
    let [file, url] = both.direction(true);
    add_vms(&both, &file);
    let before = both.all(&file);

    let moved = both.json(&file, &["database", "move", "--to", &url]);
    let there = both.all(&url);
    let refused = both.refused(&file, &["ls"], 4);
    let checked = both.maqet(&file, &["doctor", "--fix"]).run().code(1).stdout;
    // Its disk is in the trash, which is that of the new database.
    both.json(&url, &["undo"]);
    let state = both.json(&url, &["database", "check"]);
    both.maqet(&url, &["doctor"]).run().ok();
    both.json(&url, &["redo"]);
    let before_return = both.all(&url);
    both.json(&url, &["database", "move", "--to", &file]);

    assert_eq!((&moved["vms"], &moved["changes"]), (&json!(1), &json!(4)));
    assert_eq!(there, before);
    assert_eq!(refused["code"], "store.moved-refused");
    assert!(refused["message"].as_str().unwrap().contains("was moved to `postgres://"), "{refused}");
    assert!(checked.contains("was moved to"), "{checked}");
    assert_eq!((&state["vms"], &state["missing"]), (&json!(2), &json!([])));
    assert_eq!(both.all(&file), before_return);
    assert_eq!(both.json(&file, &["status", "web"])["status"], "paused");
    both.json(&file, &["stop", "web", "--force"]);
    assert_eq!(both.refused(&url, &["ls"], 4)["code"], "store.moved-refused");
}

#[test]
fn test_database_move_leaves_other_hosts_their_vms() {
    let server = server();
    let schema = server.schema();
    let (here, there) = (Host::new("a", &schema), Host::new("b", &schema));
    here.add("web");
    there.add("db");

    let file = here.home.path("moved.db");
    let moved = here.ok(["database", "move", "--to", file.to_str().unwrap(), "--format", "json"]).json_value();
    let listed = there.ok(["ls", "--host", "*", "--format", "json"]).json_value();
    there.add("later");

    assert_eq!((&moved["vms"], &moved["changes"], &moved["events"]), (&json!(1), &json!(1), &json!(1)));
    let names: Vec<&Value> = listed.as_array().unwrap().iter().map(|vm| &vm["name"]).collect();
    assert_eq!(names, ["db"]);
    let events = there.ok(["events"]).stdout;
    assert!(events.contains("db") && events.contains("later") && !events.contains("web"), "{events}");
    let moved = here.maqet(["ls", "--format", "json", "--database", file.to_str().unwrap()]).run().ok().json_value();
    assert_eq!(moved[0]["name"], "web");
}

#[test]
fn test_database_move_between_servers_and_refusals() {
    let (server, other) = (server(), PostgresServer::start());
    let both = Both::new(TestHome::new(), &server);
    let [file, url] = both.direction(true);
    let other = other.in_schema(&other.url(), "public");
    add_vms(&both, &url);
    let before = both.all(&url);
    both.json(&file, &["add", both.home.path("web.yaml").to_str().unwrap(), "--name", "mine"]);

    let full = both.refused(&file, &["database", "move", "--to", &url], 4);
    let itself = both.refused(&url, &["database", "move", "--to", &url], 2);
    let unknown = both.refused(&url, &["database", "move", "--to", "mysql://me:secret@db/x"], 2);
    both.json(&url, &["database", "move", "--to", &other]);

    assert_eq!((&full["code"], &itself["code"]), (&json!("store.content-exists"), &json!("store.move-invalid")));
    assert!(!unknown.to_string().contains("secret"), "{unknown}");
    assert_eq!(both.all(&other), before);
    both.json(&other, &["stop", "web", "--force"]);
}

/// Nothing tells from two names that they are of one database, and an empty one is as good as a new one.
#[test]
fn test_database_moved_to_itself_under_another_name_is_still_used() {
    let server = server();
    let both = Both::new(TestHome::new(), &server);
    symlink(both.home.data(), both.home.path("link")).unwrap();
    let [file, url] = both.direction(true);
    let linked = format!("sqlite:{}", both.home.path("link/maqet.db").display());
    let named = url.replace("host=/", "host=//");

    for (from, to) in [(file, linked), (url, named)] {
        both.json(&from, &["ls"]);
        let refused = both.refused(&from, &["database", "move", "--to", &to], 2);

        assert_eq!(refused["code"], "store.move-invalid", "{to}");
        assert_eq!(both.json(&from, &["ls"]), json!([]));
    }
}

/// Wherever a move is killed, the old database is the one in use until all is copied, and the same command finishes.
#[test]
fn test_database_move_killed_at_each_step_is_finished_by_another() {
    let server = server();
    let points = [
        format!("{}:1", FaultPoint::StoreWritten),
        FaultPoint::MoveCopied.to_string(),
        format!("{}:2", FaultPoint::StoreWritten),
        FaultPoint::MoveLeft.to_string(),
        FaultPoint::MoveHandedOver.to_string(),
    ];
    for is_to_server in [true, false] {
        let both = Both::new(TestHome::with_fault_points(), &server);
        let mut direction = both.direction(is_to_server);
        add_vms(&both, &direction[0]);
        let before = both.all(&direction[0]);
        for point in &points {
            let [from, to] = &direction;
            let command = ["database", "move", "--to", to];
            let killed = both.maqet(from, &command).env(VARIABLE, point).run();
            assert_eq!(killed.code, None, "{point} was not reached:\n{killed}");

            let [old, new] = [from, to].map(|url| both.maqet(url, &["ls"]).run());
            let is_left = old.code == Some(4);
            if is_left {
                assert_eq!(new.code(4).json_error()["error"]["code"], "store.move-interrupted", "{point}");
            } else {
                assert_eq!(old.ok().json_value(), before[0], "{point}");
                assert!(new.code == Some(4) || new.stdout.trim() == "[]", "{point}: {new}");
                // A change that the killed move did not copy.
                both.json(from, &["apply", "web", "--set", &format!("labels.at={}", point.replace(':', "-"))]);
                both.json(from, &["undo"]);
            }
            let expected = if is_left { None } else { Some(both.all(from)) };
            both.json(from, &command);

            let there = both.all(to);
            assert_eq!(there[0..2], before[0..2], "{point}");
            assert!(expected.is_none_or(|expected| expected == there), "{point}");
            assert_eq!(both.json(to, &["database", "check"])["missing"], json!([]), "{point}");
            direction.reverse();
        }
        both.json(&direction[0], &["stop", "web", "--force"]);
    }
}

/// Databases of which one has VMs, and two moves of it.
struct TwoMoves {
    both: Both,
    from: String,
    to: String,
    /// What the first database has.
    before: Vec<Value>,
}

impl TwoMoves {
    fn new(server: &PostgresServer, is_to_server: bool) -> Self {
        let both = Both::new(TestHome::with_fault_points(), server);
        // The second one waits as long as the first one takes, also on a busy host.
        both.home.write("config/maqet/maqet.conf", "timeouts: {lock: 3m}\n");
        let [from, to] = both.direction(is_to_server);
        add_vms(&both, &from);
        let before = both.all(&from);
        Self { both, from, to, before }
    }

    /// Starts a move that stops itself at a step.
    fn begin(&self, point: FaultPoint) -> Running {
        let begun = self.both.maqet(&self.from, &["database", "move", "--to", &self.to]);
        let begun = begun.env(VARIABLE, format!("{point}:stop")).spawn();
        process::until_suspended(begun.pid());
        begun
    }

    /// Starts a move that waits for the first one.
    fn wait_with(&self, to: &str) -> Running {
        let second = self.both.maqet(&self.from, &["database", "move", "--to", to]).spawn();
        let is_lock = |path: PathBuf| path.extension().is_some_and(|extension| extension == "lock");
        wait::until(wait::LONG, "the second move to open a lock", || {
            let mut opened = fs::read_dir(format!("/proc/{}/fd", second.pid())).ok()?.flatten();
            opened.any(|entry| fs::read_link(entry.path()).is_ok_and(is_lock)).then_some(())
        });
        second
    }

    /// Expects that everything is in the new database, which is in use.
    #[track_caller]
    fn check_moved(&self) {
        assert_eq!(self.both.all(&self.to), self.before);
        self.both.json(&self.to, &["stop", "web", "--force"]);
    }
}

/// Of two moves at once, one moves everything, and the other one moves nothing.
#[test]
fn test_database_moved_twice_at_once_loses_nothing() {
    let server = server();
    for is_to_server in [true, false] {
        let moves = TwoMoves::new(&server, is_to_server);

        let first = moves.begin(FaultPoint::MoveCopied);
        let second = moves.wait_with(&moves.to);
        process::resume(first.pid());
        let (first, second) = (first.wait().ok(), second.wait());

        assert_eq!(first.json_value()["vms"], json!(1));
        assert_eq!(second.code(4).json_error()["error"]["code"], "store.moved-refused");
        moves.check_moved();
    }
}

/// Processes with other data directories lock the database itself.
#[test]
fn test_database_moved_twice_with_other_directories_waits() {
    let server = server();
    for is_to_server in [true, false] {
        let moves = TwoMoves::new(&server, is_to_server);
        let other = moves.both.home.path("other-data");
        let copied = moves.both.home.path("copied.db");

        let first = moves.begin(FaultPoint::MoveCopied);
        let second = moves.both.maqet(&moves.from, &["database", "move", "--to", copied.to_str().unwrap()]);
        let second = second.env("MAQET_DATA_DIR", &other).spawn();
        let is_lock = |path: PathBuf| path.to_str().is_some_and(|path| path.ends_with(".db-move"));
        let waiting = "SELECT count(*) FROM pg_locks WHERE classid = 1836148086 AND NOT granted";
        wait::until(wait::LONG, "the second move to wait", || {
            let mut opened = fs::read_dir(format!("/proc/{}/fd", second.pid())).ok()?.flatten();
            let waits = opened.any(|entry| fs::read_link(entry.path()).is_ok_and(is_lock));
            (waits || server.query(waiting) != "0").then_some(())
        });
        process::resume(first.pid());
        first.wait().ok();

        assert_eq!(second.wait().code(4).json_error()["error"]["code"], "store.moved-refused");
        assert!(!copied.exists());
        moves.check_moved();
    }
}

/// A move that waited for one which was killed finishes it.
#[test]
fn test_database_move_finishes_one_that_is_killed_meanwhile() {
    let server = server();
    for is_to_server in [true, false] {
        let moves = TwoMoves::new(&server, is_to_server);

        let first = moves.begin(FaultPoint::MoveLeft);
        let second = moves.wait_with(&moves.to);
        process::end(first.pid());
        let second = second.wait().ok();
        assert_eq!(first.wait().code, None);

        assert_eq!(second.json_value()["vms"], json!(1));
        moves.check_moved();
    }
}

/// Of two moves to different databases, the one that comes too late says where everything is, and leaves nothing.
#[test]
fn test_database_moved_to_two_databases_at_once_is_in_one() {
    let server = server();
    for is_to_server in [true, false] {
        let moves = TwoMoves::new(&server, is_to_server);
        let other = format!("sqlite:{}", moves.both.home.path("other.db").display());

        let first = moves.begin(FaultPoint::MoveCopied);
        let second = moves.wait_with(&other);
        process::resume(first.pid());
        first.wait().ok();
        let refused = second.wait().code(4).json_error()["error"].clone();

        assert_eq!(refused["code"], "store.moved-refused", "{refused}");
        assert!(!moves.both.home.path("other.db").exists());
        moves.check_moved();
    }
}

/// A database whose content is lost with the one to which it was moved is used again on request, with what it had.
#[test]
fn test_database_reclaimed_after_the_other_one_is_lost() {
    let server = server();
    let both = Both::new(TestHome::new(), &server);
    let [file, url] = both.direction(true);
    add_vms(&both, &file);
    let before = both.all(&file);
    both.json(&file, &["database", "move", "--to", &url]);
    both.json(&url, &["add", both.home.path("web.yaml").to_str().unwrap(), "--name", "later"]);
    let refused = both.refused(&file, &["database", "reclaim"], 4);
    server.query(&format!("DROP SCHEMA {} CASCADE", both.schema.name));

    let reclaimed = both.json(&file, &["database", "reclaim", "--force"]);

    assert_eq!(refused["code"], "store.reclaim-refused");
    assert!(refused["hints"][0].as_str().unwrap().contains("database move --to"), "{refused}");
    assert!(reclaimed["lost"].as_str().unwrap().starts_with("postgres://"), "{reclaimed}");
    assert_eq!(reclaimed["vms"], json!(1));
    assert_eq!(both.all(&file), before);
    // The copy of its definition is one of this database again.
    both.maqet(&file, &["doctor", "--fix"]).run().ok();
    assert_eq!(both.json(&file, &["ls"]).as_array().unwrap().len(), 2);
    assert_eq!(both.json(&file, &["database", "reclaim"])["lost"], Value::Null);
    both.json(&file, &["undo", "--dry-run"]);
    both.json(&file, &["stop", "web", "--force"]);
}

/// A new database can be used although the old one is gone before the move was finished.
#[test]
fn test_database_reclaimed_although_its_move_is_not_finished() {
    let server = server();
    for is_to_server in [true, false] {
        let moves = TwoMoves::new(&server, is_to_server);
        let killed = moves.both.maqet(&moves.from, &["database", "move", "--to", &moves.to]);
        assert_eq!(killed.env(VARIABLE, FaultPoint::MoveLeft.to_string()).run().code, None);

        moves.both.json(&moves.to, &["database", "reclaim", "--force"]);

        moves.check_moved();
    }
}

/// A database that is lost, or was moved, is not an empty one, and no backup of it takes the place of others.
#[test]
fn test_database_of_a_server_that_is_lost_or_moved_is_not_backed_up() {
    let server = server();
    let schema = server.schema();
    let host = Host::new("a", &schema);
    host.add("web");
    let backup = |code: i32| host.maqet(["database", "backup", "--format", "json"]).run().code(code);
    let kept = backup(0).json_value()["file"].as_str().map(PathBuf::from).unwrap();
    let file = host.home.path("moved.db");
    let file = file.to_str().unwrap();

    server.query(&format!("ALTER SCHEMA {0} RENAME TO {0}_lost; CREATE SCHEMA {0}", schema.name));
    let lost = backup(1).json_error()["error"]["code"].clone();
    server.query(&format!("DROP SCHEMA {0} CASCADE; ALTER SCHEMA {0}_lost RENAME TO {0}", schema.name));
    host.ok(["database", "move", "--to", file]);
    let moved = backup(4).json_error()["error"]["code"].clone();
    host.maqet(["database", "move", "--to", &schema.url, "--database", file]).run().ok();

    assert_eq!((lost, moved), (json!("store.not-found"), json!("store.moved-refused")));
    let backups = fs::read_dir(kept.parent().unwrap()).unwrap();
    assert_eq!(backups.map(|entry| entry.unwrap().path()).collect::<Vec<_>>(), [kept]);
    assert_eq!(host.ok(["ls", "--format", "json"]).json_value()[0]["name"], "web");
}

#[test]
fn test_database_of_a_server_is_backed_up_and_restored() {
    let server = server();
    let schema = server.schema();
    let host = Host::new("a", &schema);
    host.add("web");
    let file = host.home.path("copy.db");
    let path = file.to_str().unwrap();

    host.ok(["database", "backup", path]);
    let refused = host.maqet(["database", "backup", path]).run().code(4);
    let kept = host.ok(["database", "backup", "--format", "json"]).json_value();
    server.query(&format!("DROP SCHEMA {0} CASCADE; CREATE SCHEMA {0}", schema.name));
    host.maqet(["ls"]).run().code(1);
    host.maqet(["database", "move", "--to", &schema.url]).args(["--database", path]).run().ok();

    assert!(refused.stderr.contains("exists"), "{}", refused.stderr);
    let kept = PathBuf::from(kept["file"].as_str().unwrap());
    assert!(kept.starts_with(host.home.data().join("backups")) && kept.exists());
    assert_eq!(host.ok(["ls", "--format", "json"]).json_value()[0]["name"], "web");
    assert!(host.ok(["history"]).stdout.contains("add"));
    host.ok(["doctor"]);
}
