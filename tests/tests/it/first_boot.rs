//! The first boot of a real Debian guest with cloud-init, which all tests share.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use maqet_testkit::{Finished, Shared, TestHome, guest};

/// A guest that cloud-init has set up; its disk and its seed are those of the first start.
pub(crate) struct Seeded(pub(crate) TestHome, Mutex<()>);

static SEEDED: Shared<Seeded> = Shared::new();

/// Programs that the guest lacks, so that cloud-init has nothing to complain about.
const STUBS: [&str; 2] = ["/usr/sbin/resize2fs", "/usr/sbin/update-locale"];

impl Seeded {
    pub(crate) fn get() -> Arc<Self> {
        SEEDED.get_or_make(|| {
            let home = TestHome::new();
            make_key(&home, "key");
            make_key(&home, "login");
            home.write("secret", "s3cr3t-of-the-seed\n");
            let stubs = STUBS.map(|path| format!("    {path}: {{content: \"#!/bin/sh\\n\", mode: 0755}}\n")).concat();
            let seed = format!(
                "seed:\n  hostname: seeded\n  users: [alice, {{name: root, sudo: false}}]\n  ssh_keys: [\"@key.pub\"]\n  \
                 run: [\"id -un >/run/shell\", [touch, \"/run/a b\"], \"test ! -e /run/fails\"]\n  files:\n{stubs}    \
                 /etc/secret: {{source: secret, mode: 0600, owner: alice}}\n"
            );
            let credentials = "credentials: {file: \"@secret\", text: \"a=b c\"}\nssh: {key: login}\n";
            let yaml = guest::seeded_yaml("seeded", &guest::DebianFiles::built()) + &seed + credentials;
            let yaml = home.write("seeded.yaml", yaml);
            home.maqet(["add"]).arg(&yaml).run().ok();
            let start = home.maqet(["start", "seeded", "--wait", "agent", "--timeout", "5m"]);
            start.deadline(Duration::from_mins(6)).run().ok();
            Self(home, Mutex::new(()))
        })
    }

    /// Waits until no other test changes how to log in, or stops the agent.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shell(&self, script: &str) -> Finished {
        self.0.maqet(["exec", "seeded", "--", "sh", "-c", script]).deadline(Duration::from_mins(5)).run()
    }
}

/// Makes a key pair for SSH.
pub(crate) fn make_key(home: &TestHome, name: &str) {
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(home.path(name)).status();
    assert!(made.unwrap().success());
}

/// What the definition says is what the guest has, and cloud-init has done everything without an error.
#[test]
fn test_seed_sets_up_the_guest() {
    let seeded = Seeded::get();
    let _turn = seeded.turn();

    let wait = ["--format", "json", "wait", "seeded", "--for", "cloud-init", "--for", "boot", "--for", "address"];
    let wait = seeded.0.maqet(wait).args(["--for", "ssh", "--timeout", "5m"]).deadline(Duration::from_mins(6));
    let waited = wait.run().ok().json_value();

    let found = seeded.shell(
        "hostname; id -un alice; cat /run/shell; ls /run/a*b; stat -c '%U %a' /etc/secret; cat /etc/secret; \
         cut -d' ' -f1 /home/alice/.ssh/authorized_keys /root/.ssh/authorized_keys; grep -c '^alice:!' /etc/shadow; \
         cat /run/credentials/@system/file /run/credentials/@system/text",
    );
    assert_eq!(
        found.stdout,
        "seeded\nalice\nroot\n/run/a b\nalice 600\ns3cr3t-of-the-seed\nssh-ed25519\nssh-ed25519\nssh-ed25519\nssh-ed25519\n1\ns3cr3t-of-the-seed\na=b c"
    );
    let guest = &waited["guest"];
    assert_eq!(
        (&guest["boot"]["state"], &guest["cloud_init"]["state"]),
        (&"running".into(), &"done".into()),
        "{guest}"
    );
    assert!(guest["cloud_init"]["datasource"].as_str().unwrap().contains("NoCloud"), "{guest}");
    assert_eq!(guest["addresses"][0]["address"], "10.0.2.15", "{guest}");
    ssh_config_logs_in(&seeded);
    cloud_init_that_fails_is_an_error(&seeded);
}

/// The first user of the seed logs in with the key of the definition, and no question.
fn ssh_config_logs_in(seeded: &Seeded) {
    let config = seeded.0.maqet(["ssh-config", "seeded"]).run().ok().stdout;
    let config = seeded.0.write("ssh_config", config);

    let ssh =
        Command::new("ssh").args(["-o", "BatchMode=yes", "-F"]).arg(config).args(["seeded", "id", "-un"]).output();

    let ssh = ssh.unwrap();
    assert_eq!(String::from_utf8_lossy(&ssh.stdout), "alice\n", "{}", String::from_utf8_lossy(&ssh.stderr));
}

/// A command of the seed fails when cloud-init runs it again.
fn cloud_init_that_fails_is_an_error(seeded: &Seeded) {
    seeded
        .shell("touch /run/fails; rm /var/lib/cloud/instance/sem/config_scripts_user /run/cloud-init/result.json")
        .ok();
    let _ = seeded.shell("cloud-init modules --mode=final");

    let wait = ["--format", "json", "wait", "seeded", "--for", "cloud-init", "--timeout", "1m"];
    let failed = seeded.0.maqet(wait).deadline(Duration::from_mins(2)).run();

    let error = &failed.json_error()["error"];
    assert_eq!((error["code"].as_str(), failed.code), (Some("wait.cloud-init-failed"), Some(1)), "{error}");
    assert!(error["message"].as_str().unwrap().contains("scripts-user"), "{error}");
}

/// Nothing of the seed and of a credential is left on the host, and a snapshot with memory can be made beside it.
#[test]
fn test_seed_image_has_no_name_and_blocks_no_snapshot() {
    let seeded = Seeded::get();

    let left = Command::new("grep").args(["-rl", "s3cr3t-of-the-seed"]).arg(seeded.0.root()).output().unwrap();
    let check = seeded.0.json(&["snapshot", "check", "seeded"]);

    let secret = seeded.0.path("secret");
    assert_eq!(String::from_utf8(left.stdout).unwrap().trim(), secret.to_str().unwrap());
    assert_eq!(check["problems"].as_array().map(Vec::len).unwrap_or_default(), 0, "{check}");
    let disks = seeded.0.json(&["inspect", "seeded"])["disks"].clone();
    assert_eq!((&disks[1]["name"], &disks[1]["readonly"]), (&"maqet-seed".into(), &true.into()), "{disks}");
}

/// What a seed reads is checked before anything is started.
#[test]
fn test_seed_with_wrong_files_is_refused_before_the_start() {
    let home = TestHome::new();
    let error = |name: &str, seed: &str| {
        let path = home.write(format!("{name}.yaml"), format!("{}seed: {seed}\n", guest::paused_yaml(name)));
        home.maqet(["add"]).arg(&path).run().ok();
        let failed = home.maqet(["--format", "json", "start", name]).run();
        (failed.json_error()["error"]["code"].as_str().unwrap().to_owned(), failed.code)
    };
    home.write("private", "-----BEGIN OPENSSH PRIVATE KEY-----\n");

    let missing = error("a", "{user_data: nope}");
    let directory = error("b", "{network_config: /}");
    let private = error("c", "{ssh_keys: [\"@private\"]}");

    assert_eq!(missing, ("config.file-not-found".to_owned(), Some(3)));
    assert_eq!(directory, ("config.file-invalid".to_owned(), Some(2)));
    assert_eq!(private, ("seed.ssh-key-invalid".to_owned(), Some(2)));
}

/// Another seed is another instance, and the same seed is not; the image is new at each start and gone once QEMU runs.
#[test]
fn test_seed_image_is_made_at_each_start() {
    let home = TestHome::new();
    let path = home.write("web.yaml", format!("{}seed: {{users: [alice]}}\n", guest::paused_yaml("web")));
    home.maqet(["add"]).arg(&path).run().ok();
    let read = || {
        home.json(&["start", "web"]);
        let image = seed_image(&home, "web");
        home.json(&["stop", "web", "--force"]);
        image
    };

    let (first, second) = (read(), read());
    home.maqet(["apply", "web", "--set", "seed.hostname=other"]).run().ok();
    let third = read();

    assert!(first == second, "the same seed is another image");
    assert!(first != third, "another seed is the same image");
}

/// Returns the image of the seed that a running VM has open.
fn seed_image(home: &TestHome, vm: &str) -> Vec<u8> {
    let pid = home.json(&["status", vm])["pid"].as_u64().unwrap();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let image = open.map(|fd| fd.path()).find(|fd| fs::read_link(fd).unwrap().ends_with("seed.iso (deleted)"));
    fs::read(image.unwrap()).unwrap()
}

/// Starts a VM that is paused, with this YAML, and returns the key of its `ssh-config`.
fn key_of(home: &TestHome, name: &str, yaml: &str) -> Option<PathBuf> {
    let forward = "network: [{mode: user, forward: [\"0:22\"]}]";
    let yaml = home.write(format!("{name}.yaml"), format!("{}{forward}\n{yaml}\n", guest::paused_yaml(name)));
    home.maqet(["add"]).arg(&yaml).run().ok();
    home.json(&["start", name]);
    home.json(&["ssh-config", name])["key"].as_str().map(PathBuf::from)
}

/// A guest without any other key gets one of its VM: private, the same at each start, and removed with the VM.
#[test]
fn test_seed_without_keys_gets_one_of_the_vm() {
    let home = TestHome::new();
    make_key(&home, "other");
    let key = key_of(&home, "own", "seed: {users: [alice]}").unwrap();
    let private = fs::read_to_string(&key).unwrap();
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    let image = seed_image(&home, "own");
    home.json(&["stop", "own", "--force"]);
    home.json(&["start", "own"]);

    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(image.windows(public.trim().len()).any(|window| window == public.trim().as_bytes()), "{public}");
    assert!(fs::read_to_string(&key).unwrap() == private && seed_image(&home, "own") == image);
    let secret = private.lines().nth(2).unwrap();
    let found = Command::new("grep").args(["-rlF", secret]).arg(home.root()).output().unwrap();
    assert_eq!(String::from_utf8(found.stdout).unwrap().trim(), key.to_str().unwrap());
    home.json(&["stop", "own", "--force"]);
    home.json(&["rm", "own"]);
    assert!(!key.exists() && !key.with_extension("pub").exists());
}

/// Keys of the definition are instead of one of the VM, and root gets it without a seed, too.
#[test]
fn test_ssh_key_of_the_vm_is_for_those_without_another_one() {
    let home = TestHome::new();
    make_key(&home, "other");

    let root = key_of(&home, "root", "ssh: {user: root}");
    let chosen = key_of(&home, "chosen", "seed: {users: [alice]}\nssh: {key: other}");
    let given = key_of(&home, "given", "seed: {users: [alice], ssh_keys: [\"@other.pub\"]}");
    let nothing = key_of(&home, "nothing", "");

    assert!(root.unwrap().is_file());
    assert_eq!((chosen, given, nothing), (Some(home.path("other")), None, None));
}

/// Without `ssh-keygen`, the VM starts all the same, and says that it has no key.
#[test]
fn test_seed_without_ssh_keygen_starts_with_a_warning() {
    let home = TestHome::new();
    let path = home.write("web.yaml", format!("{}seed: {{users: [alice]}}\n", guest::paused_yaml("web")));
    home.maqet(["add"]).arg(&path).run().ok();
    let programs = home.path("programs");
    fs::create_dir(&programs).unwrap();
    let search = std::env::var_os("PATH").unwrap();
    for name in ["qemu-system-x86_64", "qemu-img", "setpriv", "sh"] {
        let found = std::env::split_paths(&search).map(|path| path.join(name)).find(|path| path.is_file());
        std::os::unix::fs::symlink(found.unwrap(), programs.join(name)).unwrap();
    }

    let started = home.maqet(["--format", "json", "start", "web"]).env("PATH", &programs).run().ok().json_value();

    assert_eq!(
        started["warnings"],
        serde_json::json!(["the guest gets no key for SSH: program `ssh-keygen` not found"])
    );
}
