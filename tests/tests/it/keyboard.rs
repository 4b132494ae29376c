//! Keys and text reach the guest complete: GRUB on a real screen, and Linux with keyboards of four countries.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use insta::assert_snapshot;
use maqet_testkit::{Terminal, TestHome, guest, serial, wait};
use serde_json::json;

use crate::output::failure;

const BOOT: Duration = Duration::from_secs(90);

/// The bootable image of Debian whose prompt needs only keyboard and screen (package `grub-rescue-pc`).
const GRUB: &str = "/usr/lib/grub-rescue/grub-rescue-cdrom.iso";

/// A text of capitals, small letters, digits and all symbols of ASCII, without a space at either end.
fn mixed(length: usize) -> String {
    let ascii: Vec<char> = ('!'..='~').collect();
    (0..length).map(|index| ascii[index * 37 % ascii.len()]).collect()
}

/// A GRUB with its prompt on the screen and the serial line.
struct Grub {
    home: TestHome,
    log: PathBuf,
    /// The words in pictures of the screen: reading one takes longer than all else, and most are the same.
    read: RefCell<HashMap<Vec<u8>, String>>,
}

impl Grub {
    /// Boots it; only the tested commands reach that prompt.
    fn boot() -> Self {
        assert!(Path::new(GRUB).is_file(), "GRUB's image is not installed (`apt install grub-rescue-pc`)");
        let home = TestHome::new();
        home.add(&format!("name: grub\naccel: tcg\nmemory: 64M\narguments:\n  - {{cdrom: {GRUB}}}\n"));
        let started = home.json(&["start", "grub"]);
        let log = PathBuf::from(started["serial_log"].as_str().unwrap());
        let grub = Self { home, log, read: RefCell::default() };
        grub.shows("for a command-line");
        grub.home.json(&["keys", "grub", "c"]);
        grub.shows("grub>");
        for command in ["serial --unit=0", "terminal_output console serial"] {
            grub.home.json(&["type", "grub", command, "--enter"]);
            wait::until(BOOT, command, || (grub.screen().matches("grub>").count() > 1).then_some(()));
        }
        serial::wait_for_prompt(&grub.log, "grub>", BOOT);
        grub
    }

    /// Returns the text on the screen.
    fn screen(&self) -> String {
        let file = self.home.path("screen.png");
        self.home.json(&["screenshot", "grub", file.to_str().unwrap()]);
        let picture = fs::read(&file).unwrap();
        self.read.borrow_mut().entry(picture).or_insert_with(|| words_in(&file)).clone()
    }

    /// Waits until this text is on the screen.
    fn shows(&self, words: &str) {
        wait::until(BOOT, words, || self.screen().contains(words).then_some(()));
    }

    /// Returns GRUB's serial output, with line breaks where its screen has them.
    fn output(&self) -> String {
        serial::text(&self.log).replace('\n', "")
    }
}

/// Reads an image.
fn words_in(picture: &Path) -> String {
    let read = Command::new("tesseract").arg(picture).args(["-", "--psm", "6"]).env("OMP_THREAD_LIMIT", "1").output();
    String::from_utf8(read.expect("tesseract is installed (`apt install tesseract-ocr`)").stdout).unwrap()
}

#[test]
fn test_type_at_grub_loses_no_character_and_chord_resets() {
    let grub = Grub::boot();
    // Its cursor blinks, at twice a second.
    grub.home.json(&["wait", "grub", "--for", "screen-stable=3s", "--timeout", "90s"]);
    // In single quotes GRUB takes all but the quote literally.
    let text = mixed(500).replace('\'', "-");

    for line in text.as_bytes().chunks(250) {
        let line = std::str::from_utf8(line).unwrap();
        let typed = grub.home.json(&["type", "grub", &format!("echo '{line}'"), "--enter"]);
        assert_eq!(typed["characters"], json!(258));
        wait::until(BOOT, line, || grub.output().contains(&format!("{line}grub>")).then_some(()));
    }
    grub.home.json(&["type", "grub", "echo windmill", "--enter"]);
    grub.shows("windmill");
    grub.home.json(&["qmp", "keys", "grub", "ctrl-alt-del"]);
    grub.home.json(&["wait", "grub", "--for", "event:RESET", "--since", "1m", "--timeout", "60s"]);
}

/// A Linux with a shell on the serial line, whose keyboard only the test reads.
struct Linux {
    home: TestHome,
    console: serial::Line,
}

impl Linux {
    fn boot() -> Self {
        let home = TestHome::new();
        home.add(&guest::linux_yaml("linux", &guest::Files::built()));
        let started = home.json(&["start", "linux"]);
        serial::wait_for(Path::new(started["serial_log"].as_str().unwrap()), guest::READY, BOOT);
        let console = serial::Line::of(&home);
        Self { home, console }
    }

    /// Types lines at the serial shell, and returns its output until all are done.
    fn shell(&mut self, lines: &[&str]) -> String {
        let typed = format!("{}\necho; echo all-do'ne'\n", lines.join("\n"));
        self.console.write_all(typed.as_bytes()).unwrap();
        let until = Instant::now() + BOOT;
        let (mut output, mut some) = (Vec::new(), [0; 4096]);
        while Instant::now() < until {
            if let Ok(length) = self.console.read(&mut some) {
                output.extend_from_slice(&some[..length]);
            }
            let text = String::from_utf8_lossy(&output);
            if text.lines().any(|line| line.trim() == "all-done") {
                return text.into_owned();
            }
        }
        panic!("the guest did not finish: {}", String::from_utf8_lossy(&output));
    }

    /// Reads its keyboard from now on, with the layout `keymap`.
    fn listens(&mut self, keymap: &str) {
        let load = format!("loadkmap </lib/keymaps/{keymap}; kbd_mode -u </dev/tty1");
        self.shell(&[
            &load,
            "kill $reader 2>/dev/null; rm -f /tmp/raw",
            // The terminal stays open between the programs, because closing it resets its mode.
            "(stty raw -echo; >/tmp/raw; exec cat) </dev/tty1 >/tmp/read & reader=$!",
            "until [ -e /tmp/raw ]; do :; done",
        ]);
    }

    /// Returns what was read from its keyboard, once it is this many bytes or no more of them come.
    fn read_keys(&mut self, bytes: usize) -> String {
        let mut bytes_read = Vec::new();
        let _in_vain = wait::try_until(BOOT, || {
            let output = self.shell(&["echo \"read:$(base64 -w 0 /tmp/read):\""]);
            // The terminal breaks lines anywhere; the typed command is in the output too, and is not base64.
            let output: String = output.split_ascii_whitespace().collect();
            let pieces = output.split("read:").filter_map(|piece| piece.split_once(':'));
            bytes_read = pieces.filter_map(|(piece, _)| decoded(piece)).last().unwrap();
            (bytes_read.len() >= bytes).then_some(())
        });
        String::from_utf8(bytes_read).unwrap()
    }
}

/// Decodes base64, if it is valid.
fn decoded(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0, 0);
    for letter in text.trim_end_matches('=').bytes() {
        bits = bits << 6 & 0xfff | ALPHABET.iter().position(|one| *one == letter)?;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[test]
fn test_type_in_each_layout_is_read_by_linux() {
    let mut linux = Linux::boot();
    let ascii = mixed(188);
    // The console keymaps predate the euro.
    let texts = [
        ("us", format!("{ascii} \tend\n")),
        ("uk", format!("{ascii} £¬\tend\n")),
        ("de", format!("{ascii} äöüÄÖÜß§°²³µ áÉèÙâÎ ~a~n~~ ~ ~x\tend\n")),
        ("fr", format!("{ascii} éèçàùµ§²°£ âÊîÔûäËïÖü ~a^e`o``^ ~/\tend\n")),
    ];

    for (layout, text) in texts {
        linux.listens(layout);
        let file = linux.home.write("text", &text);
        let typed = linux.home.json(&["type", "linux", "--layout", layout, "--file", file.to_str().unwrap()]);

        assert_eq!(typed["characters"], json!(text.chars().count()));
        // In raw mode Enter is a carriage return.
        assert_eq!(linux.read_keys(text.len()), text.replace('\n', "\r"), "{layout}");
    }
}

#[test]
fn test_keys_concurrent_waits_and_killed_releases_keys() {
    let mut linux = Linux::boot();
    linux.listens("us");
    let texts = ["a".repeat(60), "b".repeat(60)];

    let typing = texts.each_ref().map(|text| linux.home.maqet(["type", "linux", text]).spawn());
    for running in typing {
        running.wait().ok();
    }
    let mut killed = linux.home.maqet(["keys", "linux", "--hold", "2s", "shift-c"]).into_command().spawn().unwrap();
    let while_down = linux.read_keys(121);
    killed.kill().unwrap();
    killed.wait().unwrap();
    linux.home.json(&["type", "linux", "d"]);

    let [first, second] = if while_down.starts_with('a') { texts } else { [texts[1].clone(), texts[0].clone()] };
    assert_eq!(while_down, format!("{first}{second}C"));
    assert_eq!(linux.read_keys(122), format!("{first}{second}Cd"));
    let locks = linux.home.files().into_iter().filter(|path| path.to_string_lossy().contains("keyboard-"));
    assert_eq!(locks.count(), 0, "the next command takes over the lock of the killed one, and removes it");
}

#[test]
fn test_keys_errors_are_reported_before_sending() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));

    // The VM does not run, so only the arguments can be the reason.
    let failures = [
        ["keys", "web", "ctrl-alt-delte"].as_slice(),
        &["type", "web", "a\nbü"],
        &["type", "web", "a", "--layout", "dr"],
        &["keys", "web", "a", "--hold", "2m"],
        &["keys", "web", "a"],
    ]
    .map(|arguments| failure(&home, arguments));

    assert_snapshot!(failures.join("\n"), @"
    keys.key-not-found, exit code 2
    error: unknown key `delte` (in `ctrl-alt-delte`)
      hint: did you mean `delete` or `del`?

    keys.character-unsupported, exit code 2
    error: the layout `us` has no key for `ü` (U+00FC) in line 2, column 2
      hint: pass `--layout de` or `--layout fr`, if that is the keyboard layout of the guest

    usage.invalid, exit code 2
    error: invalid value 'dr' for '--layout <LAYOUT>': unknown keyboard layout `dr`; did you mean `de` or `fr`?

    For more information, try '--help'.

    keys.interval-invalid, exit code 2
    error: invalid key interval 120s: expected 1ms to 60s

    vm.status-conflict, exit code 4
    error: cannot connect: VM `web` is defined
      hint: start it with `maqet start web`
    ");
}

#[test]
fn test_keys_paused_vm_is_refused() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);

    let refused = home.json_error(&["type", "web", "secret"], 4);
    home.json_error(&["type", "web", "Schlüssel"], 2);
    let logged = home.maqet(["-vvv", "keys", "web", "hunter2"]).run().code(2).stderr;

    assert_eq!(
        (&refused["code"], &refused["hints"][0]),
        (&json!("keys.unavailable"), &json!("resume it with `maqet resume web`"))
    );
    // The text may be a password.
    let log = home.maqet(["logs", "web", "--maqet"]).run().ok().stdout;
    assert!(
        log.contains("qmp.type") && log.contains("keys.character-unsupported") && log.contains("keys.key-not-found"),
        "{log}"
    );
    assert!(["secret", "ü", "hunter2"].iter().all(|typed| !log.contains(typed)), "{log}");
    assert_eq!(logged.matches("hunter2").count(), 1, "in the error, and not in the log: {logged}");
}

#[test]
fn test_type_reads_stdin_and_files_and_refuses_empty_ones() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    let (text, empty) = (home.write("text", "a"), home.write("empty", ""));
    let error = |arguments: &[&str], input: &Path, code| {
        let command = home.maqet(["--format", "json", "type", "web", "--enter"]).args(arguments);
        command.stdin(File::open(input).unwrap()).run().code(code).json_error()["error"].clone()
    };

    // That the VM does not run is noticed once there is something to type.
    let by_text = error(&["-"], &text, 4);
    let by_flag = error(&["--file", "-"], &text, 4);
    let nothing = error(&["-"], &empty, 2);
    let no_line = error(&["--file", empty.to_str().unwrap()], &text, 2);

    assert_eq!((&by_text["code"], &by_flag["code"]), (&json!("vm.status-conflict"), &json!("vm.status-conflict")));
    assert_eq!(nothing["message"], "no text to type: `standard input` is empty");
    assert!(no_line["message"].as_str().unwrap().contains("/empty` is empty"), "{no_line}");
}

#[test]
fn test_type_stdin_on_terminal_shows_notice_until_interrupted() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));

    for command in [vec!["type", "web", "-"], vec!["add", "-"]] {
        let terminal = Terminal::new();
        let running = home.maqet(command).on(&terminal).spawn();
        terminal.wait_for(0, "reading standard input; press Ctrl-D");
        assert!(Command::new("kill").args(["-INT", &running.pid().to_string()]).status().unwrap().success());

        running.wait().code(130);
    }
}
