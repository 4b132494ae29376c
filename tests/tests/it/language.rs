//! What the configuration says reaches QEMU and is shown by the commands.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use maqet_testkit::{TestHome, guest, wait};
use serde_json::{Value, json};

#[test]
fn test_forward_port_zero_uses_free_port_shown_by_status() {
    let home = TestHome::new();
    home.add(&format!("{}network: {{forward: [\"0:22\", \"udp:0:53\"]}}\n", guest::paused_yaml("web")));

    let started = home.json(&["start", "web"]);
    let status = home.json(&["status", "web"]);

    let forwards = status["forwards"].as_array().unwrap();
    assert_eq!(forwards, started["forwards"].as_array().unwrap());
    assert_eq!((&forwards[0]["protocol"], &forwards[0]["guest_port"]), (&json!("tcp"), &json!(22)));
    assert_eq!((&forwards[1]["protocol"], &forwards[1]["host_address"]), (&json!("udp"), &json!("127.0.0.1")));
    let port = u16::try_from(forwards[0]["host_port"].as_u64().unwrap()).unwrap();
    assert_ne!(port, 0);
    TcpStream::connect(("127.0.0.1", port)).unwrap();
    home.json(&["stop", "web", "--force"]);
    assert_eq!(home.json(&["status", "web"]).get("forwards"), None);
}

#[test]
fn test_forward_port_zero_of_two_vms_differs() {
    let home = TestHome::new();
    let ports: Vec<Value> = ["one", "two"]
        .into_iter()
        .map(|name| {
            home.add(&format!("{}network: {{forward: [\"0:22\"]}}\n", guest::paused_yaml(name)));
            home.json(&["start", name])["forwards"][0]["host_port"].clone()
        })
        .collect();

    assert_ne!(ports[0], ports[1]);
    home.maqet(["stop", "--all", "--force"]).run().ok();
}

#[test]
fn test_storage_every_interface_and_type_starts() {
    let home = TestHome::new();
    fs::create_dir(home.path("share")).unwrap();
    home.write("cd.iso", [0; 4096]);
    let interfaces = ["virtio", "scsi", "scsi", "sata", "sata", "ide", "ide", "nvme", "none"];
    let drives = interfaces.iter().enumerate().fold(String::new(), |yaml, (index, interface)| {
        yaml + &format!("  - {{name: d{index}, size: 1M, interface: {interface}}}\n")
    });
    for machine in ["pc", "q35"] {
        home.add(&format!(
            "{}machine: {machine}\ncpu_model: max\nboot: {{order: c}}\nstorage:\n{drives}  - {{name: n, type: nvme, \
             size: 1M}}\n  - {{name: cd, type: iso, file: cd.iso}}\n  - {{name: src, type: virtfs, path: share}}\n  \
             - {{name: docs, type: virtfs, path: share, readonly: true}}\nnetwork:\n  - {{mac: \"52:54:00:12:34:56\"}}\n  \
             - {{name: lan, model: e1000}}\n",
            guest::paused_yaml(machine)
        ));

        home.json(&["start", machine]);

        let nodes = home.json(&["qmp", machine, "query-named-block-nodes"]);
        assert!(nodes.as_array().unwrap().iter().any(|node| node["node-name"] == "d8"), "{machine}");
        home.json(&["stop", machine, "--force"]);
    }
}

/// Returns the arguments of the only QEMU in this home, once its external monitor greets.
fn words_of_the_running(home: &TestHome) -> Vec<String> {
    let greeting = wait::until(Duration::from_mins(1), "the external monitor's greeting", || {
        let socket = home.files().into_iter().find(|path| path.ends_with("qmp-free.sock"))?;
        BufReader::new(UnixStream::connect(socket).ok()?).lines().next()?.ok()
    });
    assert!(greeting.contains("QMP"), "{greeting}");
    let pids = home.qemu_pids();
    assert_eq!(pids.len(), 1);
    let words = fs::read(format!("/proc/{}/cmdline", pids[0])).unwrap();
    words
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8(word.to_vec()).unwrap())
        .collect()
}

#[track_caller]
fn check_pasted_line(example: &str) {
    let home = TestHome::new();
    for folder in ["src", "docs"] {
        fs::create_dir(home.path(folder)).unwrap();
    }
    let base = ["create", "-q", "-f", "qcow2", "base.qcow2", "1M"];
    assert!(Command::new("qemu-img").args(base).current_dir(home.root()).status().unwrap().success());
    let file = home.write("example.yaml", fs::read(format!("../docs/examples/{example}.yaml")).unwrap());
    let over = "accel: tcg\narguments: [S]\nstorage: [{name: root, file: \"it's, a b.qcow2\"}]\n";
    let over = home.write("over.yaml", over);
    home.maqet(["add"]).arg(file).arg(over).run().ok();
    let line = home.maqet(["start", example, "--dry-run"]).run().ok().stdout;
    assert!(!home.path("it's, a b.qcow2").exists());

    let mut shell = Command::new("sh");
    shell.args(["-c", &line]).env_clear().envs(home.environment()).stdin(Stdio::null()).stderr(Stdio::null());
    let mut pasted = shell.spawn().unwrap();
    let by_hand = words_of_the_running(&home);
    let refused = home.json_error(&["start", example], 4);
    assert_eq!((&refused["code"], words_of_the_running(&home)), (&json!("vm.run-in-use"), by_hand.clone()));
    for qemu in home.qemu_pids() {
        assert!(Command::new("kill").arg(qemu.to_string()).status().unwrap().success());
    }
    pasted.wait().unwrap();

    home.json(&["start", example]);
    assert_eq!(words_of_the_running(&home), by_hand);
    home.json(&["stop", example, "--force"]);
}

#[test]
fn test_dry_run_of_uefi_pasted_runs_same_machine() {
    check_pasted_line("uefi");
}

#[test]
fn test_dry_run_of_shared_directories_pasted_runs_same_machine() {
    check_pasted_line("shared-directory");
}

#[test]
fn test_dry_run_of_overlay_pasted_runs_same_machine() {
    check_pasted_line("two-disks");
}

#[test]
fn test_info_origin_of_every_value_is_shown() {
    let home = TestHome::new();
    let base = home.write("base.yaml", "name: web\nmemory: 1G\n");
    let over = home.write("over.yaml", "cpu: 2\n");
    home.maqet(["add", "--set", "labels.team=a"]).arg(base).arg(over).run().ok();

    let origins = home.json(&["info", "web", "--origin"])["origins"].clone();

    assert!(origins["memory"].as_str().unwrap().ends_with("base.yaml:2:9"), "{origins}");
    assert!(origins["cpu"].as_str().unwrap().ends_with("over.yaml:1:6"), "{origins}");
    assert_eq!(origins["labels.team"], "option `--set labels.team`");
}

#[test]
fn test_apply_same_file_changes_nothing_and_keeps_origins() {
    let home = TestHome::new();
    let file = home.write("web.yaml", "name: web\ncpu: 2\nmemory: 512\nstorage:\n  - name: data\n  - name: root\n");
    home.maqet(["add"]).arg(file).run().ok();

    let same = home.json(&["apply", "web", "--cpu", "2", "--memory", "512", "--set", "cpu=2"]);
    let sized = home.json(&["apply", "web", "--set", "storage.root.size=20G"]);
    let origins = home.json(&["info", "web", "--origin"])["origins"].clone();

    assert_eq!((&same["changed"], &same["differences"]), (&json!(false), &json!([])));
    assert_eq!(sized["differences"][0]["path"], "storage.root.size");
    assert_eq!(sized["differences"].as_array().unwrap().len(), 1);
    assert_eq!(origins["storage[1].size"], "option `--set storage.root.size`");
    assert!(origins["storage[1].name"].as_str().unwrap().ends_with("web.yaml:6:11"), "{origins}");
}

#[test]
fn test_argument_null_removes_it_from_file_and_defaults() {
    let home = TestHome::new();
    home.write("config/maqet/maqet.conf", "defaults: {accel: tcg, arguments: [{append: quiet}]}\n");
    let base = home.write("base.yaml", "arguments: [{kernel: /a}, {initrd: /i}, {m: 64}]\n");
    let over = home.write("over.yaml", "name: web\narguments: [{kernel: null}, {kernel: /b}, {append: null}]\n");
    home.maqet(["add"]).arg(base).arg(over).run().ok();

    let line = home.json(&["info", "web", "--command-line"])["command_line"].to_string();

    assert!(line.contains("-initrd /i -m 64 -kernel /b"), "{line}");
    // `/a` alone would match a path of a VM whose id begins with an `a`.
    assert!(!line.contains("-kernel /a") && !line.contains("-append"), "{line}");
}

#[test]
fn test_defaults_of_settings_apply_to_every_vm_and_are_shown() {
    let home = TestHome::new();
    home.write("config/maqet/maqet.conf", "defaults: {memory: 48M, accel: tcg}\n");
    home.add("name: web\ncpu: 2\n");

    let argv = home.json(&["info", "web", "--command-line"])["command_line"].to_string();
    let shown = home.json(&["config", "show", "--origin"]);

    assert!(argv.contains("-accel tcg -m 48M -smp 2"), "{argv}");
    let memory = shown.as_array().unwrap().iter().find(|one| one["key"] == "defaults.memory").unwrap();
    assert!(memory["origin"].as_str().unwrap().contains("maqet.conf:1:"), "{memory}");
}

#[test]
fn test_apply_running_vm_shows_changes_for_next_start() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);

    let hooks = "hooks={vm.stopped: [/bin/true]}";
    let applied = home.json(&["apply", "web", "--memory", "64M", "--set", "labels.a=b", "--set", hooks]);

    let reported: Vec<(&Value, &Value)> =
        applied["differences"].as_array().unwrap().iter().map(|one| (&one["path"], &one["takes_effect"])).collect();
    let (now, next_start) = (&json!("now"), &json!("next-start"));
    assert_eq!(reported, [(&json!("memory"), next_start), (&json!("labels"), now), (&json!("hooks"), now)]);
    home.json(&["stop", "web", "--force"]);
    let again = home.json(&["apply", "web", "--memory", "64M"]);
    assert_eq!((&again["changed"], &again["differences"]), (&json!(false), &json!([])));
}

#[test]
fn test_share_symlink_to_system_folder_is_refused() {
    let home = TestHome::new();
    fs::create_dir(home.path("real")).unwrap();
    std::os::unix::fs::symlink("/etc", home.path("harmless")).unwrap();
    let file = home.write("vm.yaml", "name: web\nstorage: [{name: a, type: virtfs, path: real/../harmless}]\n");

    let finished = home.maqet(["add", "--format", "json"]).arg(file).run().code(2);

    let problem = &finished.json_error()["error"]["problems"][0];
    assert!(problem["message"].as_str().unwrap().contains("`/etc` is a system directory"), "{problem}");
    assert_eq!(home.json(&["ls"]), json!([]));
}

#[test]
fn test_info_share_shows_path_and_existence() {
    let home = TestHome::new();
    fs::create_dir(home.path("src")).unwrap();
    home.add(
        "name: web\nstorage:\n  - {name: src, type: virtfs, path: src}\n  - {name: fs, type: virtiofs, socket: no.sock}\n",
    );

    let storage = &home.json(&["info", "web"])["storage"];

    let shown = [0, 1].map(|index| (storage[index]["file"].as_str().unwrap(), storage[index]["exists"].as_bool()));
    let paths = ["src", "no.sock"].map(|name| home.path(name).to_str().unwrap().to_owned());
    assert_eq!(shown, [(paths[0].as_str(), Some(true)), (paths[1].as_str(), Some(false))]);
}

#[test]
fn test_set_on_single_card_keeps_its_other_keys() {
    let home = TestHome::new();
    home.add("name: web\nnetwork: {forward: [\"2222:22\"]}\n");

    home.json(&["apply", "web", "--set", "network.model=e1000"]);
    home.json(&["apply", "web", "--set", "network.forward=['3333:22']"]);
    home.json_error(&["apply", "web", "--set", "storage.hdd=5"], 2);

    let definition = &home.json(&["info", "web"])["definition"];
    assert_eq!(definition["network"], json!({"forward": ["3333:22"], "model": "e1000"}));
    assert_eq!(definition.get("storage"), None);
}
