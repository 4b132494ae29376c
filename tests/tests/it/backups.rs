//! Backups: of disks that a guest writes to, of disks that are not in use, and what is left of one that is cut short.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use maqet_fault_points::VARIABLE;
use maqet_testkit::guest::CountingGuest;
use maqet_testkit::{TestHome, guest, namespaces, wait};
use serde_json::{Value, json};

pub(super) const DEADLINE: Duration = Duration::from_mins(1);

/// The size of the disks of the counting guest, in MiB.
const DISK_MIB: usize = CountingGuest::DISK_BYTES >> 20;

#[track_caller]
pub(super) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Returns the content of an image, and of those it builds on, as `qemu-img` alone reads it.
#[track_caller]
pub(super) fn content(home: &TestHome, image: &Path) -> Vec<u8> {
    let raw = home.path("content.raw");
    run("qemu-img", &["convert", "-O", "raw", image.to_str().unwrap(), raw.to_str().unwrap()]);
    let content = fs::read(&raw).unwrap();
    fs::remove_file(&raw).unwrap();
    content
}

pub(super) fn disk(home: &TestHome, drive: &str) -> PathBuf {
    home.data().join("storage/web").join(format!("{drive}.qcow2"))
}

/// Writes to a disk that is not in use.
#[track_caller]
pub(super) fn write(home: &TestHome, drive: &str, command: &str) {
    run("qemu-io", &["-c", command, disk(home, drive).to_str().unwrap()]);
}

pub(super) fn create(home: &TestHome) -> Value {
    home.json(&["backup", "create", "web"])["backup"].clone()
}

pub(super) fn name_of(backup: &Value) -> String {
    backup["name"].as_str().unwrap().to_owned()
}

pub(super) fn image_of(backup: &Value, drive: &str) -> PathBuf {
    Path::new(backup["directory"].as_str().unwrap()).join(format!("{drive}.qcow2"))
}

/// Returns what backups have left besides themselves: hidden files, and QEMU processes without a guest.
pub(super) fn left_over(home: &TestHome) -> Vec<String> {
    let data = home.data();
    let is_hidden = |path: &Path| path.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"."));
    let files = home.files().into_iter().filter_map(|path| path.strip_prefix(&data).ok().map(Path::to_owned));
    let files = files.filter(|path| is_hidden(path)).map(|path| path.display().to_string());
    let servers = || home.processes().into_iter().filter(|found| found.command.contains("-machine none"));
    // What ends a server with maqet may not have begun its program yet, and ends once it has.
    let _none = wait::try_until(wait::LONG, || servers().next().is_none().then_some(()));
    files.chain(servers().map(|found| found.command)).collect()
}

/// A VM with two disks of 4 MiB that exist.
pub(super) fn stopped_vm(home: &TestHome) {
    home.add(&(guest::paused_yaml("web") + "storage: [{name: a, size: 4M}, {name: b, size: 4M}]\n"));
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);
    write(home, "a", "write -P 1 0 1M");
}

/// Waits until the counting guest wrote this often to each of its disks.
fn wait_for_writes(home: &TestHome, times: u64) {
    wait::until(DEADLINE, "the guest to write its disks", || (writes(home) > times).then_some(()));
}

/// Returns how often the counting guest wrote to each of its disks.
fn writes(home: &TestHome) -> u64 {
    let stats = home.json(&["qmp", "web", "query-blockstats"]);
    let writes = stats.as_array().unwrap().iter().map(|one| one["stats"]["wr_operations"].as_u64().unwrap_or_default());
    let written: Vec<u64> = writes.filter(|writes| *writes > 0).collect();
    if written.len() == 2 { written[0].min(written[1]) } else { 0 }
}

#[test]
fn test_backups_of_writing_guest_have_the_disks_of_one_moment() {
    let home = TestHome::new();
    let boot = CountingGuest::write(&home);
    home.add(&format!(
        "name: web\naccel: tcg\nmemory: 16M\nstorage:\n  - {{name: boot, type: raw, file: {}, interface: ide}}\n  \
         - {{name: a, size: {DISK_MIB}M}}\n  - {{name: b, size: {DISK_MIB}M}}\n",
        boot.display(),
    ));
    home.json(&["start", "web"]);
    wait_for_writes(&home, 100);

    let backup = |_| {
        let backup = create(&home);
        wait_for_writes(&home, writes(&home));
        backup
    };
    let backups: Vec<Value> = (0..6).map(backup).collect();

    assert_eq!(home.json(&["status", "web"])["status"], "running");
    home.json(&["stop", "web", "--force"]);
    let mut last = 0;
    for (index, backup) in backups.iter().enumerate() {
        let kinds: Vec<&str> =
            backup["drives"].as_array().unwrap()[1..].iter().map(|one| one["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, [if index == 0 { "full" } else { "incremental" }; 2], "{backup}");
        let (a, b) = (content(&home, &image_of(backup, "a")), content(&home, &image_of(backup, "b")));
        let numbers = (CountingGuest::last_number(&a), CountingGuest::last_number(&b));
        assert!(a == CountingGuest::disk_after(numbers.0, a.len()), "backup {index} is not of one moment: {numbers:?}");
        assert!(b == CountingGuest::disk_after(numbers.1, b.len()), "backup {index} is not of one moment: {numbers:?}");
        assert!([0, 1].contains(&(numbers.0 - numbers.1)), "the drives are of two moments: {numbers:?}");
        assert!(numbers.0 > last, "the guest did not write: {last} {numbers:?}");
        last = numbers.0;

        let output = home.path(format!("restored-{index}"));
        let arguments = ["backup", "restore", "web", &name_of(backup), "a", "--output", output.to_str().unwrap()];
        home.json(&arguments);
        assert!(content(&home, &output.join("a.qcow2")) == a);
    }
    let verified = home.json(&["backup", "verify", "web"]);
    assert_eq!(verified["verified"].as_array().unwrap().len(), 6);
    assert_eq!(left_over(&home), Vec::<String>::new());
}

#[test]
fn test_backups_across_stops_restore_each_state_of_the_disk() {
    let home = TestHome::new();
    stopped_vm(&home);
    let mut states = Vec::new();
    let mut keep = |home: &TestHome, backup: Value| states.push((backup, content(home, &disk(home, "a"))));
    let full = create(&home);
    keep(&home, full);
    write(&home, "a", "write -P 2 512k 64k");
    let offline = create(&home);
    keep(&home, offline);
    // The bitmap is stored when QEMU ends cleanly.
    home.json(&["start", "web"]);
    let live = create(&home);
    home.json(&["qmp", "web", "quit"]);
    home.json(&["wait", "web", "--for", "stopped"]);
    keep(&home, live);
    write(&home, "a", "discard 0 256k");
    write(&home, "a", "write -P 3 3M 64k");
    let after = create(&home);
    keep(&home, after);
    // Grown meanwhile.
    home.json(&["storage", "resize", "web", "a", "8M"]);
    write(&home, "a", "write -P 4 7M 64k");
    let grown = create(&home);
    keep(&home, grown);

    for (index, (backup, state)) in states.iter().enumerate() {
        let kind = if index == 0 { "full" } else { "incremental" };
        assert_eq!((&backup["drives"][0]["kind"], &backup["kind"]), (&json!(kind), &json!(kind)), "{backup}");
        assert!(content(&home, &image_of(backup, "a")) == *state, "backup {index} differs");
    }
    home.json(&["backup", "verify", "web"]);
    for (backup, state) in states.iter().rev() {
        let restored = home.json(&["backup", "restore", "web", &name_of(backup), "a"]);
        assert_eq!(restored["drives"][0]["file"], disk(&home, "a").to_str().unwrap());
        assert!(content(&home, &disk(&home, "a")) == *state, "{backup}");
    }
    assert_eq!(create(&home)["drives"][0]["reason"], "no-bitmap");
    assert_eq!(left_over(&home), Vec::<String>::new());
}

#[test]
fn test_backup_after_qemu_was_killed_is_full_and_says_why() {
    let home = TestHome::new();
    stopped_vm(&home);
    create(&home);
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);

    let backup = home.maqet(["backup", "create", "web"]).run().ok();

    let text = backup.to_string();
    assert!(text.contains("drive `a` is full: the record of what changed is not valid"), "{text}");
}

#[test]
fn test_backup_rm_keeps_what_others_build_on() {
    let home = TestHome::new();
    stopped_vm(&home);
    let names: Vec<String> = (0..3).map(|_| name_of(&create(&home))).collect();

    let refused = home.json_error(&["backup", "rm", "web", &names[1]], 4);
    let latest = home.json(&["backup", "rm", "web", "latest"]);
    let next = create(&home);
    let all = home.json(&["backup", "rm", "web", &names[0], "--dependents"]);

    assert_eq!(refused["code"], "backup.in-use");
    assert_eq!(latest["removed"], json!([names[2]]));
    // The bitmap of the removed backup is not that of the one before.
    assert_eq!(next["drives"][0]["reason"], "no-bitmap");
    assert_eq!(all["removed"], json!([names[1], names[0]]));
    assert_eq!(home.json(&["backup", "ls", "web"])["backups"].as_array().unwrap().len(), 1);
}

/// They are of no use without a VM of that name, and take space: `rm` names them.
#[test]
fn test_rm_with_storage_names_the_backups_that_stay() {
    let home = TestHome::new();
    stopped_vm(&home);
    let backup = create(&home);
    let directory = Path::new(backup["directory"].as_str().unwrap());

    let shown = home.maqet(["rm", "web", "--delete-storage"]).run().ok().stdout;
    home.json(&["storage", "trash", "restore", "web"]);
    let removed = home.json(&["rm", "web", "--delete-storage"]);
    home.json(&["backup", "rm", "web", &name_of(&backup)]);
    home.json(&["storage", "trash", "restore", "web"]);
    let none = home.json(&["rm", "web", "--delete-storage"]);

    assert!(shown.contains(&format!("\n  kept backup: {}\n", directory.display())), "{shown}");
    assert!(
        shown.ends_with("\n  list them with `maqet backup ls web`, remove them with `maqet backup rm web …`\n"),
        "{shown}"
    );
    let parent = directory.parent().unwrap();
    assert_eq!(removed["backups"], json!({ "directory": parent, "names": [backup["name"]] }));
    assert_eq!(none.get("backups"), None, "{none}");
}

#[test]
fn test_backup_verify_finds_each_damage() {
    let home = TestHome::new();
    stopped_vm(&home);
    let backups: Vec<Value> = (0..2).map(|_| create(&home)).collect();
    let (base, image) = (image_of(&backups[0], "a"), image_of(&backups[1], "a"));
    let intact = (fs::read(&base).unwrap(), fs::read(&image).unwrap());
    let code = |home: &TestHome| home.json_error(&["backup", "verify", "web"], 1).to_string();

    let mut flipped = intact.0.clone();
    let at = flipped.len() - 100;
    flipped[at] ^= 1;
    fs::write(&base, &flipped).unwrap();
    let changed = code(&home);
    fs::write(&base, &flipped[..at]).unwrap();
    let shorter = code(&home);
    fs::remove_file(&base).unwrap();
    let missing = code(&home);
    let restored = home.json_error(&["backup", "restore", "web", "latest"], 1);
    fs::write(&base, &intact.0).unwrap();
    fs::write(Path::new(backups[1]["directory"].as_str().unwrap()).join("backup.json"), "{").unwrap();
    let manifest = code(&home);

    assert!(changed.contains("its checksum differs"), "{changed}");
    assert!(shorter.contains("bytes instead of"), "{shorter}");
    assert!(missing.contains("is missing"), "{missing}");
    assert_eq!(restored["code"], "backup.corrupt", "{restored}");
    assert!(manifest.contains("`backup.json` is damaged"), "{manifest}");
    assert_eq!(content(&home, &disk(&home, "a"))[0], 1, "the disk is as it was");
}

#[test]
fn test_backup_to_full_disk_harms_nothing() {
    namespaces::within_mounts("backups::test_backup_to_full_disk_harms_nothing", || {
        let home = TestHome::new();
        let small = home.path("small");
        home.mount_tmpfs(&small, "2m");
        let boot = CountingGuest::write(&home);
        home.add(&format!(
            "name: web\naccel: tcg\nmemory: 16M\nstorage:\n  - {{name: boot, type: raw, file: {}, interface: ide}}\n  \
             - {{name: a, size: {DISK_MIB}M}}\n  - {{name: b, size: {DISK_MIB}M}}\n",
            boot.display(),
        ));
        home.json(&["start", "web"]);

        // More than fits: QEMU would find out while it copies, and the guest with it.
        wait_for_writes(&home, 150);

        let live = home.json_error(&["backup", "create", "web", "--to", small.to_str().unwrap()], 69);

        assert_eq!(live["code"], "backup.disk-full", "{live}");
        assert_eq!(home.json(&["status", "web"])["status"], "running");
        let nodes = home.json(&["qmp", "web", "query-named-block-nodes", "--json", r#"{"flat":true}"#]).to_string();
        assert!(!nodes.contains("maqet-backup-"), "{nodes}");
        assert_eq!(fs::read_dir(&small).unwrap().count(), 0);
        home.json(&["stop", "web", "--force"]);
        let offline = home.json_error(&["backup", "create", "web", "--to", small.to_str().unwrap()], 69);
        assert_eq!(offline["code"], "backup.disk-full", "{offline}");
        assert_eq!(fs::read_dir(&small).unwrap().count(), 0);
        create(&home);
        home.json(&["backup", "verify", "web"]);
        assert_eq!(left_over(&home), Vec::<String>::new());
    });
}

/// The points at which a backup is killed, in order.
const POINTS: [&str; 7] = [
    "backup.create.marked",
    "backup.images-created",
    "backup.started",
    "backup.copied",
    "backup.published",
    "backup.create.before-commit",
    "backup.create.committed",
];

/// Kills a backup at each point; afterwards the next one works, and no state is lost.
fn killed_backups(home: &TestHome) {
    let first = create(home);
    for point in POINTS {
        let killed = home.maqet(["backup", "create", "web"]).env(VARIABLE, point).run();
        assert_eq!(killed.code, None, "{point}: it was not killed:\n{killed}");

        let next = create(home);

        assert_eq!(next["drives"][0]["kind"], "incremental", "{point}: {next}");
        assert_eq!(left_over(home), Vec::<String>::new(), "{point}");
    }
    home.json(&["backup", "verify", "web"]);
    let listed = home.json(&["backup", "ls", "web"])["backups"].clone();
    assert_eq!(listed[0]["name"], first["name"]);
    // Those that were complete when their process died are there as well.
    assert_eq!(listed.as_array().unwrap().len(), 1 + POINTS.len() + 3, "{listed}");
}

#[test]
fn test_backup_of_stopped_vm_killed_at_each_step_is_undone() {
    let home = TestHome::with_fault_points();
    stopped_vm(&home);

    killed_backups(&home);

    let bitmaps = run("qemu-img", &["info", disk(&home, "a").to_str().unwrap()]).matches("name: maqet-backup-").count();
    assert_eq!(bitmaps, 1, "the disk has the bitmap of the last backup only");
    let disk = content(&home, &disk(&home, "a"));
    let latest = home.json(&["backup", "ls", "web"])["backups"].as_array().unwrap().last().unwrap().clone();
    assert!(content(&home, &image_of(&latest, "a")) == disk);
}

#[test]
fn test_backup_of_running_vm_killed_at_each_step_is_undone() {
    let home = TestHome::with_fault_points();
    stopped_vm(&home);
    home.json(&["start", "web"]);

    killed_backups(&home);

    let jobs = home.json(&["qmp", "web", "query-jobs"]);
    let nodes = home.json(&["qmp", "web", "query-named-block-nodes", "--json", r#"{"flat":true}"#]).to_string();
    assert_eq!(jobs, json!([]));
    assert_eq!(nodes.matches("maqet-backup-").count(), 2, "each disk has the bitmap of the last backup only: {nodes}");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_backup_restore_killed_at_each_step_is_all_or_nothing() {
    let home = TestHome::with_fault_points();
    stopped_vm(&home);
    create(&home);
    let old = content(&home, &disk(&home, "a"));
    write(&home, "a", "write -P 9 0 4M");
    write(&home, "b", "write -P 9 0 4M");
    let new = content(&home, &disk(&home, "a"));
    for (point, is_restored) in [
        ("restore.copied", false),
        ("restore.replaced:1", false),
        ("restore.replaced:2", false),
        ("restore.in-place", true),
    ] {
        let killed = home.maqet(["backup", "restore", "web", "latest"]).env(VARIABLE, point).run();
        assert_eq!(killed.code, None, "{point}: it was not killed:\n{killed}");

        home.json(&["start", "web"]);
        home.json(&["stop", "web", "--force"]);

        assert!(content(&home, &disk(&home, "a")) == if is_restored { old.clone() } else { new.clone() }, "{point}");
        assert_eq!(content(&home, &disk(&home, "b"))[0] == 0, is_restored, "{point}");
        let kept = home.files().into_iter().filter(|path| path.to_string_lossy().contains("before-restore"));
        assert_eq!(kept.count(), 0, "{point}");
    }
}

#[test]
fn test_backup_whose_qemu_is_killed_leaves_the_earlier_ones() {
    let home = TestHome::with_fault_points();
    stopped_vm(&home);
    home.json(&["start", "web"]);
    create(&home);
    // Its process is stopped while QEMU copies, so that QEMU dies first.
    let killed = home.maqet(["backup", "create", "web"]).env(VARIABLE, "backup.started").run();
    assert_eq!(killed.code, None);
    let pid = home.json(&["status", "web"])["pid"].to_string();
    run("kill", &["-KILL", &pid]);
    wait::until(DEADLINE, "QEMU to exit", || (home.json(&["status", "web"])["status"] == "stopped").then_some(()));

    let next = create(&home);

    assert_eq!(next["drives"][0]["kind"], "full", "{next}");
    home.json(&["backup", "verify", "web"]);
    assert_eq!(home.json(&["backup", "ls", "web"])["backups"].as_array().unwrap().len(), 2);
    assert_eq!(left_over(&home), Vec::<String>::new());
    let checked = Command::new("qemu-img").args(["check", "-q", disk(&home, "a").to_str().unwrap()]).status().unwrap();
    // Leaked clusters (3) are no damage.
    assert!([Some(0), Some(3)].contains(&checked.code()), "{checked}");
}

/// The commands of the guide, in the order of the page.
#[test]
fn test_commands_of_the_guide_on_backups_work() {
    let home = TestHome::new();
    home.add(&(guest::paused_yaml("web") + "storage: [{name: hdd, size: 4M}]\n"));
    home.json(&["start", "web"]);
    let usb = home.path("usb");
    fs::create_dir(&usb).unwrap();
    let page = include_str!("../../../docs/guide/backups.md");
    let blocks = page.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    let commands: Vec<&str> = blocks.flat_map(str::lines).collect();

    for command in &commands {
        let listed = home.json(&["backup", "ls", "web"])["backups"].clone();
        let listed = listed.as_array().unwrap();
        let index = if command.ends_with("--dependents") { Some(0) } else { listed.len().checked_sub(1) };
        let name = index.map(|index| name_of(&listed[index])).unwrap_or_default();
        let command = command.replace("/mnt/usb", usb.to_str().unwrap()).replace("TIME", &name);
        let command = command.replace("~/.local/share/maqet", home.data().to_str().unwrap());
        let mut words = command.split_whitespace();
        let (program, arguments) = (words.next().unwrap(), words.collect::<Vec<&str>>());
        if program == "maqet" {
            home.maqet(&arguments).in_folder(home.root()).run().ok();
        } else {
            let done = Command::new(program).args(&arguments).current_dir(home.root()).output().unwrap();
            assert!(done.status.success(), "{command}: {done:?}");
        }
    }

    assert_eq!(commands.len(), 17, "{commands:?}");
    assert_eq!(home.json(&["backup", "ls", "web"])["backups"].as_array().unwrap().len(), 1);
    assert!(home.path("disk.qcow2").exists() && home.path("restored/hdd.qcow2").exists());
}
