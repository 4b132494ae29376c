//! The machines in `docs/examples/machines`: each is expressed by keys, with at most two raw arguments, and QEMU starts it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::{env, fs};

use maqet_testkit::{TestHome, qemu, wait};
use serde_json::Value;

/// Those that the QEMU of the tests can run; QEMU 10.0 is unpacked for x86 only.
const OF_OTHER_ARCHITECTURES: [&str; 2] = ["arm64", "riscv64"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/machines")
}

/// Returns the names of the machines and their texts.
fn machines() -> Vec<(String, String)> {
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut machines: Vec<(String, String)> = entries
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap()))
        .collect();
    machines.sort();
    machines
}

/// Creates the files of a machine: what it names relative to its own file.
fn create_files(home: &TestHome, text: &str) {
    for word in text.split(|character: char| character.is_whitespace() || ",{}\"".contains(character)) {
        let Some(name) = word.strip_prefix("./") else { continue };
        let path = home.path(name);
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("qcow2") => {
                let mut create = Command::new("qemu-img");
                create.args(["create", "-q", "-f", "qcow2"]).arg(&path).arg("64M");
                assert!(create.status().unwrap().success());
            }
            Some("fd") => drop(fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", &path).unwrap()),
            Some("sock") => {}
            None if name == "rootfs" => fs::create_dir(&path).unwrap(),
            _ => drop(home.write(name, vec![0; 1 << 20])),
        }
    }
}

/// A virtiofsd that serves a directory of the home, if the machine has a share.
struct Virtiofsd(Child);

impl Virtiofsd {
    fn start(home: &TestHome) -> Self {
        let (socket, shared) = (home.path("virtiofsd.sock"), home.path("shared"));
        fs::create_dir(&shared).unwrap();
        let child = Command::new("/usr/lib/qemu/virtiofsd")
            .arg(format!("--socket-path={}", socket.display()))
            .args(["-o", &format!("source={}", shared.display()), "-o", "sandbox=chroot"])
            .stderr(fs::File::create(home.path("virtiofsd.log")).unwrap())
            .spawn()
            .unwrap();
        wait::until_listening(&socket);
        Self(child)
    }
}

impl Drop for Virtiofsd {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

fn raw_arguments(definition: &Value) -> usize {
    ["arguments", "args"].iter().filter_map(|key| definition[key].as_array()).map(Vec::len).sum()
}

/// Returns the sizes of the memory of the NUMA nodes in MiB, and the node of each CPU, as QEMU reports them.
fn numa(home: &TestHome, name: &str) -> (Vec<u64>, Vec<u64>) {
    let memory = home.json(&["qmp", name, "query-memdev"]);
    let cpus = home.json(&["qmp", name, "query-cpus-fast"]);
    let number = |value: &Value| value.as_u64().unwrap();
    let mut backends = memory.as_array().unwrap().clone();
    backends.sort_by_key(|backend| backend["id"].to_string());
    (
        backends.iter().map(|backend| number(&backend["size"]) >> 20).collect(),
        cpus.as_array().unwrap().iter().map(|cpu| number(&cpu["props"]["node-id"])).collect(),
    )
}

fn start(name: &str, text: &str) {
    let home = TestHome::new();
    create_files(&home, text);
    let _share = text.contains("virtiofsd.sock").then(|| Virtiofsd::start(&home));
    let file = home.write("machine.yaml", text);
    // Guests of this host are emulated, and none of them runs.
    home.maqet(["add"]).arg(&file).args(["--set", "accel=tcg"]).run().ok();

    let definition = home.json(&["info", name])["config"].clone();
    assert!(raw_arguments(&definition) <= 2, "{name}: {definition}");
    let started = home.json(&["start", name, "--paused"]);
    assert_eq!(started["status"], "paused", "{name}: {started}");
    if name == "numa" {
        assert_eq!(numa(&home, name), (vec![1536, 512], vec![0, 0, 1, 1]));
    }
    home.json(&["stop", name, "--force"]);
}

#[test]
fn test_machines_of_the_documentation_are_accepted_by_qemu() {
    let machines = machines();
    let foreign = |name: &str| OF_OTHER_ARCHITECTURES.contains(&name);

    for (name, text) in machines.iter().filter(|(name, _)| !foreign(name) || !qemu::is_unpacked()) {
        start(name, text);
    }

    assert_eq!(machines.len(), 12);
}
