//! Images that QEMU could not open: recognized before QEMU is started, by `doctor` and by `inspect`.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use maqet_testkit::{TestHome, guest};
use serde_json::{Value, json};

fn qemu_img(home: &TestHome, arguments: &[&str]) {
    let output = Command::new("qemu-img").args(arguments).current_dir(home.root()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Creates a qcow2 image with 2 MiB of data.
fn image(home: &TestHome, name: &str) -> PathBuf {
    let data = home.write("data.raw", vec![7; 2 << 20]);
    qemu_img(home, &["convert", "-f", "raw", "-O", "qcow2", data.to_str().unwrap(), name]);
    home.path(name)
}

fn overlay(home: &TestHome, name: &str, backing: &str) {
    qemu_img(home, &["create", "-q", "-f", "qcow2", "-b", backing, "-F", "qcow2", name]);
}

fn patch(path: &Path, offset: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

fn define(home: &TestHome, name: &str, drive: &str) {
    home.add(&format!("{}storage: [{{name: hdd, {drive}}}]\n", guest::paused_yaml(name)));
}

/// Damages the image `hdd.qcow2` in one way; returns the expected code, exit code and a part of the hints.
type Damage = fn(&TestHome) -> (&'static str, i32, &'static str);

const DAMAGES: [Damage; 7] = [
    |home| {
        patch(&home.path("hdd.qcow2"), 79, &[2]);
        ("storage.image-corrupt", 69, "qemu-img check -r all")
    },
    |home| {
        OpenOptions::new().write(true).open(home.path("hdd.qcow2")).unwrap().set_len(400_000).unwrap();
        ("storage.image-corrupt", 69, "truncate -s ")
    },
    |home| {
        fs::write(home.path("hdd.qcow2"), vec![0; 1 << 20]).unwrap();
        ("storage.format-conflict", 2, "type: raw")
    },
    |home| {
        qemu_img(home, &["create", "-q", "-f", "vmdk", "hdd.qcow2", "1M"]);
        ("storage.format-conflict", 2, "qemu-img convert -f vmdk -O qcow2")
    },
    |home| {
        patch(&home.path("hdd.qcow2"), 7, &[9]);
        ("storage.version-unsupported", 69, "qemu-img info")
    },
    |home| {
        // The method LUKS. `qemu-img` may fail to create such an image on a busy host, since it measures the CPU.
        patch(&home.path("hdd.qcow2"), 35, &[2]);
        ("storage.encryption-unsupported", 69, "arguments")
    },
    |home| {
        image(home, "base.qcow2");
        overlay(home, "hdd.qcow2", "base.qcow2");
        fs::rename(home.path("base.qcow2"), home.path("elsewhere.qcow2")).unwrap();
        ("storage.backing-not-found", 3, "qemu-img rebase -u -b NEW_PATH")
    },
];

#[test]
fn test_start_unusable_image_fails_before_qemu_with_a_way() {
    for damage in DAMAGES {
        let home = TestHome::new();
        let path = image(&home, "hdd.qcow2");
        define(&home, "web", "file: hdd.qcow2");
        let (code, exit, hint) = damage(&home);

        let refused = home.json_error(&["start", "web"], exit);
        let doctor = home.maqet(["doctor", "--format", "json"]).run().code(1).json_value();
        let inspected = home.json(&["inspect", "web"])["disks"][0].clone();

        assert_eq!(refused["code"], code, "{refused}");
        assert!(refused["hints"].to_string().contains(hint), "{hint}: {refused}");
        assert!(refused["message"].as_str().unwrap().contains(path.to_str().unwrap()), "{refused}");
        assert_eq!(home.json(&["status", "web"])["status"], "defined", "QEMU was not started");
        let finding = doctor["findings"].as_array().unwrap().iter().find(|one| one["area"] == "vm").unwrap();
        assert_eq!((&finding["severity"], &finding["message"]), (&json!("problem"), &refused["message"]));
        assert_eq!((&inspected["problem"], &inspected["hints"]), (&refused["message"], &refused["hints"]));
        // QEMU agrees.
        let blockdev = format!("driver=qcow2,node-name=a,file.driver=file,file.filename={}", path.display());
        let qemu = ["-machine", "none", "-accel", "tcg", "-display", "none", "-S", "-blockdev", &blockdev];
        if hint != "truncate -s " {
            assert!(!Command::new("qemu-system-x86_64").args(qemu).output().unwrap().status.success(), "{code}");
        }
    }
}

#[test]
fn test_start_repaired_image_runs_and_dirty_one_is_noted() {
    let home = TestHome::new();
    let path = image(&home, "hdd.qcow2");
    define(&home, "web", "file: hdd.qcow2");
    patch(&path, 79, &[2]);
    home.json_error(&["start", "web"], 69);

    qemu_img(&home, &["check", "-q", "-r", "all", "hdd.qcow2"]);
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);
    patch(&path, 79, &[1]);
    let doctor = home.json(&["doctor"]);
    home.json(&["start", "web"]);

    let finding = doctor["findings"].as_array().unwrap().iter().find(|one| one["area"] == "vm").unwrap();
    assert_eq!(finding["severity"], "note", "{finding}");
    assert!(finding["message"].as_str().unwrap().contains("was not closed"), "{finding}");
    assert_eq!(fs::read(&path).unwrap()[79], 0, "QEMU repaired it");
    home.json(&["stop", "web", "--force"]);
}

/// Runs maqet as a user who may not override permissions, which root may.
fn without_override(home: &TestHome, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = command_without_override(home, arguments).output().unwrap();
    let error = serde_json::from_slice(&output.stderr).unwrap_or_else(|_| json!({ "error": null }));
    (output.status.code(), error["error"].clone())
}

/// The same, as a command.
pub(crate) fn command_without_override(home: &TestHome, arguments: &[&str]) -> Command {
    let maqet = home.maqet(arguments).args(["--format", "json"]).into_command();
    let dropped = "-dac_override,-dac_read_search";
    let mut command = Command::new("setpriv");
    if fs::metadata("/proc/self").is_ok_and(|found| std::os::unix::fs::MetadataExt::uid(&found) == 0) {
        command.args(["--bounding-set", dropped, "--inh-caps", dropped]);
    }
    command.arg(maqet.get_program()).args(maqet.get_args()).current_dir(home.root()).env_clear();
    command.envs(home.environment());
    command
}

#[test]
fn test_start_image_without_permission_is_refused() {
    let home = TestHome::new();
    let path = image(&home, "hdd.qcow2");
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    define(&home, "web", "file: hdd.qcow2");
    define(&home, "reader", "file: hdd.qcow2, readonly: true");

    mode(&path, 0o400);
    let read_only = without_override(&home, &["start", "web"]);
    let reader = without_override(&home, &["start", "reader"]);
    home.json(&["stop", "reader", "--force"]);
    mode(&path, 0);
    let unreadable = without_override(&home, &["start", "web"]);

    for (found, access) in [(read_only, "written"), (unreadable, "read")] {
        assert_eq!((found.0, &found.1["code"]), (Some(69), &json!("storage.access-refused")), "{found:?}");
        let message =
            format!("disk image `{}` cannot be {access}: permission denied", home.path("hdd.qcow2").display());
        assert_eq!(found.1["message"], message);
    }
    assert_eq!(reader.0, Some(0), "{reader:?}");
}

#[test]
fn test_start_disk_of_running_vm_names_that_vm() {
    let home = TestHome::new();
    image(&home, "shared.qcow2");
    image(&home, "base.qcow2");
    overlay(&home, "over.qcow2", "base.qcow2");
    define(&home, "first", "file: shared.qcow2");
    define(&home, "second", "file: shared.qcow2");
    define(&home, "writer", "file: base.qcow2");
    define(&home, "over", "file: over.qcow2");
    for reader in ["reader1", "reader2"] {
        define(&home, reader, "file: base.qcow2, readonly: true");
    }
    home.json(&["start", "first"]);
    home.json(&["start", "writer"]);

    let same = home.json_error(&["start", "second"], 75);
    let base = home.json_error(&["start", "over"], 75);
    home.json(&["stop", "writer", "--force"]);
    home.json(&["start", "over"]);
    home.json(&["start", "reader1"]);
    home.json(&["start", "reader2"]);
    let written = home.json_error(&["start", "writer"], 75);

    for (error, user) in [(&same, "first"), (&base, "writer")] {
        assert_eq!(error["code"], "storage.in-use", "{error}");
        assert!(error["message"].as_str().unwrap().ends_with(&format!("is in use by VM `{user}`")), "{error}");
        assert!(error["hints"].to_string().contains(&format!("maqet stop {user}")), "{error}");
    }
    assert_eq!(written["code"], "storage.in-use", "{written}");
    assert_eq!(home.json(&["status", "second"])["status"], "defined", "QEMU was not started");
    home.json(&["stop", "--all", "--force"]);
}

#[test]
fn test_apply_backing_file_of_existing_image_is_kept() {
    let home = TestHome::new();
    for base in ["old.qcow2", "new.qcow2"] {
        image(&home, base);
    }
    let [old, new] = ["old.qcow2", "new.qcow2"].map(|name| home.path(name).to_str().unwrap().to_owned());
    define(&home, "web", "file: hdd.qcow2, backing_file: old.qcow2, backing_format: qcow2");
    assert_eq!(home.json(&["start", "web"]).get("backing_mismatches"), None);
    home.json(&["stop", "web", "--force"]);

    let value = format!("storage.hdd.backing_file={new}");
    let noted = home.maqet(["apply", "web", "--dry-run", "--set", &value]).run().ok();
    let applied = home.json(&["apply", "web", "--set", &value]);
    let started = home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);

    let hdd = home.path("hdd.qcow2").to_str().unwrap().to_owned();
    let kept = json!([{ "drive": "hdd", "file": hdd, "backing_file": old, "configured": new }]);
    assert_eq!((&applied["backing_mismatches"], &started["backing_mismatches"]), (&kept, &kept));
    assert!(noted.stderr.contains(&format!("drive `hdd` keeps its backing file `{old}`")), "{noted}");
    let rebase = format!("qemu-img rebase -b {new} -F qcow2 {hdd}");
    assert!(noted.stderr.contains(&rebase), "{noted}");
    qemu_img(&home, &rebase.split(' ').skip(1).collect::<Vec<&str>>());
    assert_eq!(home.json(&["start", "web"]).get("backing_mismatches"), None);
    home.json(&["stop", "web", "--force"]);
}
