//! VMs that go on from a checkpoint, on real QEMU.

use std::fs::{self, OpenOptions};
use std::net::UdpSocket;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use maqet_testkit::guest::CountSector;
use maqet_testkit::{TestHome, guest, port, process, qemu, serial, wait};
use serde_json::{Value, json};

use crate::backups::content;
use crate::live_snapshots::{Counting, assert_intact};

/// A counting VM with the checkpoint `booted`, after which it counts on.
fn checkpointed(home: TestHome) -> (Counting, u16) {
    let vm = Counting::start(home);
    let before = vm.count(3);
    vm.home.json(&["checkpoint", "create", "web", "booted"]);
    vm.count(3);
    (vm, before)
}

/// Returns the number that the guest of a VM wrote to a drive.
fn number(home: &TestHome, vm: &str, drive: &str) -> u16 {
    let content = content(home, &home.data().join(format!("storage/{vm}/{drive}.qcow2")));
    u16::from_le_bytes([content[0], content[1]])
}

fn names(home: &TestHome) -> Vec<String> {
    let listed = home.json(&["ls"]);
    listed.as_array().unwrap().iter().map(|vm| vm["name"].as_str().unwrap().to_owned()).collect()
}

fn checkpoint(home: &TestHome) -> PathBuf {
    let id = home.json(&["info", "web"])["id"].as_str().unwrap().to_owned();
    home.data().join("checkpoints").join(id).join("booted")
}

/// Returns the files of VMs other than `web`.
fn files_of_forks(home: &TestHome) -> Vec<PathBuf> {
    let below = ["storage", "checkpoints"].map(|name| home.data().join(name));
    let files = home.files().into_iter().filter(|path| below.iter().any(|directory| path.starts_with(directory)));
    not_of_web(home, files.collect())
}

/// Returns those of some files that belong to other VMs than `web`.
fn not_of_web(home: &TestHome, files: Vec<PathBuf>) -> Vec<PathBuf> {
    let own = home.json(&["info", "web"])["id"].as_str().unwrap().to_owned();
    let short = own.replace('-', "");
    let is_of_web = |path: &Path| {
        let text = path.to_string_lossy();
        text.contains("/web/") || text.contains(&own) || text.contains(&short[..12])
    };
    files.into_iter().filter(|path| !is_of_web(path)).collect()
}

#[test]
fn test_forks_go_on_with_memory_and_disks_of_their_own() {
    let (vm, before) = checkpointed(TestHome::new());
    let home = &vm.home;

    let forked = home.json(&["fork", "web@booted", "--count", "2", "--name", "copy"]);

    let forks = forked["forks"].as_array().unwrap();
    assert_eq!(names(home), ["copy-1", "copy-2", "web"]);
    let mut generations = vec![home.json(&["qmp", "web", "query-vm-generation-id"])["guid"].clone()];
    for fork in forks {
        assert_eq!(fork["status"], "running", "{fork}");
        let log = fork["serial_log"].as_str().unwrap();
        let counted = || Some(CountSector::numbers(&serial::text(log.as_ref()))).filter(|numbers| numbers.len() > 3);
        let numbers = wait::until(wait::LONG, "the fork counts", counted);
        // Nothing is left out or repeated.
        assert!(numbers[0] > before && numbers.windows(2).all(|two| two[1] == two[0] + 1), "{before} {numbers:?}");
        let name = fork["name"].as_str().unwrap();
        generations.push(home.json(&["qmp", name, "query-vm-generation-id"])["guid"].clone());
        let uuid = home.json(&["qmp", name, "query-uuid"])["UUID"].clone();
        assert_eq!(uuid, fork["id"]);
    }
    generations.dedup();
    assert_eq!(generations.len(), 3, "{generations:?}");

    // Each has its own disks, and the checkpoint has its own.
    let now = vm.count(3);
    let frozen = fs::read(vm.image("one")).unwrap();
    home.json(&["stop", "copy-1", "--force"]);
    let first = number(home, "copy-1", "one");
    assert!(first > before && number(home, "copy-1", "two") + 1 >= first, "{first}");
    assert!(fs::read(vm.image("one")).unwrap() == frozen);
    assert!(now > before);
    let held = home.json_error(&["checkpoint", "rm", "web", "booted"], 4);
    assert_eq!(held["code"], "checkpoint.in-use", "{held}");

    // From then on, it boots as any other.
    let started = home.json(&["start", "copy-1"]);
    assert_eq!(started["status"], "running");
    for fork in ["copy-1", "copy-2"] {
        home.json(&["rm", fork, "--force", "--delete-storage"]);
    }
    assert_eq!(files_of_forks(home), [] as [PathBuf; 0]);
    vm.count(2);
    home.json(&["stop", "web", "--force"]);
    for drive in ["one", "two"] {
        assert_intact(&vm.image(drive));
    }
}

#[test]
fn test_fork_that_stays_paused_is_resumed_later() {
    let (vm, _) = checkpointed(TestHome::new());
    let home = &vm.home;

    let forked = home.json(&["fork", "web@booted", "--name", "copy", "--paused"]);

    let fork = &forked["forks"][0];
    assert_eq!((&fork["name"], &fork["status"]), (&json!("copy"), &json!("paused")));
    assert_eq!(home.json(&["status", "copy"])["status"], "paused");
    assert_eq!(CountSector::numbers(&serial::text(fork["serial_log"].as_str().unwrap().as_ref())), [] as [u16; 0]);
    home.json(&["resume", "copy"]);
    let log = fork["serial_log"].as_str().unwrap();
    let counted = || Some(CountSector::numbers(&serial::text(log.as_ref()))).filter(|numbers| numbers.len() > 2);
    wait::until(wait::LONG, "the fork counts", counted);
    // Its name is in use.
    let error = home.json_error(&["fork", "web@booted", "--name", "copy"], 4);
    assert_eq!(error["code"], "vm.exists", "{error}");
    assert_eq!(names(home), ["copy", "web"]);
}

#[test]
fn test_ports_of_forks_are_chosen_by_qemu() {
    let home = TestHome::new();
    let port = port::free();
    let network = format!("network: {{name: lan, forward: ['{port}:22']}}\n");
    home.add(&(guest::paused_yaml("web") + &network));
    home.json(&["start", "web"]);
    home.json(&["resume", "web"]);
    home.json(&["checkpoint", "create", "web", "booted"]);

    let forked = home.json(&["fork", "web@booted", "--count", "2"]);

    let ports: Vec<&Value> = forked["forks"].as_array().unwrap().iter().map(|fork| &fork["forwards"][0]).collect();
    assert!(ports[0] != ports[1] && !ports[0].to_string().contains(&port.to_string()), "{forked}");
    assert_eq!(names(&home), ["web", "web-1", "web-2"]);
}

/// A fork would go on with images of a VM that was removed, and take them away.
#[test]
fn test_fork_does_not_touch_images_that_were_kept() {
    let (vm, _) = checkpointed(TestHome::new());
    let home = &vm.home;
    let kept = home.data().join("storage/web-1/one.qcow2");
    fs::create_dir_all(kept.parent().unwrap()).unwrap();
    fs::write(&kept, "kept").unwrap();

    let error = home.json_error(&["fork", "web@booted", "--name", "web-1"], 4);
    let forked = home.json(&["fork", "web@booted"]);

    assert_eq!(error["code"], "checkpoint.storage-exists", "{error}");
    assert_eq!(forked["forks"][0]["name"], "web-2");
    assert_eq!(fs::read(&kept).unwrap(), b"kept");
    assert_eq!(names(home), ["web", "web-2"]);
}

/// Nothing was changed when a fork is refused.
#[test]
fn test_fork_of_another_machine_is_refused() {
    let (vm, _) = checkpointed(TestHome::new());
    let home = &vm.home;
    let directory = checkpoint(home);
    let manifest = directory.join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    let whole: Value = serde_json::from_str(&text).unwrap();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut manifest = whole.clone();
        change(&mut manifest);
        manifest.to_string()
    };
    let arguments = |manifest: &mut Value, from: &str, to: &str| {
        let all = manifest["qemu"]["arguments"].as_array_mut().unwrap();
        let found = all.iter_mut().find(|argument| argument.as_str() == Some(from)).unwrap();
        *found = to.into();
    };

    for (text, code, part) in [
        (changed(&|manifest| manifest["format"] = 9.into()), "checkpoint.not-found", "no checkpoint"),
        (changed(&|manifest| manifest["qemu"]["version"] = "6.0.0".into()), "checkpoint.fork-refused", "6.0.0"),
        (changed(&|manifest| manifest["qemu"]["package"] = "another".into()), "checkpoint.fork-refused", "another"),
        (changed(&|manifest| arguments(manifest, "1", "2")), "checkpoint.fork-refused", "-smp 2"),
        (changed(&|manifest| arguments(manifest, "16M", "32M")), "checkpoint.fork-refused", "-m 32M"),
        (changed(&|manifest| arguments(manifest, "tcg", "kvm")), "checkpoint.fork-refused", "-accel kvm"),
        (changed(&|manifest| manifest["disks"][0]["virtual_bytes"] = 7.into()), "checkpoint.fork-refused", "`one`"),
        (changed(&|manifest| manifest["disks"][1]["format"] = "vmdk".into()), "checkpoint.fork-refused", "`two`"),
        (changed(&|manifest| manifest["added_devices"] = json!(["d1"])), "checkpoint.fork-refused", "d1"),
        (changed(&|manifest| manifest["state"]["crc32"] = 1.into()), "checkpoint.corrupt", "state"),
        (changed(&|manifest| manifest["ram"]["modified_at"] = "2020-01-01T00:00:00Z".into()), "", ""),
    ] {
        fs::write(&manifest, text).unwrap();
        if code.is_empty() {
            // As after a copy: all of it is read, and right.
            home.json(&["fork", "web@booted", "--name", "copy"]);
            home.json(&["rm", "copy", "--force", "--delete-storage"]);
            continue;
        }
        let output = home.maqet(["--format", "json", "fork", "web@booted", "--name", "copy", "--count", "3"]).run();
        let error = &output.json_error()["error"];
        assert_eq!(error["code"], code, "{error}");
        assert!(error["message"].as_str().unwrap().contains(part), "{part}: {error}");
        assert_eq!(names(home), ["web"]);
        assert_eq!(files_of_forks(home), [] as [PathBuf; 0]);
    }
    fs::write(&manifest, text).unwrap();
    let ram = OpenOptions::new().write(true).open(directory.join("ram")).unwrap();
    ram.write_all_at(b"x", 0x9000).unwrap();
    assert_eq!(home.json_error(&["fork", "web@booted"], 1)["code"], "checkpoint.corrupt");
    assert_eq!(home.json_error(&["fork", "web@other"], 3)["code"], "checkpoint.not-found");
    assert_eq!(home.json_error(&["fork", "web@"], 2)["code"], "checkpoint.name-invalid");
    assert_eq!(names(home), ["web"]);
    vm.count(2);
}

/// The process that makes a fork is killed at each step: the next one removes what is left of it.
#[test]
fn test_killed_fork_is_removed() {
    let (vm, _) = checkpointed(TestHome::with_fault_points());
    let home = &vm.home;

    for point in qemu::ours([
        "fork.defined",
        "start.marked",
        "launch.spawned",
        "launch.answered",
        "checkpoint.loaded",
        "start.before-commit",
    ]) {
        let fork = home.maqet(["fork", "web@booted", "--name", "copy"]).env("MAQET_FAULT_POINT", point).run();
        assert_eq!(fork.code, None, "{point}: {fork}");
        assert_eq!(names(home), ["copy", "web"], "{point}");

        home.json(&["fork", "web@booted", "--name", "next"]);

        assert_eq!(names(home), ["next", "web"], "{point}");
        home.json(&["rm", "next", "--force", "--delete-storage"]);
        assert_eq!(files_of_forks(home), [] as [PathBuf; 0], "{point}");
        assert_eq!(home.qemu_pids().len(), 1, "{point}");
        vm.count(1);
    }
}

/// Nothing of the guests runs, so that their starts have the host for themselves.
#[test]
fn test_fifty_forks_are_started_by_one_command() {
    let (vm, _) = checkpointed(TestHome::new());
    let home = &vm.home;
    home.json(&["pause", "web"]);

    let forked = home.json(&["fork", "web@booted", "--count", "50", "--paused", "--name", "copy"]);

    let forks = forked["forks"].as_array().unwrap();
    let names: Vec<&str> = forks.iter().map(|fork| fork["name"].as_str().unwrap()).collect();
    assert_eq!(names, (1..=50).map(|number| format!("copy-{number}")).collect::<Vec<_>>());
    assert!(forks.iter().all(|fork| fork["status"] == "paused"), "{forked}");
    assert_eq!(home.qemu_pids().len(), 51);
}

/// Returns the process of the QEMU of a VM.
fn pid(home: &TestHome, vm: &str) -> u32 {
    home.json(&["status", vm])["pid"].as_u64().unwrap().try_into().unwrap()
}

/// Kills the QEMU of a VM, and waits until that is noticed.
fn kill_qemu(home: &TestHome, vm: &str) {
    process::end(pid(home, vm));
    wait::until(wait::LONG, "the end of QEMU", || (home.json(&["status", vm])["status"] == "stopped").then_some(()));
}

/// However it ends: by `stop`, by its guest, or killed from outside.
#[test]
fn test_ephemeral_fork_is_removed_once_it_has_stopped() {
    let (vm, _) = checkpointed(TestHome::new());
    let home = &vm.home;
    home.json(&["fork", "web@booted", "--name", "copy", "--count", "5", "--ephemeral"]);

    let stopped = home.json(&["stop", "copy-1", "--force"]);
    assert_eq!((&stopped["status"], &stopped["removed"]), (&json!("stopped"), &json!(true)), "{stopped}");
    assert_eq!(names(home), ["copy-2", "copy-3", "copy-4", "copy-5", "web"]);

    // Reads write nothing; what takes the lock finds it gone.
    kill_qemu(home, "copy-2");
    assert_eq!(names(home).len(), 5);
    assert_eq!(home.json_error(&["start", "copy-2"], 3)["code"], "vm.not-found");
    assert_eq!(names(home), ["copy-3", "copy-4", "copy-5", "web"]);

    // Those that run are left alone by whatever removes others, and a restart is no end.
    kill_qemu(home, "copy-3");
    home.json(&["restart", "copy-4", "--force"]);
    let found = home.maqet(["--format", "json", "doctor"]).run().stdout;
    assert!(found.contains("an ephemeral fork that has stopped"), "{found}");
    home.json(&["cleanup"]);
    assert_eq!(names(home), ["copy-4", "copy-5", "web"]);
    assert_eq!(home.json(&["status", "copy-4"])["status"], "running");
    assert_eq!(home.json_error(&["checkpoint", "rm", "web", "booted"], 4)["code"], "checkpoint.in-use");

    // They do not keep a checkpoint once they have stopped, and `rm` works as on any VM.
    home.json(&["rm", "copy-5", "--force", "--delete-storage"]);
    home.json(&["storage", "trash", "empty"]);
    kill_qemu(home, "copy-4");
    home.json(&["checkpoint", "rm", "web", "booted"]);
    assert_eq!(names(home), ["web"]);
    assert_eq!(files_of_forks(home), [] as [PathBuf; 0]);
    assert_eq!(not_of_web(home, home.stale_files()), [] as [PathBuf; 0]);
    vm.count(1);
}

/// Returns the checkpoints of `web`.
fn checkpoints(home: &TestHome) -> Vec<String> {
    let listed = home.json(&["checkpoint", "ls", "web"]);
    listed["checkpoints"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

/// The checkpoint that it takes for that goes with the last of the forks, and so do the layers.
#[test]
fn test_fork_of_a_running_vm_leaves_no_checkpoint() {
    let vm = Counting::start(TestHome::new());
    let home = &vm.home;
    let before = vm.count(3);

    let forked = home.json(&["fork", "web", "--count", "2", "--ephemeral"]);
    let other = home.json(&["fork", "web", "--name", "other"]);

    assert_eq!((&forked["checkpoint"], &other["checkpoint"]), (&json!("fork-1"), &json!("fork-2")));
    let listed = home.json(&["checkpoint", "ls", "web"]);
    assert_eq!(listed["checkpoints"][0]["temporary"], true, "{listed}");
    for fork in forked["forks"].as_array().unwrap().iter().chain(other["forks"].as_array().unwrap()) {
        let log = fork["serial_log"].as_str().unwrap();
        let counted = || Some(CountSector::numbers(&serial::text(log.as_ref()))).filter(|numbers| numbers.len() > 1);
        assert!(wait::until(wait::LONG, "the fork counts", counted)[0] > before);
    }
    home.json(&["stop", "web-1", "--force"]);
    assert_eq!(checkpoints(home), ["fork-1", "fork-2"]);
    home.json(&["stop", "web-2", "--force"]);
    // The disks of the second one are layers over those of the first.
    assert_eq!(checkpoints(home), ["fork-1", "fork-2"]);
    vm.count(2);
    // Of a VM as any other, the images are kept, or in the trash.
    home.json(&["rm", "other", "--force", "--delete-storage"]);
    home.json(&["cleanup"]);
    assert_eq!(checkpoints(home), ["fork-1", "fork-2"]);
    home.json(&["storage", "trash", "empty"]);
    home.json(&["cleanup"]);
    assert_eq!(checkpoints(home), [] as [&str; 0]);
    let layers = home.files().into_iter().filter(|path| path.to_string_lossy().contains(".layer-"));
    assert_eq!(layers.collect::<Vec<_>>(), [] as [PathBuf; 0]);
    vm.count(2);

    // One that cannot be forked leaves none, either, and one that does not run is refused.
    let copy = home.data().join("storage/copy");
    fs::create_dir_all(&copy).unwrap();
    let error = home.json_error(&["fork", "web", "--name", "copy"], 4);
    assert_eq!(error["code"], "checkpoint.storage-exists", "{error}");
    assert_eq!(checkpoints(home), [] as [&str; 0]);
    home.json(&["stop", "web", "--force"]);
    assert_eq!(home.json_error(&["fork", "web"], 4)["code"], "checkpoint.status-conflict");
    for drive in ["one", "two"] {
        assert_intact(&vm.image(drive));
    }
}

/// Cards in a network with others are connected to nothing, or not forked; later starts have no cards.
#[test]
fn test_fork_without_network_is_connected_to_nothing() {
    let home = TestHome::new();
    let (port, heard) = (port::free(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let to = heard.local_addr().unwrap();
    let network = format!(
        "network: [{{name: lan, forward: ['{port}:22']}}, {{name: link, mode: dgram, local: '127.0.0.1:{}', remote: '{to}'}}]\n",
        port::free()
    );
    home.add(&(guest::paused_yaml("web") + &network));
    home.json(&["start", "web"]);
    home.json(&["resume", "web"]);
    home.json(&["checkpoint", "create", "web", "booted"]);
    heard.set_nonblocking(true).unwrap();
    let mut packet = [0; 2048];
    while heard.recv(&mut packet).is_ok() {}

    let error = home.json_error(&["fork", "web@booted"], 4);
    let forked = home.json(&["fork", "web@booted", "--network", "none"]);

    assert_eq!(error["code"], "checkpoint.fork-refused", "{error}");
    assert!(error["message"].as_str().unwrap().contains("`link`"), "{error}");
    let fork = &forked["forks"][0];
    assert!(fork["status"] == "running" && fork["forwards"].as_array().is_none_or(Vec::is_empty), "{fork}");
    let command = fs::read_to_string(format!("/proc/{}/cmdline", fork["pid"])).unwrap();
    assert_eq!(command.matches("restrict=on").count(), 2, "{command}");
    // What QEMU would tell the network of a guest that has moved.
    assert!(heard.recv(&mut packet).is_err());
    home.json(&["stop", "web-1", "--force"]);
    let started = home.json(&["start", "web-1"]);
    let command = fs::read_to_string(format!("/proc/{}/cmdline", started["pid"])).unwrap();
    assert!(!command.contains("-card"), "{command}");
}

/// The disks of a VM with checkpoints are its newest layers, also for a run that throws its writes away.
#[test]
fn test_run_of_a_vm_with_layers_has_the_newest() {
    let (vm, _) = checkpointed(TestHome::new());
    let home = &vm.home;
    home.json(&["stop", "web", "--force"]);

    let running = home.maqet(["run", "--vm", "web", "--", "true"]).spawn();

    let qemu = wait::until(wait::LONG, "the guest to run", || {
        let vms = home.json(&["ls"]);
        vms.as_array().unwrap().iter().find(|vm| vm["status"] == "running")?["pid"].as_u64()
    });
    let files: Vec<PathBuf> = fs::read_dir(format!("/proc/{qemu}/fd"))
        .unwrap()
        .filter_map(|file| fs::read_link(file.unwrap().path()).ok())
        .collect();
    for drive in ["one", "two"] {
        let layer = home.data().join(format!("storage/web/{drive}.layer-1.qcow2"));
        assert!(files.contains(&layer), "{drive}: {files:?}");
    }
    drop(running.kill());
}
