//! `exec -t` and `shell` on a real terminal.

use maqet_testkit::{Maqet, Running, Terminal};
use rustix::process::{Pid, Signal, kill_process};

use crate::debian::Booted;

/// Starts a command on a terminal, and waits until its keys go to the guest.
fn start(command: Maqet, terminal: &Terminal) -> Running {
    let running = command.env("TERM", "xterm-color").on(terminal).spawn();
    terminal.wait_until_raw();
    running
}

fn send(running: &Running, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(running.pid()).unwrap()).unwrap(), signal).unwrap();
}

/// The shell has the kind and the size of the terminal, also once that has changed, job control and Ctrl-C; then the
/// terminal is as it was before.
#[test]
fn test_shell_has_the_terminal_and_leaves_it_as_it_was() {
    let booted = Booted::get();
    let _turn = booted.turn();
    let terminal = Terminal::new();
    terminal.resize(30, 90);
    let before = terminal.modes();

    let shell = start(booted.0.maqet(["shell", "deb", "-w", "/tmp"]), &terminal);
    terminal.type_keys("echo $(stty size)-$TERM-$SHELL-$PWD-$-\r");
    terminal.wait_for(0, "30 90-xterm-color-/bin/bash-/tmp-");
    // What is typed is shown, too: only the shell adds numbers.
    terminal.type_keys("set -o | grep -c 'monitor.*on' | sed s/^/jobs-/\r");
    terminal.wait_for(0, "jobs-1");
    // Once this is shown, it is the foreground job.
    terminal.type_keys("sh -c 'echo begun-$((40+2)); exec sleep 984'\r");
    terminal.wait_for(0, "begun-42");
    terminal.type_keys("\x03");
    terminal.wait_for(0, "^C");
    terminal.type_keys("echo code-$?-\r");
    terminal.wait_for(0, "code-130-");
    terminal.resize(40, 100);
    send(&shell, Signal::WINCH);
    terminal.type_keys("until [ \"$(stty size)\" = '40 100' ]; do sleep 0.1; done; echo resized-$((1+1))\r");
    terminal.wait_for(0, "resized-2");
    terminal.type_keys("exit 9\r");

    assert_eq!(shell.wait().code, Some(9), "{}", terminal.shown());
    assert_eq!(terminal.modes(), before);
}

/// However a command on a terminal ends, the terminal is as it was before.
#[test]
fn test_exec_on_a_terminal_restores_it_however_it_ends() {
    let booted = Booted::get();
    let _turn = booted.turn();
    let terminal = Terminal::new();
    let before = terminal.modes();
    // A key that interrupts has no effect before the terminal belongs to the command.
    let cat = |number: u32| {
        let command = format!("echo begun-$(({number} + 1)); exec cat");
        let running = start(booted.exec(["-t", "--kill-after", "1s", "--", "sh", "-c", &command]), &terminal);
        terminal.wait_for(0, &format!("begun-{}", number + 1));
        running
    };
    let mut codes = Vec::new();

    let escaped = cat(1);
    terminal.type_keys("\r~.");
    codes.push(escaped.wait().code);
    let hung_up = cat(2);
    send(&hung_up, Signal::HUP);
    codes.push(hung_up.wait().code);
    let interrupted = cat(3);
    terminal.type_keys("\x03");
    codes.push(interrupted.wait().code);

    assert_eq!(codes, [Some(129), Some(129), Some(130)], "{}", terminal.shown());
    assert_eq!(terminal.modes(), before);
    let refused = booted.exec(["-t", "--", "true"]).env("MAQET_FORMAT", "json").run();
    assert_eq!((refused.json_error()["error"]["code"].as_str(), refused.code), (Some("usage.invalid"), Some(125)));
}
