//! The commands of the guide on snapshots, in the order of the page, and what it says that they print.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use maqet_testkit::{TestHome, guest};

/// Returns the commands with the lines that follow each.
fn commands(page: &str) -> Vec<(&str, Vec<&str>)> {
    let mut commands: Vec<(&str, Vec<&str>)> = Vec::new();
    for block in page.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        for line in block.lines() {
            match (line.strip_prefix("$ "), commands.last_mut()) {
                (Some(command), _) => commands.push((command, Vec::new())),
                (None, Some((_, printed))) => printed.push(line),
                (None, None) => panic!("{line} is of no command"),
            }
        }
    }
    commands
}

/// Replaces the times in a text.
fn without_times(text: &str) -> String {
    let is_time = |word: &str| word.len() == 20 && word.ends_with('Z') && word.contains('T');
    text.split(' ').map(|word| if is_time(word) { "TIME" } else { word }).collect::<Vec<_>>().join(" ")
}

#[test]
fn test_commands_of_the_guide_on_snapshots_work() {
    let home = TestHome::new();
    let old = "  - {name: old, type: raw, size: 1M}\n";
    let storage = format!("storage:\n  - {{name: hdd, size: 1M}}\n  - {{name: data, size: 1M}}\n{old}");
    home.add(&(guest::paused_yaml("web") + &storage));
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);
    fs::create_dir(home.path("bin")).unwrap();
    symlink(home.maqet([""; 0]).into_command().get_program(), home.path("bin/maqet")).unwrap();
    let path = format!("{}:{}", home.path("bin").display(), std::env::var("PATH").unwrap());
    let commands = commands(include_str!("../../../../docs/guide/snapshots.md"));

    for (command, printed) in &commands {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).env_clear().envs(home.environment()).env("PATH", &path);
        let done = shell.output().unwrap();

        assert!(done.status.success(), "{command}: {done:?}");
        let stdout = without_times(&String::from_utf8(done.stdout).unwrap());
        for line in printed {
            assert!(stdout.lines().any(|found| found == without_times(line)), "{command}: no `{line}` in:\n{stdout}");
        }
    }

    assert!(commands.len() >= 15, "{commands:?}");
    home.json(&["stop", "web", "--force"]);
}
