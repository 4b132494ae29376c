//! Disks that are moved to the trash and back, with their data, and deleted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use maqet_testkit::{guest, namespaces, wait};
use serde_json::{Value, json};

use super::fixture::{Fixture, inode, message, qemu_io};

#[test]
fn test_rm_and_restore_keep_data_identity_and_files() {
    let fixture = Fixture::new();
    let home = &fixture.home;
    let disks = fixture.create_web();
    for (disk, pattern) in disks.iter().zip(["0x5a", "0xa5"]) {
        qemu_io(disk, &format!("write -P {pattern} 64k 128k"));
    }
    let inodes = disks.clone().map(|disk| inode(&disk));
    for description in ["first", "second"] {
        let create = ["snapshot", "create", "web", "hdd", "one", "--overwrite", "--description", description];
        home.json(&create);
    }
    let before = home.json(&["info", "web"]);
    let snapshots = home.json(&["snapshot", "ls", "web"]);

    let removed = home.json(&["rm", "web", "--delete-storage"]);
    let entry = fixture.entry();
    let trashed = entry["images"].as_array().unwrap().clone();
    let restored = home.json(&["storage", "trash", "restore", "web"]);

    assert_eq!((&removed["kept_storage"], &removed["trash"]), (&json!([]), &entry));
    assert!(trashed.iter().all(|image| image["exists"] == true), "{entry}");
    assert!(trashed[1]["trash"].as_str().unwrap().starts_with(fixture.other.path().to_str().unwrap()), "{entry}");
    assert_eq!((&restored["id"], &restored["defined"]), (&before["id"], &json!(true)));
    assert_eq!(home.json(&["info", "web"])["definition"], before["definition"]);
    assert_eq!(disks.clone().map(|disk| inode(&disk)), inodes, "an image was copied");
    assert!(snapshots.to_string().contains("second"), "{snapshots}");
    assert_eq!(home.json(&["snapshot", "ls", "web"]), snapshots);
    for (disk, pattern) in disks.iter().zip(["0x5a", "0xa5"]) {
        qemu_io(disk, &format!("read -P {pattern} 64k 128k"));
    }
    assert_eq!(fixture.remains(), Vec::<PathBuf>::new());
    home.json(&["start", "web"]);
    home.json(&["rm", "web", "--delete-storage", "--force"]);
    let emptied = home.json(&["storage", "trash", "empty"]);
    assert_eq!((emptied["deleted"].as_array().unwrap().len(), &emptied["kept"]), (1, &json!([])));
    assert_eq!(fixture.remains(), Vec::<PathBuf>::new());
    assert!(!fixture.image("web").parent().unwrap().exists(), "the directory of the VM is left");
}

#[test]
fn test_rm_and_restore_are_inverse_calls_in_the_history() {
    let fixture = Fixture::new();
    fixture.create_web();
    let id = fixture.home.json(&["info", "web"])["id"].clone();
    fixture.home.json(&["rm", "web", "--delete-storage"]);
    let entry = fixture.entry()["entry"].clone();
    fixture.home.json(&["storage", "trash", "restore", entry.as_str().unwrap()]);

    let database = rusqlite::Connection::open(fixture.home.data().join("maqet.db")).unwrap();
    let sql = "SELECT inverse_operation, inverse_arguments FROM history ORDER BY sequence DESC LIMIT 2";
    let mut rows = database.prepare(sql).unwrap();
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
    let calls: Vec<(String, String)> = rows.query_map([], read).unwrap().map(Result::unwrap).collect();

    let arguments: Vec<Value> = calls.iter().map(|call| serde_json::from_str(&call.1).unwrap()).collect();
    assert_eq!(calls[0].0, "rm");
    assert_eq!((&arguments[0]["vm"], &arguments[0]["delete_storage"]), (&id, &json!(true)));
    assert_eq!(calls[1].0, "storage.trash.restore");
    assert_eq!(arguments[1]["entry"], entry);
}

#[test]
fn test_rm_image_that_others_use_is_refused_and_names_them() {
    let fixture = Fixture::new();
    let home = &fixture.home;
    fixture.create("base", "  - {name: hdd, size: 4M}\n");
    let base = fixture.image("base");
    let overlay = format!("  - {{name: hdd, size: 4M, backing_file: {}}}\n", base.display());
    fixture.create("clone", &overlay);
    let refused = |expected: &str| {
        let error = home.json_error(&["rm", "base", "--delete-storage", "--force"], 4);
        assert_eq!(error["code"], "storage.image-in-use", "{error}");
        assert!(message(&error).contains(expected), "{error}");
        assert!(base.exists() && home.json(&["info", "base"])["name"] == "base");
    };

    refused("is a backing file of drive `hdd` of VM `clone`");
    // A definition that maqet cannot read any more still names its files.
    let database = rusqlite::Connection::open(home.data().join("maqet.db")).unwrap();
    let sql = "UPDATE definition SET content = json_set(content, '$.nonsense', 1) WHERE content LIKE '%backing%'";
    assert_eq!(database.execute(sql, []).unwrap(), 1);
    refused("drive `hdd` of VM `clone`");
    home.json(&["rm", "clone"]);
    refused(&format!("is a backing file of disk image `{}`", fixture.image("clone").display()));
    home.add(&format!("{}storage:\n  - {{name: root, file: {}}}\n", guest::paused_yaml("twin"), base.display()));
    refused("is the image of drive `root` of VM `twin`");

    home.json(&["rm", "twin"]);
    fs::remove_file(fixture.image("clone")).unwrap();
    home.json(&["rm", "base", "--delete-storage"]);
    assert!(!base.exists());
}

#[test]
fn test_rm_image_that_a_process_has_open_names_it() {
    let fixture = Fixture::new();
    let home = &fixture.home;
    fixture.create("web", "  - {name: hdd, size: 4M}\n");
    let image = fixture.image("web");
    let mut stranger = Command::new("qemu-io");
    stranger.args(["-f", "qcow2"]).arg(&image).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut stranger = stranger.spawn().unwrap();
    wait::until_locked(&image);

    let of_stranger = home.json_error(&["rm", "web", "--delete-storage"], 75);
    drop(stranger.stdin.take());
    stranger.wait().unwrap();
    // The definition of the VM that has it open does not name it any more.
    home.add(&format!("{}storage:\n  - {{name: root, file: {}}}\n", guest::paused_yaml("db"), image.display()));
    let pid = home.json(&["start", "db"])["pid"].clone();
    home.json(&["apply", "db", "--set", "storage=null"]);
    let of_vm = home.json_error(&["rm", "web", "--delete-storage"], 75);

    assert!(message(&of_stranger).contains(&format!("`qemu-io` (process {})", stranger.id())), "{of_stranger}");
    assert_eq!(message(&of_vm), "a disk of VM `web` is in use by VM `db`");
    assert!(of_vm["causes"].to_string().contains(&format!("(process {pid})")), "{of_vm}");
    assert!(image.exists());
    home.json(&["stop", "db", "--force"]);
    home.json(&["rm", "web", "--delete-storage"]);
}

#[test]
fn test_restore_replaces_neither_vm_nor_file() {
    let fixture = Fixture::new();
    let home = &fixture.home;
    let [hdd, data] = fixture.create_web();
    home.json(&["rm", "web", "--delete-storage"]);
    let entry = fixture.entry();
    fixture.create("web", "  - {name: hdd, size: 1M}\n");
    fs::write(&data, "precious").unwrap();

    let vm = home.json_error(&["storage", "trash", "restore", "web"], 4);
    let file = home.json_error(&["storage", "trash", "restore", "web", "--name", "old"], 4);

    assert_eq!((&vm["code"], &file["code"]), (&json!("trash.vm-exists"), &json!("trash.image-exists")));
    assert!(message(&file).contains(data.to_str().unwrap()), "{file}");
    assert_eq!(fixture.entry(), entry);
    assert_eq!(fs::read_to_string(&data).unwrap(), "precious");
    fs::remove_file(&data).unwrap();
    let restored = home.json(&["storage", "trash", "restore", "web", "--name", "old"]);
    let path = restored["images"][0]["path"].as_str().unwrap();
    assert_eq!(Path::new(path), fixture.image("old"));
    assert!(hdd.exists() && fixture.image("old").exists() && data.exists());
    home.json(&["start", "old"]);
    home.json(&["stop", "old", "--force"]);
    assert_eq!(home.json_error(&["storage", "trash", "restore", "web"], 3)["code"], "trash.entry-not-found");
}

#[test]
fn test_empty_keeps_young_backing_and_unmounted_images() {
    let fixture = Fixture::new();
    let home = &fixture.home;
    let [hdd, data] = fixture.create_web();
    home.json(&["rm", "web", "--delete-storage"]);

    let young = home.json(&["storage", "trash", "empty", "--older-than", "1h"]);
    let dry = home.json(&["storage", "trash", "empty", "--dry-run"]);
    // An image that refers to the one in the trash, by the path that it had.
    let overlay = home.path("overlay.qcow2");
    let mut create = Command::new("qemu-img");
    create.args(["create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b"]).arg(&hdd).arg(&overlay).arg("4M");
    assert!(create.status().unwrap().success());
    home.add(&format!("{}storage:\n  - {{name: hdd, file: {}}}\n", guest::paused_yaml("clone"), overlay.display()));
    let backing = home.json(&["storage", "trash", "empty"]);
    home.json(&["rm", "clone"]);
    let volume = data.parent().unwrap();
    fs::rename(volume, volume.with_extension("unmounted")).unwrap();
    let unmounted = home.json(&["storage", "trash", "empty"]);
    fs::rename(volume.with_extension("unmounted"), volume).unwrap();

    assert_eq!((&young["deleted"], &young["kept"]), (&json!([]), &json!([])));
    assert_eq!((dry["deleted"].as_array().unwrap().len(), &dry["dry_run"]), (1, &json!(true)));
    for (emptied, expected) in
        [(&backing, "a backing file of drive `hdd` of VM `clone`"), (&unmounted, "mount its volume")]
    {
        assert_eq!(emptied["deleted"], json!([]), "{emptied}");
        assert!(emptied["kept"][0]["reason"].as_str().unwrap().contains(expected), "{emptied}");
    }
    assert!(fixture.entry()["images"].as_array().unwrap().iter().all(|image| image["exists"] == true));
    let emptied = home.json(&["storage", "trash", "empty", "--older-than", "0s", "web"]);
    assert_eq!(emptied["deleted"].as_array().unwrap().len(), 1, "{emptied}");
    assert_eq!(fixture.remains(), Vec::<PathBuf>::new());
}

#[test]
fn test_empty_keeps_base_of_overlay_that_is_kept_in_the_trash() {
    let fixture = Fixture::new();
    let home = &fixture.home;
    fixture.create("base", "  - {name: hdd, size: 4M}\n");
    let backing = format!("  - {{name: hdd, size: 4M, backing_file: {}}}\n", fixture.image("base").display());
    fixture.create("clone", &backing);
    home.json(&["rm", "clone", "--delete-storage"]);
    home.json(&["rm", "base", "--delete-storage"]);

    let kept = home.json(&["storage", "trash", "empty", "base"]);
    let both = home.json(&["storage", "trash", "empty"]);

    assert!(kept["kept"][0]["reason"].as_str().unwrap().contains("(VM `clone`)"), "{kept}");
    assert_eq!(both["deleted"].as_array().unwrap().len(), 2, "{both}");
}

#[test]
fn test_trash_used_by_many_at_once_restores_once() {
    let fixture = Fixture::new();
    let home = &fixture.home;
    fixture.create_web();
    home.json(&["rm", "web", "--delete-storage"]);

    let codes: Vec<Option<i32>> = thread::scope(|scope| {
        let run = |number: usize| {
            let command: &[&str] = if number.is_multiple_of(2) {
                &["storage", "trash", "restore", "web"]
            } else {
                &["storage", "trash", "empty"]
            };
            home.maqet(command.iter()).args(["--format", "json"]).run().code
        };
        let threads: Vec<_> = (0..8).map(|number| scope.spawn(move || run(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });

    let restored = codes.iter().step_by(2).filter(|code| **code == Some(0)).count();
    let vms = home.json(&["ls"]).as_array().unwrap().len();
    assert!(restored <= 1 && restored == vms, "{codes:?}");
    assert_eq!(fixture.image("web").exists(), restored == 1, "{codes:?}");
    assert_eq!(fixture.remains(), Vec::<PathBuf>::new());
}

/// A data directory on a small file system, with less and less space; what is left decides at which step it is full.
#[test]
fn test_rm_on_full_disk_moves_all_or_nothing() {
    namespaces::within_mounts("trash::moves::test_rm_on_full_disk_moves_all_or_nothing", || {
        let fixture = Fixture::new();
        let home = &fixture.home;
        let data = home.path("data");
        home.mount_tmpfs(&data, "2m");
        fixture.create("web", "  - {name: hdd, size: 1M}\n");
        qemu_io(&fixture.image("web"), "write -P 0x5a 0 64k");
        let ballast = data.join("ballast");

        let mut outcomes = Vec::new();
        for pages in [0, 1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 48, 96] {
            fs::write(&ballast, vec![0; 2 << 20]).unwrap_err();
            let full = fs::metadata(&ballast).unwrap().len();
            fs::File::options().write(true).open(&ballast).unwrap().set_len(full - pages * 4096).unwrap();
            let run = home.maqet(["rm", "web", "--delete-storage", "--format", "json"]).run();
            fs::remove_file(&ballast).unwrap();

            outcomes.push(run.code);
            if run.code == Some(0) {
                home.json(&["storage", "trash", "restore", "web"]);
            } else {
                let error = run.json_error()["error"].clone();
                assert!(error["code"].as_str().unwrap().rsplit('.').next() == Some("full"), "{pages} pages: {error}");
            }
            assert_eq!(home.json(&["storage", "trash", "ls"]), json!([]), "{pages} pages");
            home.json(&["apply", "web", "--memory", &format!("{}M", 33 + pages)]);
            qemu_io(&fixture.image("web"), "read -P 0x5a 0 64k");
            assert_eq!(fixture.remains(), Vec::<PathBuf>::new(), "{pages} pages");
        }

        assert!(outcomes.contains(&Some(0)) && outcomes[0] != Some(0), "{outcomes:?}");
    });
}

/// Returns the commands of a guide: the lines of its blocks of shell code.
fn commands(guide: &str) -> Vec<&str> {
    let blocks = guide.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines).collect()
}

#[test]
fn test_guide_of_the_trash_works_as_written() {
    let fixture = Fixture::new();
    let home = &fixture.home;
    fixture.create_web();
    fixture.create("old", "  - {name: hdd, size: 1M}\n");
    home.json(&["rm", "old"]);
    home.add(&guest::paused_yaml("db"));
    home.write("home/images/data.raw", vec![0; 1 << 20]);
    fs::create_dir_all(home.path("home/.local/share")).unwrap();
    std::os::unix::fs::symlink(home.data(), home.path("home/.local/share/maqet")).unwrap();
    fs::create_dir(home.path("bin")).unwrap();
    let program = home.maqet([""; 0]).into_command().get_program().to_owned();
    std::os::unix::fs::symlink(program, home.path("bin/maqet")).unwrap();
    let guide = include_str!("../../../../docs/guide/trash.md");

    let commands = commands(guide);
    for command in &commands {
        match *command {
            "maqet storage trash restore web --name web-old" => drop(home.json(&["rm", "web", "--delete-storage"])),
            "maqet storage trash empty web-old" => drop(home.json(&["rm", "web-old", "--delete-storage"])),
            _ => {}
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("PATH={}:$PATH {command}", home.path("bin").display())]);
        let done = shell.env_clear().envs(home.environment()).output().unwrap();
        assert!(done.status.success(), "{command}: {done:?}");
    }

    assert_eq!(commands.len(), 11, "{commands:?}");
    assert_eq!(home.json(&["storage", "trash", "ls"]), json!([]));
    let drives = home.json(&["storage", "ls", "db"]);
    assert_eq!(drives.as_array().unwrap().len(), 2, "{drives}");
}

/// Each overlay is in the way of its base, which comes first in the list.
#[test]
fn test_rm_of_several_removes_overlays_before_their_bases() {
    let fixture = Fixture::new();
    let home = &fixture.home;
    let names = ["a-base", "b-middle", "c-top"];
    fixture.create(names[0], "  - {name: hdd, size: 4M}\n");
    for pair in names.windows(2) {
        let base = fixture.image(pair[0]);
        fixture.create(pair[1], &format!("  - {{name: hdd, size: 4M, backing_file: {}}}\n", base.display()));
    }
    qemu_io(&fixture.image(names[2]), "write -P 7 0 64k");
    qemu_io(&fixture.image(names[0]), "write -P 5 64k 64k");

    let refused = home.maqet(["rm", names[0], names[1], "--delete-storage", "--format", "json"]).run().code(4);
    let left: Vec<String> = names.iter().filter(|name| fixture.image(name).exists()).map(ToString::to_string).collect();
    let removed = home.json(&["rm", "--all", "--delete-storage"]);

    assert_eq!(refused.stdout.trim(), "[]", "{refused}");
    assert_eq!(refused.stderr.matches("storage.image-in-use").count(), 2, "{refused}");
    assert_eq!(left, names, "{refused}");
    let order: Vec<&Value> = removed.as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(order, names);
    assert_eq!(home.json(&["ls"]), json!([]));
    for name in names {
        assert!(!fixture.image(name).exists(), "{name}");
        home.json(&["storage", "trash", "restore", name]);
    }
    qemu_io(&fixture.image(names[2]), "read -P 7 0 64k");
    qemu_io(&fixture.image(names[2]), "read -P 5 64k 64k");
}
