//! Hosts that share a database: which of them are away, and moving the VMs of one to another.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use maqet_testkit::guest::paused_yaml;
use maqet_testkit::postgres::{PostgresSchema, PostgresServer, server};
use maqet_testkit::process;
use maqet_testkit::wait::until;
use maqet_testkit::{FAULT_POINTS_OF_HOSTS, TestHome};
use serde_json::json;

use crate::postgres::Host;

/// Has no command run on a host for an hour.
fn make_away(server: &PostgresServer, schema: &PostgresSchema, host: &str) {
    let hour_ago = "(extract(epoch FROM now()) - 3600)::bigint * 1000000000";
    server.query(&format!("UPDATE {}.host SET seen_at = {hour_ago} WHERE host = '{host}'", schema.name));
}

#[test]
fn test_host_away_is_shown_by_every_command() {
    let server = server();
    let schema = server.schema();
    let (here, there) = (Host::new("a", &schema), Host::new("b", &schema));
    there.add("web");
    there.ok(["start", "web"]);
    let active = here.ok(["host", "ls", "--format", "json"]).json_value();
    make_away(&server, &schema, "b");

    let hosts = here.ok(["host", "ls", "--format", "json"]).json_value();
    let table = here.ok(["host", "ls"]).stdout;
    let list = here.ok(["ls", "--host", "*"]).stdout;
    let refused = here.maqet(["inspect", "web"]).run().code(4).stderr;
    let checked = here.ok(["doctor"]).stdout;
    there.ok(["stop", "--force", "web"]);
    let back = here.ok(["host", "ls", "--format", "json"]).json_value();

    assert_eq!((&active[1]["host"], active[1].get("away_since")), (&json!("b"), None));
    assert_eq!((&hosts[0]["is_own"], &hosts[0]["vms"]), (&json!(true), &json!(0)));
    assert_eq!((&hosts[1]["vms"], &hosts[1]["running"]), (&json!(1), &json!(1)));
    assert!(hosts[1]["away_since"].is_string() && back[1].get("away_since").is_none(), "{hosts} {back}");
    for text in [&table, &list, &checked] {
        assert!(text.contains("away since 20"), "{text}");
    }
    assert!(list.contains("running (host away since "), "{list}");
    assert!(refused.contains("` of host `b`, which is away since "), "{refused}");
    assert!(checked.contains("host b: host away since"), "{checked}");
}

/// Whatever a command does with a VM, it names the host that has it.
#[test]
fn test_every_command_for_a_vm_of_another_host_names_that_host() {
    let server = server();
    let schema = server.schema();
    let (here, there) = (Host::new("a", &schema), Host::new("b", &schema));
    there.add("web");
    let before = there.ok(["history", "--format", "json"]).json_value();
    let commands = "status web; info web; inspect web; start web; stop web; restart web; reset web; pause web; resume web; \
        rm web; apply web --memory 64M; wait web --for stopped; logs web; console web; keys web a; type web a; \
        screenshot web x.png; exec web -- true; cp web:/x y; qmp web query-status; qmp shell web; \
        qmp device-add web usb-tablet; qmp device-del web x; qmp eject web x; \
        qmp set-link web x up; qmp balloon web; qmp nmi web; snapshot create web hdd x; snapshot ls web; \
        snapshot load web hdd x; snapshot rm web hdd x; snapshot check web; backup create web; \
        backup restore web x; storage ls web; storage info web hdd; storage verify web hdd; storage resize web hdd 8M; \
        storage convert web hdd raw; storage compact web hdd; storage attach web x";

    let other = commands.split("; ").map(str::trim).filter_map(|command| {
        let arguments: Vec<&str> = command.split(' ').collect();
        let found = here.any(&arguments).run();
        // Those of a command in a guest are its own.
        let code = if matches!(arguments[0], "exec" | "cp") { 125 } else { 4 };
        let is_named = found.code == Some(code) && found.stderr.contains("` of host `b`");
        (!is_named).then(|| format!("{command}: {found}"))
    });
    let other: Vec<String> = other.collect();

    assert!(other.is_empty(), "{}", other.join("\n"));
    assert_eq!(there.ok(["history", "--format", "json"]).json_value(), before);
}

#[test]
fn test_host_list_of_a_file_has_this_host() {
    let home = TestHome::new();
    home.add(&paused_yaml("web"));

    let hosts = home.json(&["host", "ls"]);

    assert_eq!((hosts.as_array().unwrap().len(), &hosts[0]["vms"], &hosts[0]["is_own"]), (1, &json!(1), &json!(true)));
}

/// Two hosts with one database, and a directory that is storage of both: that of the old one.
struct Pair {
    server: Arc<PostgresServer>,
    schema: PostgresSchema,
    old: Host,
    new: Host,
}

impl Pair {
    fn new() -> Self {
        let server = server();
        let schema = server.schema();
        let (old, new) = (Host::new("old", &schema), Host::new("new", &schema));
        Self { server, schema, old, new }
    }

    /// Defines a VM of the old host, whose disk is on the common storage; it exists once the VM was started.
    fn add(&self, name: &str) {
        let disk = self.old.home.path(format!("{name}.qcow2"));
        let storage = format!("storage: [{{name: hdd, size: 4M, file: {}}}]\n", disk.display());
        let file = self.old.home.write(format!("{name}.yaml"), paused_yaml(name) + &storage);
        self.old.ok(["add", file.to_str().unwrap()]);
    }

    fn make_away(&self) {
        make_away(&self.server, &self.schema, "old");
    }

    /// Evicts all VMs of the old host, which must be refused; returns the code of the error and the message.
    #[track_caller]
    fn refused<const N: usize>(&self, arguments: [&str; N]) -> (String, String) {
        let error = self.new.maqet(arguments).args(["--format", "json"]).run().json_error()["error"].clone();
        (error["code"].as_str().unwrap().to_owned(), error.to_string())
    }

    /// Returns the number of QEMUs of both hosts; one with files of both counts once.
    fn qemus(&self) -> usize {
        let pids = [&self.old, &self.new].map(|host| host.home.qemu_pids());
        pids.concat().into_iter().collect::<BTreeSet<i32>>().len()
    }
}

#[test]
fn test_evict_moves_vms_with_their_disks_and_snapshots() {
    let pair = Pair::new();
    pair.add("web");
    pair.old.add("bare");
    pair.old.ok(["start", "web"]);
    pair.old.ok(["stop", "--force", "web"]);
    pair.old.ok(["snapshot", "create", "web", "hdd", "clean", "--description", "of the old host"]);
    pair.make_away();

    let moved = pair.new.ok(["host", "evict", "old", "--format", "json"]).json_value();
    let snapshots = pair.new.ok(["snapshot", "ls", "web", "--format", "json"]).json_value();
    let started = pair.new.ok(["start", "web", "--format", "json"]).json_value();
    let refused = pair.old.maqet(["start", "web"]).run().code(4).stderr;
    let left = pair.old.ok(["ls", "--format", "json"]).json_value();
    let copy = pair.old.home.state().join(moved["vms"][1]["id"].as_str().unwrap()).join("vm.json");
    let had_copy = copy.exists();
    pair.old.ok(["doctor", "--fix"]);
    let is_copy_left = copy.exists();
    pair.old.ok(["cleanup"]);
    let events = pair.old.ok(["events", "--type", "vm.evicted"]).stdout;
    let status = pair.new.ok(["status", "web", "--format", "json"]).json_value();
    pair.new.ok(["stop", "--force", "web"]);
    let removed = pair.new.ok(["rm", "web", "--delete-storage", "--format", "json"]).json_value();

    let shown: Vec<_> = moved["vms"].as_array().unwrap().iter().map(|vm| (&vm["name"], &vm["was_running"])).collect();
    assert_eq!(shown, [(&json!("bare"), &json!(false)), (&json!("web"), &json!(false))]);
    assert_eq!((&snapshots[0]["name"], &snapshots[0]["description"]), (&json!("clean"), &json!("of the old host")));
    assert_eq!(
        (&started["status"], &started["boot"], &status["status"]),
        (&json!("paused"), &json!(2), &json!("paused"))
    );
    assert!(started["qemu_log"].as_str().unwrap().starts_with(pair.new.home.state().to_str().unwrap()), "{started}");
    assert!(refused.contains("VM `web` belongs to user `") && refused.contains("` of host `new`"), "{refused}");
    assert_eq!(left, json!([]));
    // Its copy would bring it back if its row went to another database.
    assert!(had_copy && !is_copy_left);
    assert!(events.contains("from_host=old"), "{events}");
    assert!(removed["trash"]["images"].to_string().contains("web.qcow2"), "{removed}");
}

#[test]
fn test_evict_refused_while_the_host_or_its_vms_may_be_alive() {
    let pair = Pair::new();
    pair.add("web");
    pair.old.add("other");
    pair.old.ok(["start", "web"]);

    let (not_away, message) = pair.refused(["host", "evict", "old"]);
    pair.make_away();
    let (may_run, named) = pair.refused(["host", "evict", "old"]);
    // It runs, and has its disk open.
    let (in_use, held) = pair.refused(["host", "evict", "old", "--force"]);
    pair.new.ok(["host", "evict", "old", "other"]);
    let (own, _) = pair.refused(["host", "evict", "new"]);
    let (unknown, _) = pair.refused(["host", "evict", "gone"]);
    let (no_vm, similar) = pair.refused(["host", "evict", "old", "wbe"]);
    let (of_no_user, _) = pair.refused(["host", "evict", "old", "--owner", "no-such-user"]);
    let status = pair.old.ok(["status", "web", "--format", "json"]).json_value();
    pair.old.ok(["stop", "--force", "web"]);

    assert_eq!((&*not_away, &*may_run, &*in_use), ("host.in-use", "host.vms-in-use", "host.disks-unavailable"));
    assert!(message.contains("ran a command there "), "{message}");
    assert!(named.contains("when last recorded: `web`"), "{named}");
    assert!(held.contains("web.qcow2` is in use"), "{held}");
    assert_eq!((&*own, &*unknown), ("host.own-refused", "host.vms-not-found"));
    assert_eq!((&*no_vm, &*of_no_user), ("vm.not-found", "host.vms-not-found"));
    assert!(similar.contains("web"), "{similar}");
    assert_eq!(status["status"], "paused");
}

/// A copy is accepted on request, and so is a disk that maqet itself replaced by its like.
#[test]
fn test_evict_accepts_disks_that_were_replaced_by_their_like() {
    let pair = Pair::new();
    for vm in ["compacted", "copied"] {
        pair.add(vm);
        pair.old.ok(["start", vm]);
        pair.old.ok(["stop", "--force", vm]);
    }
    let of_compacted = pair.old.home.path("compacted.qcow2");
    let before = fs::metadata(&of_compacted).unwrap().ino();
    fill(&of_compacted);
    let compacted = pair.old.ok(["storage", "compact", "compacted", "hdd", "--format", "json"]).json_value();
    let copied = pair.old.home.path("copied.qcow2");
    fs::copy(&copied, copied.with_extension("copy")).unwrap();
    fs::rename(copied.with_extension("copy"), &copied).unwrap();
    pair.make_away();

    let moved = pair.new.ok(["host", "evict", "old", "compacted", "--format", "json"]).json_value();
    let (refused, _) = pair.refused(["host", "evict", "old"]);
    let accepted = pair.new.ok(["host", "evict", "old", "--accept-replaced", "--format", "json"]).json_value();

    assert_eq!(compacted["replaced"], json!(true));
    assert_ne!(fs::metadata(&of_compacted).unwrap().ino(), before);
    assert_eq!(refused, "host.disk-conflict");
    let names = [&moved, &accepted].map(|moved| moved["vms"][0]["name"].clone());
    assert_eq!(names, [json!("compacted"), json!("copied")]);
}

/// Allocates clusters of an image, which are all zeros.
fn fill(image: &Path) {
    let written = Command::new("qemu-io").args(["-f", "qcow2", "-c", "write -P 0 0 2M"]).arg(image).output().unwrap();
    assert!(written.status.success(), "{written:?}");
}

#[test]
fn test_evict_refused_without_the_same_disks_here() {
    let pair = Pair::new();
    pair.add("web");
    pair.old.add("other");
    let file = pair.old.home.write("own.yaml", paused_yaml("default") + "storage: [{name: hdd, size: 4M}]\n");
    pair.old.ok(["add", file.to_str().unwrap()]);
    for vm in ["web", "default"] {
        pair.old.ok(["start", vm]);
        pair.old.ok(["stop", "--force", vm]);
    }
    pair.make_away();
    let disk = pair.old.home.path("web.qcow2");

    // The default path is another one here.
    let (elsewhere, at) = pair.refused(["host", "evict", "old"]);
    fs::rename(&disk, disk.with_extension("away")).unwrap();
    let (missing, path) = pair.refused(["host", "evict", "old", "web"]);
    let other = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&disk).arg("8M").status();
    assert!(other.unwrap().success());
    let (another, sizes) = pair.refused(["host", "evict", "old", "web"]);
    // As where both hosts were set up alike: the same content, on storage that each has for itself.
    fs::copy(disk.with_extension("away"), &disk).unwrap();
    let (replaced, of_host) = pair.refused(["host", "evict", "old", "web"]);
    fs::rename(disk.with_extension("away"), &disk).unwrap();
    let yaml = format!("{}storage: [{{name: hdd, file: {}}}]\n", paused_yaml("user"), disk.display());
    let other_user = pair.new.home.write("user.yaml", yaml);
    pair.new.ok(["add", other_user.to_str().unwrap()]);
    let (in_use, by) = pair.refused(["host", "evict", "old", "web"]);
    pair.new.ok(["rm", "user"]);
    pair.new.add("web");
    let (name, _) = pair.refused(["host", "evict", "old", "web"]);
    let listed = pair.old.ok(["ls", "--format", "json"]).json_value();

    for code in [elsewhere, missing, another, in_use] {
        assert_eq!(code, "host.disks-unavailable");
    }
    assert!(at.contains("storage/default/hdd.qcow2` of drive `hdd` not found: "), "{at}");
    assert!(path.contains("web.qcow2` of drive `hdd` not found"), "{path}");
    assert!(sizes.contains("its size is 8M instead of 4M"), "{sizes}");
    assert!(by.contains("of drive `hdd` of VM `user`"), "{by}");
    assert_eq!(replaced, "host.disk-conflict");
    assert!(
        of_host.contains("web.qcow2` of drive `hdd` of VM `web` is not the file that host `old` used"),
        "{of_host}"
    );
    assert_eq!(name, "vm.exists");
    assert_eq!(listed.as_array().map(Vec::len), Some(3));
}

/// Makes a QEMU that says its version only once the file `hold` beside it is gone, and returns its path.
fn held_qemu(host: &Host) -> std::path::PathBuf {
    let qemu = host.home.folder_of_qemu().join("qemu-system-x86_64");
    let root = host.home.root().display();
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *-version*) : >{root}/asked; while test -e {root}/hold; do sleep 0.02; done;; esac\n\
         exec {} \"$@\"\n",
        qemu.display()
    );
    let path = host.home.write("qemu", script);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn test_evict_during_a_start_makes_one_qemu() {
    let pair = Pair::new();
    let qemu = held_qemu(&pair.old);
    let yaml = format!("{}binary: {}\n", paused_yaml("web"), qemu.display());
    let file = pair.old.home.write("web.yaml", yaml);
    pair.old.ok(["add", file.to_str().unwrap()]);
    let hold = pair.old.home.write("hold", "");
    let started = pair.old.maqet(["start", "web", "--format", "json"]).spawn();
    until(Duration::from_secs(20), "the start", || pair.old.home.path("asked").exists().then_some(()));

    // The start has read the VM, and has not recorded that it is under way.
    pair.new.ok(["host", "evict", "old", "--force"]);
    fs::remove_file(hold).unwrap();
    let refused = started.wait().code(75).json_error()["error"].clone();
    pair.new.ok(["start", "web"]);

    assert_eq!(refused["code"], "store.conflict");
    assert_eq!(pair.qemus(), 1);
    pair.new.ok(["stop", "--force", "web"]);
}

/// Without a disk, no lock of an image keeps the second QEMU from starting: the row of the VM alone does.
#[test]
fn test_evict_at_a_step_of_a_start_ends_its_qemu() {
    let mut pair = Pair::new();
    pair.old.home = TestHome::with_fault_points();
    pair.old.add("web");

    for point in ["start.marked:stop", "launch.answered:stop"] {
        let start = pair.old.maqet(["start", "web", "--format", "json"]).env("MAQET_FAULT_POINT", point).spawn();
        process::until_suspended(start.pid());
        pair.new.ok(["host", "evict", "old", "--force"]);
        pair.new.ok(["start", "web"]);
        process::resume(start.pid());
        let refused = start.wait();

        assert_eq!(refused.code, Some(75), "{point}: {refused}");
        assert_eq!(refused.json_error()["error"]["code"], "store.conflict", "{point}: {refused}");
        assert_eq!((pair.old.home.qemu_pids(), pair.new.home.qemu_pids().len()), (vec![], 1), "{point}");
        pair.new.ok(["stop", "--force", "web"]);
        pair.old.ok(["host", "evict", "new", "--force"]);
    }
}

#[test]
fn test_evict_during_a_compaction_keeps_the_image() {
    let mut pair = Pair::new();
    pair.old.home = TestHome::with_fault_points();
    pair.add("web");
    pair.old.ok(["start", "web"]);
    pair.old.ok(["stop", "--force", "web"]);
    let disk = pair.old.home.path("web.qcow2");
    let zeros = Command::new("qemu-io").args(["-c", "write -P 0 0 2M"]).arg(&disk).output().unwrap();
    assert!(zeros.status.success(), "{zeros:?}");
    let inode = || fs::metadata(&disk).unwrap().ino();
    let before = inode();

    let compact = pair.old.maqet(["storage", "compact", "web", "hdd", "--format", "json"]);
    let compact = compact.env("MAQET_FAULT_POINT", "image.written:stop").spawn();
    process::until_suspended(compact.pid());
    pair.make_away();
    let (may_run, _) = pair.refused(["host", "evict", "old"]);
    pair.new.ok(["host", "evict", "old", "--force"]);
    process::resume(compact.pid());
    let refused = compact.wait();

    assert_eq!(may_run, "host.vms-in-use");
    assert_eq!(refused.code, Some(75), "{refused}");
    assert_eq!(refused.json_error()["error"]["code"], "store.conflict", "{refused}");
    assert_eq!(inode(), before);
}

#[test]
fn test_killed_during_a_transaction_leaves_nothing() {
    let server = server();
    let schema = server.schema();
    let (killed, other) = (TestHome::with_fault_points(), Host::new("other", &schema));
    let maqet = |arguments: &[&str]| killed.maqet(arguments).env("MAQET_DATABASE", &schema.url);
    let yaml = killed.write("web.yaml", paused_yaml("web"));
    let add = ["add", yaml.to_str().unwrap()];
    let rows = |table: &str| server.query(&format!("SELECT count(*) FROM {}.{table}", schema.name));

    let added = maqet(&add).env("MAQET_FAULT_POINT", "store.written").run();
    other.add("web");
    let after_add = (rows("vm"), rows("history"));
    maqet(&add).run().ok();
    let started = maqet(&["start", "web"]).env("MAQET_FAULT_POINT", "store.written").run();
    let status = maqet(&["status", "web", "--format", "json"]).run().ok().json_value();
    // QEMU runs; that it does is written and not committed.
    let running = maqet(&["start", "web"]).env("MAQET_FAULT_POINT", "store.written:2").run();
    let found = maqet(&["start", "web", "--format", "json"]).run().ok().json_value();
    maqet(&["stop", "--force", "web"]).run().ok();

    assert_eq!([added.code, started.code, running.code], [None; 3]);
    assert_eq!(after_add, ("1".to_owned(), "1".to_owned()), "those of the other host");
    assert_eq!((&status["status"], &found["status"]), (&json!("defined"), &json!("paused")));
    assert_eq!(killed.qemu_pids(), Vec::<i32>::new());
}

#[test]
fn test_network_stalled_is_an_error_in_time() {
    let home = TestHome::new();
    // It accepts connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://me@{}/maqet?sslmode=disable&connect_timeout=1", silent.local_addr().unwrap());

    let list = home.maqet(["ls", "--format", "json", "--database", &url]).run().code(124);

    assert_eq!(list.json_error()["error"]["code"], "store.timed-out");
}

#[test]
fn test_evict_killed_at_every_step_moves_all_or_nothing() {
    let pair = Pair::new();
    let killed = TestHome::with_fault_points();
    let maqet = |arguments: &[&str]| {
        killed.maqet(arguments).env("MAQET_DATABASE", &pair.schema.url).env("MAQET_HOST", "killed")
    };
    pair.old.add("web");
    pair.old.add("db");

    for point in FAULT_POINTS_OF_HOSTS {
        let evicted = maqet(&["host", "evict", "old", "--force"]).env("MAQET_FAULT_POINT", point.to_string()).run();
        assert_eq!(evicted.code, None, "it was not killed at {point}:\n{evicted}");
        let listed = maqet(&["ls", "--format", "json"]).run().ok().json_value();
        let moved = listed.as_array().unwrap().len();

        assert!([0, 2].contains(&moved), "{point}: {listed}");
        if moved == 0 {
            maqet(&["host", "evict", "old", "--force"]).run().ok();
        }
        maqet(&["doctor"]).run().ok();
        maqet(&["start", "web"]).run().ok();
        maqet(&["stop", "--force", "web"]).run().ok();
        pair.old.ok(["host", "evict", "killed", "--force"]);
    }
    assert_eq!(killed.qemu_pids(), Vec::<i32>::new());
}
