//! What a change must leave as it was.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::process::Command;

use maqet_testkit::TestHome;
use rusqlite::Connection;
use serde_json::{Value, json};

/// A VM with a disk that holds data, and two snapshots with other data.
pub(super) const WEB: &str = "name: web\nmemory: 64M\nstorage:\n  - {name: hdd, size: 4M}\n";

/// Runs `qemu-io` on an image, and asserts success.
#[track_caller]
pub(super) fn qemu_io(image: &Path, command: &str) {
    let done = Command::new("qemu-io").args(["-f", "qcow2", "-c", command]).arg(image).output().unwrap();
    assert!(done.status.success(), "{command}: {done:?}");
}

/// Defines `web`, and fills its disk and two snapshots with different data.
pub(super) fn web_with_data(home: &TestHome) {
    home.add(WEB);
    home.json(&["snapshot", "create", "web", "hdd", "empty"]);
    let image = home.data().join("storage/web/hdd.qcow2");
    qemu_io(&image, "write -P 0x11 0 64k");
    home.json(&["snapshot", "create", "web", "hdd", "one"]);
    qemu_io(&image, "write -P 0x22 0 128k");
}

/// Returns a digest of what the guest sees of an image.
pub(super) fn content(home: &TestHome, image: &Path, format: &str) -> u64 {
    let raw = home.path("content.raw");
    // Shared, as it may be the disk of a VM that runs.
    let convert =
        Command::new("qemu-img").args(["convert", "-U", "-f", format, "-O", "raw"]).arg(image).arg(&raw).output();
    assert!(convert.as_ref().is_ok_and(|done| done.status.success()), "{convert:?}");
    let mut digest = DefaultHasher::new();
    fs::read(&raw).unwrap().hash(&mut digest);
    digest.finish()
}

/// Returns all that an undo must bring back: VMs with their definitions, records, snapshots, and what guests see.
pub(super) fn state(home: &TestHome) -> Value {
    let database = Connection::open(home.data().join("maqet.db")).unwrap();
    let rows = |sql: &str| -> Vec<String> {
        let mut statement = database.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let vms = rows("SELECT name || ' ' || id || ' ' || created_at || ' ' || coalesce(boot, 0) FROM vm ORDER BY name");
    let definitions = rows("SELECT vm || content || origins FROM definition ORDER BY vm");
    let records =
        rows("SELECT path || ' ' || vm || ' ' || drive || ' ' || kind FROM storage WHERE vm IS NOT NULL ORDER BY path");
    let mut disks = BTreeMap::new();
    for (file, format) in
        rows("SELECT path FROM storage WHERE vm IS NOT NULL").iter().map(|path| (path, format_of(path)))
    {
        let snapshots = Command::new("qemu-img").args(["info", "-U", "--output", "json", file]).output().unwrap();
        let info: Value = serde_json::from_slice(&snapshots.stdout).unwrap();
        let names: Vec<&Value> =
            info["snapshots"].as_array().into_iter().flatten().map(|found| &found["name"]).collect();
        let digest = content(home, Path::new(file), format);
        disks.insert(file.clone(), json!({ "snapshots": names, "size": info["virtual-size"], "content": digest }));
    }
    json!({ "vms": vms, "definitions": definitions, "records": records, "disks": disks })
}

/// Returns the format of an image; the state of a TPM is compared byte by byte.
fn format_of(path: &str) -> &'static str {
    if Path::new(path).extension().is_some_and(|extension| extension == "qcow2") { "qcow2" } else { "raw" }
}
