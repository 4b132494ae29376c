//! The main use case on real QEMU, as a user would type it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use maqet_testkit::{TestHome, guest, serial, wait};

use crate::failure::{Failure, OrFailure};
use crate::guard::Guard;
use crate::task::{remark, step, typed};
use crate::workspace::Workspace;
use crate::{Result, leak, program, tools};

/// The guest boots in 4 s; slow and busy machines need more.
const BOOT: Duration = Duration::from_mins(2);

/// Far more than any command needs; `stop` waits for the guest to power down.
const COMMAND: Duration = Duration::from_mins(1);

/// How many lines of the serial log a failure shows.
const SERIAL_LINES: usize = 20;

/// The commands before the guest has booted, while it is running, and after it has powered down.
const STARTING: [&str; 2] = ["add web.yaml", "start web"];
const RUNNING: [&str; 5] = ["status web", "ls", "info web --command-line", "qmp web query-status", "stop web"];
const STOPPED: [&str; 5] = [
    "snapshot create web hdd clean",
    "snapshot ls web hdd",
    "snapshot load web hdd clean",
    "snapshot rm web hdd clean",
    "rm web",
];

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    tools::ensure()?;
    crate::guest::ensure(workspace.guest())?;
    step("Building maqet");
    program::run(&mut workspace.cargo(["build", "--package", "maqet-cli"]))?;

    let started = Instant::now();
    let home = TestHome::with_binary(workspace.maqet());
    let folder = home.root().to_owned();
    let guard = Guard::over(&folder)?;
    step(&format!("Running the main use case on QEMU in {}", folder.display()));
    let outcome = main_job(&home, workspace.guest());
    if outcome.is_err() {
        show_serial(&home);
    }
    let processes = if outcome.is_ok() { no_process(&home) } else { Ok(()) };
    drop(home);
    guard.dismiss();

    outcome.and(processes)?;
    leak::check(&folder)?;
    if folder.exists() {
        return Err(Failure::new(format!("`{}` still exists", folder.display())));
    }
    step(&format!("Done in {:.1} s; no process and no file was left behind", started.elapsed().as_secs_f32()));
    Ok(())
}

fn main_job(home: &TestHome, files: &guest::Files) -> Result<()> {
    let yaml = format!("{}storage:\n  - {{name: hdd, type: qcow2, size: 64M}}\n", guest::linux_yaml("web", files));
    typed("cat web.yaml");
    anstream::println!("{}", yaml.trim_end());
    home.write("web.yaml", yaml);

    STARTING.iter().try_for_each(|line| maqet(home, line))?;
    wait_for_guest(&serial_log(home)?)?;
    RUNNING.iter().try_for_each(|line| maqet(home, line))?;
    STOPPED.iter().try_for_each(|line| maqet(home, line))
}

/// Runs a command of the CLI that shares our output.
fn maqet(home: &TestHome, line: &str) -> Result<()> {
    output_of(home, line, Stdio::inherit()).map(drop)
}

fn output_of(home: &TestHome, line: &str, stdout: Stdio) -> Result<String> {
    typed(&format!("maqet {line}"));
    let mut command = home.maqet(line.split(' ')).into_command();
    command.stdout(stdout).stderr(Stdio::inherit());
    let mut child = command.spawn().or_failure(|| format!("cannot run `maqet {line}`"))?;

    // The output fits into the pipe, so the child never blocks on it.
    let Some(exited) = wait::try_until(COMMAND, || child.try_wait().transpose()) else {
        let _already_exited = child.kill();
        let _reaped = child.wait();
        return Err(Failure::new(format!("`maqet {line}` timed out after {} s", COMMAND.as_secs())));
    };
    let status = exited.or_failure(|| format!("cannot wait for `maqet {line}`"))?;
    if !status.success() {
        return Err(Failure::new(format!("`maqet {line}` failed with {status}")));
    }
    match child.stdout.take() {
        Some(pipe) => std::io::read_to_string(pipe).or_failure(|| format!("cannot read the output of `maqet {line}`")),
        None => Ok(String::new()),
    }
}

fn serial_log(home: &TestHome) -> Result<PathBuf> {
    let answer = output_of(home, "status web --format json", Stdio::piped())?;
    anstream::println!("{}", answer.trim_end());
    serial_log_in(&answer).ok_or_else(|| {
        Failure::new("no path of the serial log in the output of `maqet status web --format json`").because(answer)
    })
}

/// Returns the field `serial_log` in the output of `status`, which is an object or a list of one.
fn serial_log_in(answer: &str) -> Option<PathBuf> {
    let value: serde_json::Value = serde_json::from_str(answer).ok()?;
    let vm = value.get(0).unwrap_or(&value);
    Some(PathBuf::from(vm.get("serial_log")?.as_str()?))
}

fn wait_for_guest(log: &Path) -> Result<()> {
    remark("waiting for the guest to boot");
    let booting = Instant::now();
    if serial::try_wait_for(log, guest::READY, BOOT).is_none() {
        return Err(Failure::new(format!("timed out after {} s waiting for the guest to boot", BOOT.as_secs()))
            .hint("try again when the machine is less busy"));
    }
    let facts = serial::try_wait_for(log, "mem_kib=", Duration::ZERO).unwrap_or_default();
    remark(&format!("booted after {:.1} s: {facts}", booting.elapsed().as_secs_f32()));
    Ok(())
}

fn no_process(home: &TestHome) -> Result<()> {
    let left = home.processes();
    if left.is_empty() {
        return Ok(());
    }
    let listed: Vec<String> = left.iter().map(|one| format!("process {}: {}", one.pid, one.command)).collect();
    Err(Failure::new("a process of the demo was left behind (it has been killed)").because(listed.join("\n    ")))
}

/// Prints the end of each serial log.
fn show_serial(home: &TestHome) {
    let is_serial = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().contains("serial"));
    for log in home.files().into_iter().filter(is_serial) {
        // A socket of that name has no content.
        let tail = serial::tail(&log, SERIAL_LINES);
        if !tail.is_empty() {
            remark(&format!("end of the serial log {}:\n{tail}", log.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A CLI that records its calls and boots by writing a serial log.
    const FAKE: &str = r#"#!/bin/sh
echo "$*" >>calls
case "$*" in
start*) echo 'maqet-guest: mem_kib=1 cpus=1 disks=vda:1' >serial.log; echo 'maqet-guest: ready' >>serial.log ;;
*json) echo "{\"serial_log\": \"$PWD/serial.log\"}" ;;
"$FAILING"*) exit 1 ;;
esac
"#;

    fn home_with(cli: &str) -> (tempfile::TempDir, TestHome) {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("maqet");
        fs::write(&binary, cli).unwrap();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o700)).unwrap();
        (folder, TestHome::with_binary(binary))
    }

    #[test]
    fn test_main_job_working_cli_runs_every_command() {
        let (_folder, home) = home_with(&FAKE.replace("$FAILING", "none"));

        main_job(&home, &guest::Files::in_folder("/guest")).unwrap();

        let calls = fs::read_to_string(home.path("calls")).unwrap();
        let expected: Vec<&str> = [&STARTING[..], &["status web --format json"], &RUNNING, &STOPPED].concat();
        assert_eq!(calls.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn test_main_job_failing_command_is_named_and_the_last() {
        let (_folder, home) = home_with(&FAKE.replace("$FAILING", "stop"));

        let failure = main_job(&home, &guest::Files::in_folder("/guest")).unwrap_err();

        let calls = fs::read_to_string(home.path("calls")).unwrap();
        assert_eq!(failure.to_string(), "`maqet stop web` failed with exit status: 1");
        assert_eq!(calls.lines().last(), Some("stop web"));
    }

    #[track_caller]
    fn check(answer: &str, expected: Option<&str>) {
        assert_eq!(serial_log_in(answer), expected.map(PathBuf::from), "{answer}");
    }

    #[test]
    fn test_serial_log_in_object_is_found() {
        check(r#"{"name": "web", "serial_log": "/tmp/x/serial.log"}"#, Some("/tmp/x/serial.log"));
    }

    #[test]
    fn test_serial_log_in_list_is_found() {
        check(r#"[{"serial_log": "/tmp/x/serial.log"}]"#, Some("/tmp/x/serial.log"));
    }

    #[test]
    fn test_serial_log_in_answer_without_it_is_none() {
        check(r#"{"name": "web"}"#, None);
        check(r#"{"serial_log": null}"#, None);
        check("not json", None);
    }
}
