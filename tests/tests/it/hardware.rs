//! Media, network links, memory and interrupts of running VMs.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use maqet_testkit::{TestHome, guest, serial, wait};
use serde_json::{Value, json};

const BOOT: Duration = Duration::from_secs(90);

/// Returns an image of CD blocks, each of which begins with this text.
fn cd(home: &TestHome, name: &str, arguments: &str) -> String {
    let mut block = arguments.as_bytes().to_vec();
    block.resize(2048, 0);
    home.write(name, block.repeat(512)).to_str().unwrap().to_owned()
}

fn qmp(home: &TestHome, arguments: &[&str]) -> Value {
    home.json(&[&["qmp"], arguments].concat())
}

fn refused(home: &TestHome, arguments: &[&str], exit: i32, code: &str) -> Value {
    let error = home.json_error(&[&["qmp"], arguments].concat(), exit);
    assert_eq!(error["code"], code, "{error}");
    error
}

/// Returns the block nodes of inserted media.
fn media(home: &TestHome) -> Vec<String> {
    let nodes = qmp(home, &["web", "query-named-block-nodes"]);
    let files = nodes.as_array().unwrap().iter().filter(|node| node["drv"] == "file");
    files.map(|node| node["file"].as_str().unwrap().to_owned()).collect()
}

/// One boot for all that needs a guest.
#[test]
fn test_hardware_changes_are_seen_by_linux() {
    let home = TestHome::new();
    let (first, second) = (cd(&home, "first.iso", "the first medium"), cd(&home, "second.iso", "the second medium"));
    let drives = format!("storage: [{{name: cd, type: iso, interface: scsi, file: {first:?}}}]\n");
    let link = home.path("link.sock");
    let network = format!("network: [user, {{mode: stream, listen: {link:?}, mac: '02:00:00:00:00:07'}}]\n");
    let devices = "balloon: true\nusb: [tablet]\n";
    home.add(&(guest::linux_yaml("web", &guest::Files::built()) + devices + &drives + &network));
    let started = home.json(&["start", "web"]);
    let log = started["serial_log"].as_str().unwrap();
    serial::wait_for(Path::new(log), guest::READY, BOOT);
    let mut shell = guest::Shell::of(&home);

    media_are_exchanged(&home, &mut shell, [&first, &second]);
    cables_are_pulled(&home, &mut shell);
    random_numbers_are_read(&mut shell);
    frames_reach_the_other_end(&mut shell, &link);
    memory_is_taken_and_given_back(&home, &mut shell);

    qmp(&home, &["nmi", "web"]);
    let output = shell.run(&["until dmesg | grep -i 'nmi received'; do sleep 0.1; done"]);
    assert!(output.contains("NMI received"), "{output}");
    qmp(&home, &["pause", "web"]);
    assert_eq!(home.json(&["status", "web"])["status"], "paused");
    qmp(&home, &["resume", "web"]);
    assert_eq!(home.json(&["status", "web"])["status"], "running");
}

fn media_are_exchanged(home: &TestHome, shell: &mut guest::Shell, [first, second]: [&str; 2]) {
    let read = "dd if=/dev/sr0 bs=2048 count=1 2>/dev/null | tr '\\0' '\\n'";
    let output = shell.run(&["load virtio_scsi sr_mod; until [ -e /dev/sr0 ]; do sleep 0.1; done", read]);
    assert!(output.contains("the first medium"), "{output}");

    // QEMU locks an image that it has open.
    shell.run(&["exec 3</dev/sr0"]);
    let locked = refused(home, &["eject", "web", "cd", "--timeout", "1s"], 124, "medium.eject-timed-out");
    assert!(locked["hints"][1].as_str().unwrap().contains("--force"), "{locked}");
    refused(home, &["insert", "web", "cd", second, "--timeout", "1s"], 124, "medium.eject-timed-out");
    assert_eq!(media(home), [first], "it stays, and the other one is not open");
    shell.run(&["exec 3<&-"]);

    let inserted = qmp(home, &["insert", "web", "cd", second]);
    assert_eq!((&inserted["ejected"], &inserted["inserted"]), (&json!(first), &json!(second)));
    assert_eq!(media(home), [second], "the first one is closed");
    let output = shell.run(&[&format!("until {read} | grep second; do sleep 0.1; done")]);
    assert!(output.contains("the second medium"), "{output}");

    shell.run(&["exec 3</dev/sr0"]);
    assert_eq!(qmp(home, &["eject", "web", "cd", "--force"])["ejected"], json!(second));
    assert_eq!(media(home), Vec::<String>::new());
    shell.run(&["exec 3<&-"]);
}

fn cables_are_pulled(home: &TestHome, shell: &mut guest::Shell) {
    let carrier = |is_up: u8| format!("until grep {is_up} /sys/class/net/eth0/carrier; do sleep 0.1; done");
    shell.run(&["load virtio_net; ip link set eth0 up", &carrier(1)]);

    for (nic, state, is_up) in [("net0", "down", 0), ("net0-card", "up", 1)] {
        let set = qmp(home, &["set-link", "web", nic, state]);
        assert_eq!((&set["nic"], &set["state"]), (&json!(nic), &json!(state)));
        shell.run(&[&carrier(is_up)]);
    }
}

/// Without a key, a guest has a source of random numbers.
fn random_numbers_are_read(shell: &mut guest::Shell) {
    let output = shell.run(&["load virtio_rng; cat /sys/class/misc/hw_random/rng_current"]);
    assert!(output.contains("virtio_rng"), "{output}");
    let output = shell.run(&["dd if=/dev/hwrng bs=64 count=1 2>/dev/null | od -An -tx1 | tr -d ' \\n' | wc -c"]);
    assert!(output.lines().any(|line| line.trim() == "128"), "{output}");
}

/// QEMU sends each Ethernet frame after its length, as another QEMU would read it.
fn frames_reach_the_other_end(shell: &mut guest::Shell, link: &Path) {
    let mut peer = UnixStream::connect(link).unwrap();
    peer.set_read_timeout(Some(BOOT)).unwrap();
    shell.run(&["ip addr add 10.9.0.1/24 dev eth1; ip link set eth1 up; ping 10.9.0.2 >/dev/null &"]);

    let (mut length, mut frame) = ([0; 4], [0; 2048]);
    peer.read_exact(&mut length).unwrap();
    let frame = &mut frame[..usize::try_from(u32::from_be_bytes(length)).unwrap()];
    peer.read_exact(frame).unwrap();

    assert_eq!(frame[6..12], [2, 0, 0, 0, 0, 7], "the source is the card");
    shell.run(&["kill $!"]);
}

fn memory_is_taken_and_given_back(home: &TestHome, shell: &mut guest::Shell) {
    let whole = json!(256 << 20);
    let unreached = refused(home, &["balloon", "web", "128M", "--timeout", "1s"], 124, "balloon.timed-out");
    assert!(unreached["message"].as_str().unwrap().contains("uses 256M"), "{unreached}");
    let total = "read -r _ total _ </proc/meminfo; echo total=$((total / 1024))M";
    shell.run(&["load virtio_balloon"]);

    let taken = qmp(home, &["balloon", "web", "128", "--timeout", "90s"]);
    assert_eq!((&taken["actual_bytes"], &taken["memory_bytes"]), (&json!(128 << 20), &whole));
    let output = shell.run(&[total]);
    let (_, has) = output.rsplit_once("total=").unwrap();
    assert!(has.split('M').next().unwrap().parse::<u32>().unwrap() < 128, "{output}");
    let given = qmp(home, &["balloon", "web", "256M", "--timeout", "90s"]);
    assert_eq!(given["actual_bytes"], whole);
    assert_eq!(qmp(home, &["balloon", "web"])["actual_bytes"], whole);
}

#[test]
fn test_hardware_errors_list_valid_choices() {
    let home = TestHome::new();
    let loose = "  - {drive: {if: none, id: loose}}\n";
    home.add(&(guest::paused_yaml("web") + loose + "network: {name: lan}\nstorage: [{name: hdd, size: 4M}]\n"));
    home.json(&["start", "web"]);
    let disc = cd(&home, "disc.iso", "disc");

    let none = refused(&home, &["balloon", "web"], 4, "balloon.unavailable");
    assert!(none["hints"][0].as_str().unwrap().contains("device-add web virtio-balloon-pci"), "{none}");
    refused(&home, &["balloon", "web", "1G"], 2, "balloon.size-too-large");
    refused(&home, &["balloon", "web", "nonsense"], 2, "balloon.size-invalid");
    refused(&home, &["balloon", "web", "1K"], 2, "balloon.size-invalid");
    let card = refused(&home, &["set-link", "web", "lam", "down"], 3, "device.not-found");
    assert_eq!(card["hints"], json!(["did you mean `lan`?"]));
    let card = refused(&home, &["set-link", "web", "nonsense", "down"], 3, "device.not-found");
    assert_eq!(card["message"], "VM `web` has no network card `nonsense`");
    assert_eq!(card["hints"], json!(["use one of the network cards: `lan`"]));
    let drive = refused(&home, &["eject", "web", "ide1-cd"], 3, "device.not-found");
    assert_eq!(drive["hints"], json!(["did you mean `ide1-cd0`?"]));
    let drive = refused(&home, &["eject", "web", "nonsense"], 3, "device.not-found");
    assert_eq!(drive["hints"], json!(["use one of the removable drives: `ide1-cd0`, `floppy0`"]));
    for fixed in ["hdd", "loose"] {
        let drive = refused(&home, &["eject", "web", fixed], 2, "medium.eject-unsupported");
        assert_eq!(drive["hints"], json!(["use one of the removable drives: `ide1-cd0`, `floppy0`"]));
    }
    refused(&home, &["insert", "web", "ide1-cd0", "/no/such.iso"], 3, "device.file-not-found");
    home.write("broken.qcow2", "no image at all");
    let broken = home.path("broken.qcow2");
    qmp(&home, &["insert", "web", "ide1-cd0", &disc]);
    refused(&home, &["insert", "web", "ide1-cd0", broken.to_str().unwrap()], 1, "qmp.refused");
    let drives = qmp(&home, &["web", "query-block"]);
    let drive = drives.as_array().unwrap().iter().find(|one| one["device"] == "ide1-cd0").unwrap();
    assert_eq!((&drive["tray_open"], &drive["inserted"]["image"]["filename"]), (&json!(false), &json!(disc)));
    home.json(&["stop", "web", "--force"]);
    for arguments in
        [&["nmi", "web"][..], &["balloon", "web"], &["eject", "web", "ide1-cd0"], &["device-add", "web", "e1000"]]
    {
        refused(&home, arguments, 4, "vm.status-conflict");
    }
}

#[test]
fn test_medium_changed_by_many_at_once_is_one_of_theirs() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);
    let discs: Vec<String> = (0..4).map(|number| cd(&home, &format!("{number}.iso"), "disc")).collect();

    let running: Vec<_> =
        discs.iter().map(|disc| home.maqet(["qmp", "insert", "web", "ide1-cd0", disc.as_str()]).spawn()).collect();
    let ended: Vec<Option<i32>> = running.into_iter().map(|one| one.wait().code).collect();

    assert_eq!(ended, [Some(0); 4]);
    let left = wait::until(BOOT, "one medium", || Some(media(&home)).filter(|media| media.len() == 1));
    assert!(discs.contains(&left[0]), "{left:?}");
}

#[test]
fn test_generation_id_differs_at_each_start() {
    let home = TestHome::new();
    for machine in ["pc", "q35"] {
        home.add(&(guest::paused_yaml(machine) + &format!("machine: {machine}\nstorage: [{{name: hdd, size: 4M}}]\n")));
        let generation = || home.json(&["qmp", machine, "query-vm-generation-id"])["guid"].as_str().unwrap().to_owned();

        home.json(&["start", machine]);
        let first = generation();
        home.json(&["snapshot", "create", machine, "all", "booted", "--live"]);
        home.json(&["stop", machine, "--force"]);
        home.json(&["snapshot", "load", machine, "all", "booted", "--start"]);
        // The guest has the memory of before, with the first one.
        let second = generation();
        home.json(&["stop", machine, "--force"]);
        home.json(&["apply", machine, "--set", "generation_id=false"]);
        let other = home.json_error(&["snapshot", "load", machine, "all", "booted", "--start"], 4);
        home.json(&["start", machine]);

        assert_ne!(first, second);
        assert_eq!(other["code"], "snapshot.conflict", "{other}");
        assert!(other["message"].as_str().unwrap().contains("maqet-vmgenid"), "{other}");
        home.json_error(&["qmp", machine, "query-vm-generation-id"], 1);
        home.json(&["stop", machine, "--force"]);
    }
}
