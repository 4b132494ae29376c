//! Undo of loads of a VM with UEFI variables and a TPM, whose states come back with the disks.

use std::fs;
use std::path::PathBuf;

use maqet_testkit::{TestHome, guest};
use serde_json::Value;

use super::fixture::{content, qemu_io};

/// What loads and their undos replace.
#[derive(PartialEq)]
struct State {
    disk: u64,
    variables: u64,
    tpm: Vec<u8>,
    snapshots: Vec<Value>,
}

struct Web(TestHome);

impl Web {
    /// Defines a VM, and starts and stops it once, which creates its variables and its TPM.
    fn new() -> Self {
        let home = TestHome::new();
        let keys = "machine: q35\nfirmware: uefi\ntpm: true\nstorage: [{name: hdd, size: 4M}]\n";
        home.add(&(guest::paused_yaml("web") + keys));
        home.json(&["start", "web"]);
        home.json(&["stop", "web", "--force"]);
        Self(home)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.data().join("storage/web").join(name)
    }

    /// Writes to all of them, as a guest does.
    fn write(&self, byte: u8) {
        for image in ["hdd.qcow2", "uefi-vars.qcow2"] {
            qemu_io(&self.file(image), &format!("write -P {byte} 64k 64k"));
        }
        fs::write(self.file("tpm2-00.permall"), vec![byte; 100]).unwrap();
    }

    fn state(&self) -> State {
        let digest = |name| content(&self.0, &self.file(name), "qcow2");
        let snapshots = self.0.json(&["snapshot", "ls", "web"]);
        State {
            disk: digest("hdd.qcow2"),
            variables: digest("uefi-vars.qcow2"),
            tpm: fs::read(self.file("tpm2-00.permall")).unwrap(),
            snapshots: snapshots.as_array().unwrap().iter().map(|found| found["name"].clone()).collect(),
        }
    }

    /// Returns the first byte of the state of the TPM.
    fn tpm(&self) -> u8 {
        fs::read(self.file("tpm2-00.permall")).unwrap()[0]
    }

    fn copies_of_tpm(&self) -> usize {
        let names = fs::read_dir(self.file("")).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().starts_with("tpm2-00.permall.")).count()
    }

    fn load(&self, snapshot: &str) {
        self.0.json(&["snapshot", "load", "web", "all", snapshot]);
    }
}

/// Each load keeps a copy of the TPM of its own: the last one alone would give an earlier undo another state.
#[test]
fn test_undo_of_several_loads_brings_back_variables_and_tpm() {
    let web = Web::new();
    web.write(1);
    web.0.json(&["snapshot", "create", "web", "all", "one"]);
    let mut states = Vec::new();
    for byte in 2..5 {
        web.write(byte);
        states.push(web.state());
        web.load("one");
    }
    // The state of the TPM before the last load comes back with the disks.
    web.write(5);
    states.push(web.state());
    web.load("before-load");
    let tpm_of_last = web.tpm();

    for state in states.iter().rev() {
        web.0.json(&["undo"]);
        assert!(web.state() == *state, "the TPM has {}, not {}", web.tpm(), state.tpm[0]);
    }
    assert_eq!((tpm_of_last, web.copies_of_tpm()), (4, 0));
    // Made again, the loads replace what was there before the first.
    web.0.json(&["redo", "4"]);
    assert_eq!((web.tpm(), web.copies_of_tpm()), (2, 4));
    web.0.json(&["undo", "4"]);
    assert!(web.state() == states[0]);
}

/// A guest that ran since may have written: the states before its run stay until the next load.
#[test]
fn test_undo_of_loads_of_a_vm_started_since_is_refused() {
    let web = Web::new();
    web.write(1);
    web.0.json(&["snapshot", "create", "web", "all", "one"]);
    web.write(2);
    web.load("one");
    web.write(3);
    web.load("one");
    // swtpm does not start with a state that it did not write.
    fs::rename(web.file("tpm2-00.permall"), web.file("kept")).unwrap();
    web.0.json(&["start", "web", "--recreate", "tpm-state"]);
    let running = web.0.json_error(&["undo"], 4);
    web.0.json(&["stop", "web", "--force"]);
    fs::rename(web.file("kept"), web.file("tpm2-00.permall")).unwrap();
    let before = web.state();

    let started = web.0.json_error(&["undo"], 4);

    assert!(running["causes"].to_string().contains("VM `web` is running"), "{running}");
    assert!(started["causes"].to_string().contains("VM `web` was started since"), "{started}");
    assert!(web.state() == before);
    assert_eq!(web.copies_of_tpm(), 2);
    web.write(4);
    web.load("one");
    assert_eq!(web.copies_of_tpm(), 1);
    web.write(5);
    web.0.json(&["undo"]);
    assert_eq!((web.tpm(), web.copies_of_tpm()), (4, 0));
}
