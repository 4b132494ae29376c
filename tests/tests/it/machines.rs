//! The machines in `docs/examples/machines`: each is expressed by keys, with at most two raw arguments, and QEMU starts it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::{env, fs};

use maqet_testkit::{TestHome, guest, qemu, wait};
use serde_json::{Value, json};

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

/// Returns the types of the devices that the definition names, and of those without an ID, as QEMU reports them.
fn devices(home: &TestHome, name: &str) -> Vec<String> {
    let listed = ["/machine/peripheral", "/machine/peripheral-anon"].map(|path| {
        let reply = home.json(&["qmp", name, "qom-list", &format!("path={path}")]);
        reply.as_array().unwrap().iter().map(|device| device["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    });
    let types = listed.concat();
    types.iter().filter_map(|kind| Some(kind.strip_prefix("child<")?.strip_suffix('>')?.to_owned())).collect()
}

fn property(home: &TestHome, name: &str, path: &str, property: &str) -> Value {
    home.json(&["qmp", name, "qom-get", &format!("path={path}"), &format!("property={property}")])
}

/// Returns the type of the CPUs and their number.
fn cpus(home: &TestHome, name: &str) -> (Value, usize) {
    let cpus = home.json(&["qmp", name, "query-cpus-fast"]);
    let path = cpus[0]["qom-path"].as_str().unwrap().to_owned();
    (property(home, name, &path, "type"), cpus.as_array().unwrap().len())
}

/// Returns the lines of a command of the human monitor.
fn monitor(home: &TestHome, name: &str, line: &str) -> String {
    let reply = home.json(&["qmp", name, "human-monitor-command", &format!("command-line={line}")]);
    reply.as_str().unwrap().to_owned()
}

/// Asserts what distinguishes a machine from the others, as QEMU reports it.
fn check_facts(home: &TestHome, name: &str) {
    let has = |device: &str| devices(home, name).iter().any(|known| known == device);
    let ask = |command: &str| home.json(&["qmp", name, command]);
    let is_true = match name {
        "arm64" => cpus(home, name) == (json!("cortex-a72-arm-cpu"), 2) && has("virtio-scsi-pci"),
        "ci" => has("virtio-9p-pci") && has("pvpanic") && !has("virtio-net-pci"),
        "cloud" => ask("query-balloon")["actual"] == 2_u64 << 30 && has("scsi-cd"),
        "desktop" => has("usb-tablet") && has("usb-host") && has("hda-duplex") && ask("query-vnc")["service"] == "5927",
        "devbox" => ask("query-memdev")[0]["share"] == true && has("vhost-user-fs-pci"),
        "installer" => {
            let index = |device: &str| property(home, name, &format!("/machine/peripheral/{device}"), "bootindex");
            (index("root"), index("cd")) == (json!(0), json!(1))
        }
        "macos" => {
            let (model, count) = cpus(home, name);
            model.as_str().unwrap().starts_with("Haswell-noTSX") && count == 4 && has("isa-applesmc") && has("vmxnet3")
        }
        "microvm" => {
            let machine = |key| property(home, name, "/machine", key);
            machine("type") == "microvm-machine" && machine("pit") == "off" && machine("pcie") == "on"
        }
        "numa" => numa(home, name) == (vec![1536, 512], vec![0, 0, 1, 1]),
        "riscv64" => cpus(home, name) == (json!("rv64-riscv-cpu"), 4) && has("virtio-blk-pci"),
        "router" => {
            let cards = devices(home, name).iter().filter(|device| *device == "virtio-net-pci").count();
            cards == 2 && has("i6300esb") && monitor(home, name, "info network").contains("230.0.0.1")
        }
        "windows" => {
            let tpm = &ask("query-tpm")[0];
            tpm["model"] == "tpm-crb" && property(home, name, "/machine", "smm") == "on" && has("hda-duplex")
        }
        _ => panic!("nothing is known of {name}"),
    };
    assert!(is_true, "{name}: {:?}", devices(home, name));
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
    check_facts(&home, name);
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

/// Without the user's backend, QEMU would get another one; with one of another size, it does not start.
#[test]
fn test_share_uses_the_memory_backend_of_the_user() {
    let home = TestHome::new();
    let _share = Virtiofsd::start(&home);
    let machine = |size: &str| {
        let backend = format!("  - {{object: memory-backend-memfd, id: mine, size: {size}, share: on}}\n");
        let share = "storage: {name: src, type: virtiofs, socket: ./virtiofsd.sock}\n";
        home.write("machine.yaml", format!("{}{backend}{share}", guest::paused_yaml("web")));
    };

    machine("64M");
    let refused =
        [&["add"][..], &["config", "check"]].map(|command| home.maqet(command).arg("machine.yaml").run().code(2));
    machine("32M");
    home.maqet(["add", "machine.yaml"]).run().ok();
    home.json(&["start", "web"]);

    for refused in refused {
        assert!(refused.stderr.contains("memory backend `mine` has 64M, and the VM has 32M of memory"), "{refused}");
    }
    let backends = home.json(&["qmp", "web", "query-memdev"]);
    let facts = ["id", "size", "share"].map(|key| backends[0][key].clone());
    assert_eq!((facts, backends.as_array().unwrap().len()), ([json!("mine"), json!(32 << 20), json!(true)], 1));
    assert!(devices(&home, "web").contains(&"vhost-user-fs-pci".to_owned()));
    home.json(&["stop", "web", "--force"]);
}
