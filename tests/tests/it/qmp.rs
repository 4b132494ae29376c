//! QMP from the command line, and alongside other clients of QEMU.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use maqet_testkit::{TestHome, guest, wait};
use serde_json::{Value, json};

/// Returns a home with a paused VM `web`.
fn with_web() -> TestHome {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);
    home
}

/// An external client, `socat`, on the external monitor.
struct Foreign {
    socat: Child,
    keys: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Foreign {
    fn connect(home: &TestHome) -> Self {
        let status = home.json(&["status", "web"]);
        let address = format!("UNIX-CONNECT:{}", status["external_monitor"].as_str().expect("it runs"));
        let mut socat = Command::new("socat")
            .args(["-", &address])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("socat is installed (`cargo xtask test` installs it)");
        let (keys, answers) = (socat.stdin.take().expect("a pipe"), socat.stdout.take().expect("a pipe"));
        let mut client = Self { socat, keys, answers: BufReader::new(answers) };
        assert!(client.line().get("QMP").is_some());
        client.say(&json!({"execute": "qmp_capabilities"}));
        assert_eq!(client.line(), json!({"return": {}}));
        client
    }

    fn say(&mut self, command: &Value) {
        self.keys.write_all(format!("{command}\n").as_bytes()).expect("QEMU reads");
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("QEMU answers");
        serde_json::from_str(&line).expect("it is JSON")
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _gone_already = self.socat.kill();
        let _reaped = self.socat.wait();
    }
}

#[test]
fn test_qmp_external_monitor_works_beside_maqet() {
    let home = with_web();
    let mut foreign = Foreign::connect(&home);

    let ours: Vec<_> = (0..4).map(|_| home.maqet(["qmp", "web", "query-status", "--format", "json"]).spawn()).collect();
    for number in 0..200 {
        foreign.say(&json!({"execute": "query-status", "id": number}));
        assert_eq!(foreign.line()["id"], number);
    }

    for running in ours {
        assert_eq!(running.wait().ok().json_value()["status"], "prelaunch");
    }
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_status_while_main_loop_hangs_is_busy() {
    let home = with_web();
    let fifo = home.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut foreign = Foreign::connect(&home);
    // QEMU opens the FIFO in its main loop, and waits there for a reader.
    foreign.say(&json!({"execute": "pmemsave", "arguments": {"val": 0, "size": 16, "filename": fifo}}));

    let hanging = wait::until(wait::LONG, "the main loop to hang", || {
        Some(home.json(&["status", "web"])).filter(|status| status["status"] != "paused")
    });
    std::fs::read(fifo).unwrap();
    assert_eq!(foreign.line(), json!({"return": {}}));
    let after = home.json(&["status", "web"]);

    assert_eq!((&hanging["status"], &hanging["busy"]["reason"]), (&json!("busy"), &json!("main-loop")));
    assert_eq!(after["status"], "paused");
    home.json(&["stop", "web", "--force"]);
}
