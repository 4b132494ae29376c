//! The programs the chores need, installed with apt-get where they are missing.

use std::io::{IsTerminal, stdin};
use std::process::Command;

use crate::chore::{prompt, remark, step};
use crate::failure::Failure;
use crate::{Result, program};

/// A program and the Debian packages that bring it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tool {
    program: &'static str,
    packages: &'static [&'static str],
    why: &'static str,
}

/// In the order of installation: `qemu-system-x86` first, as it may remove the `qemu-utils` that a machine has.
const TOOLS: [Tool; 3] = [
    Tool { program: "qemu-system-x86_64", packages: &["qemu-system-x86"], why: "runs the virtual machines" },
    Tool { program: "qemu-img", packages: &["qemu-utils"], why: "makes disks and snapshots" },
    Tool { program: "cc", packages: &["gcc", "libc6-dev"], why: "builds SQLite" },
];

/// What `bench` needs besides.
const SQLITE: Tool = Tool { program: "sqlite3", packages: &["sqlite3"], why: "is the limit for `ls` and `status`" };

/// How this user may install packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    Root,
    Sudo,
    None,
}

/// Installs what is missing; does and says nothing when all is there.
pub(crate) fn ensure() -> Result<()> {
    ensure_all(&TOOLS)
}

/// Installs what is missing for `bench`; does and says nothing when all is there.
pub(crate) fn ensure_for_bench() -> Result<()> {
    ensure_all(&[&TOOLS[..], &[SQLITE]].concat())
}

fn ensure_all(tools: &[Tool]) -> Result<()> {
    let missing = missing(tools, |name| program::find(name).is_some());
    if missing.is_empty() {
        return Ok(());
    }

    step("Installing what is missing");
    for tool in &missing {
        remark(&format!("{} {}", tool.program, tool.why));
    }
    update_lists(&manual(&missing))?;
    for tool in tools {
        // Asked anew for each: installing one may have brought or removed another.
        if program::find(tool.program).is_none() {
            apt(&install_arguments(tool), &manual(&missing))?;
        }
    }
    match tools.iter().find(|tool| program::find(tool.program).is_none()) {
        None => Ok(()),
        Some(tool) => Err(Failure::new(format!("`{}` is still not in PATH after its installation", tool.program))
            .hint(format!("look at `apt-cache policy {}`", tool.packages.join(" ")))),
    }
}

/// Fetches the package lists anew; `instead` is what to run where we cannot.
pub(crate) fn update_lists(instead: &str) -> Result<()> {
    apt(&["update"], instead)
}

fn missing(tools: &[Tool], is_there: impl Fn(&str) -> bool) -> Vec<&Tool> {
    tools.iter().filter(|tool| !is_there(tool.program)).collect()
}

fn install_arguments(tool: &Tool) -> Vec<&'static str> {
    [&["install", "--yes", "--no-install-recommends"], tool.packages].concat()
}

fn manual(missing: &[&Tool]) -> String {
    let installs = missing.iter().map(|tool| format!(" && apt-get {}", install_arguments(tool).join(" ")));
    format!("apt-get update{}", installs.collect::<String>())
}

fn apt(arguments: &[&str], instead: &str) -> Result<()> {
    if program::find("apt-get").is_none() {
        return Err(Failure::new("there is no apt-get, so nothing can be installed here")
            .hint("install QEMU (`qemu-system-x86_64`, `qemu-img`) and a C compiler (`cc`) yourself, and try again")
            .hint(format!("on Debian it would be: {instead}")));
    }
    let mut command = match right() {
        Right::Root => program::command("apt-get"),
        Right::Sudo => with_sudo(),
        Right::None => {
            return Err(Failure::new("packages are to be installed, and you are neither root nor is there sudo")
                .hint(format!("have root run: {instead}")));
        }
    };
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");

    prompt(&program::shown(&command));
    program::run(&mut command)
}

fn right() -> Right {
    if rustix::process::geteuid().is_root() {
        Right::Root
    } else if program::find("sudo").is_some() {
        Right::Sudo
    } else {
        Right::None
    }
}

fn with_sudo() -> Command {
    remark("only root can install packages, so the next command runs through sudo; nothing else does");
    let mut command = program::command("sudo");
    if !stdin().is_terminal() {
        // Nobody is there to type a password.
        command.arg("--non-interactive");
    }
    // sudo resets the environment, so what apt-get has to know goes on its command line.
    command.args(["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "apt-get"]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_missing_everything_there_is_nothing() {
        assert!(missing(&TOOLS, |_| true).is_empty());
    }

    #[test]
    fn test_missing_bare_machine_starts_with_qemu_system() {
        let names: Vec<_> = missing(&TOOLS, |_| false).iter().map(|tool| tool.program).collect();

        assert_eq!(names, ["qemu-system-x86_64", "qemu-img", "cc"]);
    }

    #[test]
    fn test_manual_missing_tools_is_one_command_to_paste() {
        assert_eq!(
            manual(&missing(&TOOLS, |name| name != "qemu-img")),
            "apt-get update && apt-get install --yes --no-install-recommends qemu-utils"
        );
    }
}
