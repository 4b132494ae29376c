//! Images that maqet created once and that are gone: no start replaces them by empty ones.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use maqet_testkit::{TestHome, guest};
use serde_json::{Value, json};

const LOST: &str = "storage.created-image-not-found";

/// Returns a home with a VM `web` that ran once.
fn ran_once(storage: &str, more: &str) -> TestHome {
    let home = TestHome::new();
    home.write("cd.iso", [0; 2048]);
    home.add(&format!("{}{more}storage:\n  - {storage}\n", guest::paused_yaml("web")));
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);
    home
}

fn default_image(home: &TestHome) -> PathBuf {
    home.data().join("storage/web/hdd.qcow2")
}

fn hints(error: &Value) -> String {
    error["hints"].to_string()
}

#[test]
fn test_start_image_of_unmounted_volume_is_refused() {
    let home = ran_once("{name: hdd, file: volume/vms/hdd.qcow2, size: 1M}", "");
    let (volume, image) = (home.path("volume"), home.path("volume/vms/hdd.qcow2"));
    let inode = fs::metadata(&image).unwrap().ino();
    fs::rename(&volume, home.path("unmounted")).unwrap();

    let directory = home.json_error(&["start", "web"], 3);
    fs::create_dir(&volume).unwrap();
    let mount_point = home.json_error(&["start", "web"], 3);

    let message = format!(
        "disk image `{}` of drive `hdd` not found: the directory `{}` does not exist; is its volume mounted?",
        image.display(),
        volume.display()
    );
    assert_eq!((&directory["code"], &directory["message"]), (&json!(LOST), &json!(message)));
    assert!(hints(&directory).contains("mount its volume"), "{directory}");
    assert!(hints(&directory).contains("maqet apply web --set storage.hdd.file=PATH"), "{directory}");
    assert!(hints(&directory).contains("maqet start web --recreate hdd"), "{directory}");
    assert!(mount_point["message"].as_str().unwrap().contains("/volume/vms` does not exist"), "{mount_point}");
    assert_eq!(fs::read_dir(&volume).unwrap().count(), 0, "nothing was created below the mount point");
    fs::remove_dir(&volume).unwrap();
    fs::rename(home.path("unmounted"), &volume).unwrap();
    home.json(&["start", "web"]);
    assert_eq!(fs::metadata(&image).unwrap().ino(), inode);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_start_recreate_creates_only_the_named_image() {
    let home = ran_once("{name: hdd, size: 1M}\n  - {name: cd, type: iso, file: cd.iso}", "");
    let image = default_image(&home);
    fs::remove_file(&image).unwrap();

    let refused = home.json_error(&["start", "web"], 3);
    let unknown = home.json_error(&["start", "web", "--recreate", "hd"], 3);
    let fixed = home.json_error(&["start", "web", "--recreate", "cd"], 2);

    assert_eq!(refused["code"], LOST, "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("not found (created on "), "{refused}");
    assert!(!image.exists());
    assert_eq!((&unknown["code"], hints(&unknown).contains("hdd")), (&json!("drive.not-found"), true), "{unknown}");
    assert_eq!(fixed["code"], "storage.recreate-unsupported", "{fixed}");
    home.json(&["start", "web", "--recreate", "hdd"]);
    let created = home.json(&["events", "--type", "storage.created"]);
    assert_eq!(created.as_array().unwrap().last().unwrap()["data"]["recreated"], true, "{created}");
    let running = home.json_error(&["start", "web", "--recreate", "hdd"], 4);
    assert_eq!(running["code"], "vm.status-conflict", "{running}");
    home.json(&["stop", "web", "--force"]);
    let existing = home.json_error(&["start", "web", "--recreate", "hdd"], 4);
    assert_eq!(existing["code"], "storage.image-exists", "{existing}");
    assert!(image.exists());
}

#[test]
fn test_restart_with_lost_image_leaves_vm_running() {
    let home = ran_once("{name: hdd, size: 1M}", "");
    let pid = home.json(&["start", "web"])["pid"].clone();
    fs::remove_file(default_image(&home)).unwrap();

    let refused = home.json_error(&["restart", "web", "--force"], 3);

    assert_eq!(refused["code"], LOST, "{refused}");
    assert_eq!(home.json(&["status", "web"])["pid"], pid);
    let restarted = home.json(&["restart", "web", "--force", "--recreate", "hdd"]);
    assert_ne!(restarted["pid"], pid);
    assert!(default_image(&home).exists());
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_start_lost_uefi_variables_are_refused() {
    let home = ran_once("{name: hdd, size: 1M}", "firmware: uefi\n");
    let variables = home.data().join("storage/web/uefi-vars.qcow2");
    fs::remove_file(&variables).unwrap();

    let refused = home.json_error(&["start", "web"], 3);

    assert_eq!(refused["code"], LOST, "{refused}");
    assert!(refused["message"].as_str().unwrap().starts_with("UEFI variable store `"), "{refused}");
    assert!(hints(&refused).contains("maqet start web --recreate uefi-vars"), "{refused}");
    assert!(!variables.exists());
    home.json(&["start", "web", "--recreate", "uefi-vars"]);
    assert!(variables.exists());
    let removed = home.json(&["rm", "web", "--force"]);
    assert_eq!(removed["kept_storage"].as_array().unwrap().len(), 2, "{removed}");
}

#[test]
fn test_start_in_moved_data_directory_finds_or_refuses_disk() {
    let home = ran_once("{name: hdd, size: 1M}", "");
    let old = default_image(&home);
    let moved = home.path("moved");
    fs::create_dir_all(moved.join("storage/web")).unwrap();
    for file in fs::read_dir(home.data()).unwrap().flatten().filter(|file| file.path().is_file()) {
        fs::copy(file.path(), moved.join(file.file_name())).unwrap();
    }
    let options = ["--data-dir", moved.to_str().unwrap()];

    let refused = home.json_error(&[&["start", "web"][..], &options].concat(), 3);

    assert_eq!(refused["code"], LOST, "{refused}");
    assert!(refused["message"].as_str().unwrap().contains(old.to_str().unwrap()), "{refused}");
    fs::rename(&old, moved.join("storage/web/hdd.qcow2")).unwrap();
    home.json(&[&["start", "web"][..], &options].concat());
    home.json(&[&["stop", "web", "--force"][..], &options].concat());
}

#[test]
fn test_lost_image_is_reported_by_all_commands() {
    let home = ran_once("{name: hdd, size: 1M}", "");
    fs::remove_file(default_image(&home)).unwrap();

    let snapshot = home.json_error(&["snapshot", "create", "web", "hdd", "first"], 3);
    let doctor = home.maqet(["doctor", "--format", "json"]).run().code(1).json_value();
    let inspected = home.json(&["inspect", "web"])["disks"][0].clone();
    let info = home.json(&["info", "web", "--command-line"]);

    assert_eq!(snapshot["code"], LOST, "{snapshot}");
    let finding = doctor["findings"].as_array().unwrap().iter().find(|one| one["area"] == "vm").unwrap().clone();
    assert_eq!(finding["severity"], "problem", "{finding}");
    assert!(finding["message"].as_str().unwrap().contains("not found (created on "), "{finding}");
    assert!(inspected["problem"].as_str().unwrap().contains("not found (created on "), "{inspected}");
    assert!(inspected["hints"].to_string().contains("--recreate hdd"), "{inspected}");
    assert_eq!(info["storage"][0]["created_on_start"], false, "{info}");
    assert!(!info["setup_commands"].to_string().contains("qemu-img create"), "{info}");
    assert!(!default_image(&home).exists());
}

#[test]
fn test_start_new_path_or_new_vm_creates_image() {
    let home = ran_once("{name: hdd, size: 1M}", "");
    fs::remove_file(default_image(&home)).unwrap();

    home.json(&["apply", "web", "--set", &format!("storage.hdd.file={}", home.path("new.qcow2").display())]);
    home.json(&["start", "web"]);

    assert!(home.path("new.qcow2").exists());
    home.json(&["rm", "web", "--force"]);
    fs::remove_file(home.path("new.qcow2")).unwrap();
    home.add(&format!("{}storage:\n  - {{name: hdd, size: 1M}}\n", guest::paused_yaml("web")));
    home.json(&["start", "web"]);
    assert!(default_image(&home).exists());
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_start_lost_image_that_existed_before_is_refused() {
    let home = TestHome::new();
    let disk = home.write("own.raw", vec![0; 1 << 20]);
    home.add(&format!(
        "{}storage:\n  - {{name: hdd, type: raw, file: own.raw, size: 1M}}\n",
        guest::paused_yaml("web")
    ));
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);
    fs::rename(&disk, home.path("moved.raw")).unwrap();

    let refused = home.json_error(&["start", "web"], 3);

    assert_eq!(refused["code"], LOST, "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("not found (in use since "), "{refused}");
    assert!(hints(&refused).contains("maqet start web --recreate hdd"), "{refused}");
    assert!(!disk.exists());
    fs::rename(home.path("moved.raw"), &disk).unwrap();
    home.json(&["start", "web"]);
    let removed = home.json(&["rm", "web", "--force"]);
    assert_eq!(removed["kept_storage"], json!([]), "it is a file of the user");
    assert!(disk.exists());
}
