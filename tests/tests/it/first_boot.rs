//! The first boot of a real Debian guest with cloud-init, which all tests share.

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
fn make_key(home: &TestHome, name: &str) {
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
        let pid = home.json(&["status", "web"])["pid"].as_u64().unwrap();
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        let image = open.map(|fd| fd.path()).find(|fd| std::fs::read_link(fd).unwrap().ends_with("seed.iso (deleted)"));
        let image = std::fs::read(image.unwrap()).unwrap();
        home.json(&["stop", "web", "--force"]);
        image
    };

    let (first, second) = (read(), read());
    home.maqet(["apply", "web", "--set", "seed.hostname=other"]).run().ok();
    let third = read();

    assert!(first == second, "the same seed is another image");
    assert!(first != third, "another seed is the same image");
}
