//! `maqet storage resize`: stopped and running, and what is refused.

use maqet_testkit::guest;
use serde_json::json;

use super::{VM, content, home_with, image, write_patterns, yaml};

#[test]
fn test_resize_grows_stopped_and_running_vm() {
    let home = home_with("  - {name: hdd, size: 4M}\n  - {name: raw, type: raw, size: 1M, interface: scsi}\n");
    write_patterns(&image(&home, "hdd.qcow2"), "qcow2", &["write -P 5 0 4M"]);
    write_patterns(&image(&home, "raw.raw"), "raw", &["write -P 6 0 1M"]);

    let stopped = home.json(&["storage", "resize", VM, "hdd", "8M"]);
    home.json(&["start", VM]);
    let running = home.json(&["storage", "resize", VM, "hdd", "+8M"]);
    home.json(&["storage", "resize", VM, "raw", "3M"]);

    assert_eq!((&stopped["live"], &running["live"]), (&json!(false), &json!(true)));
    assert_eq!((&running["before_bytes"], &running["size_bytes"]), (&json!(8 << 20), &json!(16 << 20)));
    let blocks = home.json(&["qmp", VM, "query-block"]);
    let seen = |drive: &str| {
        let of_drive = |block: &&serde_json::Value| block["inserted"]["node-name"] == drive;
        blocks.as_array().unwrap().iter().find(of_drive).unwrap()["inserted"]["image"]["virtual-size"].clone()
    };
    assert_eq!((seen("hdd"), seen("raw")), (json!(16 << 20), json!(3 << 20)));
    let definition = home.json(&["info", VM])["definition"]["storage"].clone();
    assert_eq!((&definition[0]["size"], &definition[1]["size"]), (&json!("16M"), &json!("3M")));
    assert_eq!(home.json(&["restart", VM, "--force"]).get("size_mismatches"), None);
    home.json(&["stop", VM, "--force"]);
    let again = home.json(&["storage", "resize", VM, "hdd", "16M"]);
    assert_eq!((&again["resized"], &again["definition_changed"]), (&json!(false), &json!(false)));
    // The content is the old one, and zeros behind it.
    home.json(&["storage", "resize", VM, "raw", "1M", "--shrink"]);
    home.json(&["storage", "resize", VM, "hdd", "4M", "--shrink"]);
    let fresh = home_with("  - {name: hdd, size: 4M}\n  - {name: raw, type: raw, size: 1M}\n");
    write_patterns(&image(&fresh, "hdd.qcow2"), "qcow2", &["write -P 5 0 4M"]);
    write_patterns(&image(&fresh, "raw.raw"), "raw", &["write -P 6 0 1M"]);
    for (name, format) in [("hdd.qcow2", "qcow2"), ("raw.raw", "raw")] {
        assert_eq!(content(&image(&home, name), format), content(&image(&fresh, name), format), "{name}");
    }
}

#[test]
fn test_resize_that_loses_data_is_refused() {
    let home = home_with("  - {name: hdd, size: 4M}\n");
    let base = image(&home, "hdd.qcow2");
    let storage = format!("storage: [{{name: o, backing_file: {}}}]\n", base.display());
    home.add(&(guest::paused_yaml("overlay") + &storage));
    home.json(&["start", "overlay"]);
    home.json(&["stop", "overlay", "--force"]);
    let refusal = |arguments: &[&str]| home.json_error(&[&["storage", "resize", VM, "hdd"], arguments].concat(), 4);

    let without_option = refusal(&["1M"]);
    let of_base = refusal(&["1M", "--shrink"]);
    home.json(&["storage", "resize", "overlay", "o", "6M"]);
    let of_overlay = home.json_error(&["storage", "resize", "overlay", "o", "3M", "--shrink"], 2);
    home.json(&["storage", "resize", "overlay", "o", "4M", "--shrink"]);
    home.json(&["storage", "convert", "overlay", "o", "qcow2", "--remove-old"]);
    home.json(&["storage", "resize", "overlay", "o", "3M", "--shrink"]);
    home.json(&["rm", "overlay"]);
    home.json(&["start", VM]);
    let running = refusal(&["1M", "--shrink"]);
    home.json(&["apply", VM, "--set", "storage.hdd.file=/nonexistent/x.qcow2"]);
    home.json(&["stop", VM, "--force"]);

    assert_eq!(without_option["code"], "storage.shrink-refused", "{without_option}");
    assert_eq!(of_base["code"], "storage.image-in-use", "{of_base}");
    assert_eq!(of_overlay["code"], "storage.size-conflict", "{of_overlay}");
    assert!(of_overlay["message"].as_str().unwrap().contains("hdd.qcow2` has 4M"), "{of_overlay}");
    assert!(of_overlay["hints"][1].as_str().unwrap().contains("maqet storage convert overlay o qcow2"), "{of_overlay}");
    assert!(of_base["message"].as_str().unwrap().contains("drive `o` of VM `overlay`"), "{of_base}");
    assert_eq!(running["code"], "vm.status-conflict", "{running}");
    home.maqet(["storage", "resize", VM, "hdd", "8M"]).run().code(3);
}

#[test]
fn test_resize_of_drive_that_the_running_vm_lacks_is_refused() {
    let home = home_with("  - {name: hdd, size: 4M}\n");
    home.json(&["start", VM]);
    let file =
        home.write("vm.yaml", yaml("  - {name: hdd, size: 4M}\n  - {name: later, type: raw, file: other.raw}\n"));
    home.write("other.raw", vec![0; 1 << 20]);
    home.maqet(["apply", VM]).arg(file).run().ok();

    let refused = home.json_error(&["storage", "resize", VM, "later", "2M"], 4);

    assert_eq!(refused["code"], "storage.drive-conflict", "{refused}");
    assert_eq!(std::fs::metadata(home.path("other.raw")).unwrap().len(), 1 << 20);
    home.json(&["stop", VM, "--force"]);
}

/// The QEMU of a VM with backups was killed, after which the record of what changed since them is not valid.
#[test]
fn test_resize_with_invalid_record_of_changes_works() {
    let home = home_with("  - {name: hdd, size: 4M}\n");
    let bitmap = ["qmp", VM, "block-dirty-bitmap-add", "node=hdd", "name=maqet-backup-x", "persistent=true"];

    for sizes in [["6M", "8M"], ["10M", "12M"]] {
        home.json(&["start", VM]);
        home.json(&bitmap);
        // Saves the bitmap, which the next QEMU then has open when it is killed.
        home.json(&["qmp", VM, "quit"]);
        home.json(&["wait", VM, "--for", "stopped", "--timeout", "1m"]);
        home.json(&["start", VM]);
        home.json(&["stop", VM, "--force"]);
        let is_live = sizes[0] == "10M";
        if is_live {
            home.json(&["start", VM]);
        }

        let resized = home.json(&["storage", "resize", VM, "hdd", sizes[0]]);

        assert_eq!((&resized["resized"], &resized["live"]), (&json!(true), &json!(is_live)));
        home.json(&["storage", "resize", VM, "hdd", sizes[1]]);
        home.json(&["stop", VM, "--force"]);
    }
    assert_eq!(home.json(&["storage", "verify", VM, "hdd"])["sound"], true);
}

#[test]
fn test_resize_that_is_refused_keeps_the_record_of_changes() {
    let home = home_with("  - {name: hdd, size: 4M}\n");
    // More than the tables of a qcow2 image can have.
    let resize = ["storage", "resize", VM, "hdd", "4000000000000000000"];
    let backup = || home.json(&["backup", "create", VM])["backup"]["kind"].clone();

    let first = backup();
    home.maqet(resize).run().code(1);
    let stopped = backup();
    home.json(&["start", VM]);
    home.maqet(resize).run().code(1);
    let running = backup();
    home.json(&["stop", VM, "--force"]);

    assert_eq!([first, stopped, running], ["full", "incremental", "incremental"]);
}
