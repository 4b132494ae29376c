//! What the chores need of the system, installed with apt-get where it is missing.

use std::io::{IsTerminal, stdin};
use std::path::Path;
use std::process::Command;
use std::{fmt, fs};

use crate::chore::{prompt, remark, step};
use crate::failure::Failure;
use crate::{Result, program};

/// Something the chores need and the Debian packages that bring it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tool {
    what: What,
    packages: &'static [&'static str],
    why: &'static str,
}

/// What a tool is, which tells how to look for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// A program in PATH.
    Program(&'static str),
    /// GRUB in a bootable image.
    Grub,
    /// UEFI for PCs, with the descriptor by which it is found.
    Uefi,
}

/// In the order of installation: `qemu-system-x86` first, as it may remove the `qemu-utils` that a machine has.
const TOOLS: [Tool; 9] = [
    Tool {
        what: What::Program("qemu-system-x86_64"),
        packages: &["qemu-system-x86"],
        why: "runs the virtual machines",
    },
    Tool { what: What::Program("qemu-img"), packages: &["qemu-utils"], why: "makes disks and snapshots" },
    Tool { what: What::Program("cc"), packages: &["gcc", "libc6-dev"], why: "builds SQLite" },
    Tool { what: What::Uefi, packages: &["ovmf"], why: "starts the machines that do so without a BIOS" },
    Tool { what: What::Program("passt"), packages: &["passt"], why: "is the network of machines with `mode: passt`" },
    Tool { what: What::Grub, packages: &["grub-rescue-pc"], why: "shows a prompt on the screen for tests to type at" },
    Tool {
        what: What::Program("tesseract"),
        packages: &["tesseract-ocr", "tesseract-ocr-eng"],
        why: "reads the screen for tests",
    },
    Tool { what: What::Program("socat"), packages: &["socat"], why: "is a foreign client of QEMU's monitors in tests" },
    Tool { what: What::Program("ip"), packages: &["iproute2"], why: "makes the taps and bridges of tests" },
];

/// Where its package puts GRUB's image.
const GRUB: &str = "/usr/lib/grub-rescue/grub-rescue-cdrom.iso";

/// Where packages put the descriptors of firmware, and hosts their own (`docs/interop/firmware.json`, QEMU 7.2).
const DESCRIPTORS: [&str; 2] = ["/etc/qemu/firmware", "/usr/share/qemu/firmware"];

/// What `bench` needs besides.
const SQLITE: Tool =
    Tool { what: What::Program("sqlite3"), packages: &["sqlite3"], why: "is the limit for `ls` and `status`" };

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
    let missing = missing(tools, What::is_there);
    if missing.is_empty() {
        return Ok(());
    }

    step("Installing what is missing");
    for tool in &missing {
        remark(&format!("{} {}", tool.what, tool.why));
    }
    update_lists(&manual(&missing))?;
    for tool in tools {
        // Asked anew for each: installing one may have brought or removed another.
        if !tool.what.is_there() {
            apt(&install_arguments(tool), &manual(&missing))?;
        }
    }
    match tools.iter().find(|tool| !tool.what.is_there()) {
        None => Ok(()),
        Some(tool) => Err(Failure::new(format!("{} is still not to be found after its installation", tool.what))
            .hint(format!("look at `apt-cache policy {}`", tool.packages.join(" ")))),
    }
}

/// Fetches the package lists anew; `instead` is what to run where we cannot.
pub(crate) fn update_lists(instead: &str) -> Result<()> {
    apt(&["update"], instead)
}

fn missing(tools: &[Tool], is_there: impl Fn(What) -> bool) -> Vec<&Tool> {
    tools.iter().filter(|tool| !is_there(tool.what)).collect()
}

impl What {
    fn is_there(self) -> bool {
        match self {
            Self::Program(name) => program::find(name).is_some(),
            Self::Grub => Path::new(GRUB).is_file(),
            Self::Uefi => DESCRIPTORS.iter().any(|folder| describes_uefi(Path::new(folder))),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(name) => write!(f, "`{name}`"),
            Self::Grub => f.write_str("GRUB's rescue image"),
            Self::Uefi => f.write_str("UEFI firmware for x86_64"),
        }
    }
}

/// Returns whether a descriptor in `folder` is for UEFI on PCs; whether it is a good one is for maqet to find out.
fn describes_uefi(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let contents = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    contents.into_iter().any(|content| content.contains("\"uefi\"") && content.contains("\"x86_64\""))
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
            .hint("install QEMU (`qemu-system-x86_64`, `qemu-img`), UEFI firmware for it, and a C compiler (`cc`) yourself")
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
        let names: Vec<_> = missing(&TOOLS, |_| false).iter().map(|tool| tool.what.to_string()).collect();

        assert_eq!(
            names,
            [
                "`qemu-system-x86_64`",
                "`qemu-img`",
                "`cc`",
                "UEFI firmware for x86_64",
                "`passt`",
                "GRUB's rescue image",
                "`tesseract`",
                "`socat`",
                "`ip`"
            ]
        );
    }

    #[test]
    fn test_describes_uefi_firmware_of_another_architecture_is_not_enough() {
        let folder = tempfile::tempdir().unwrap();
        let describe = |name: &str, architecture: &str| {
            let content =
                format!(r#"{{"interface-types": ["uefi"], "targets": [{{"architecture": "{architecture}"}}]}}"#);
            fs::write(folder.path().join(name), content).unwrap();
        };

        describe("60-arm.json", "aarch64");
        let only_arm = describes_uefi(folder.path());
        describe("60-pc.json", "x86_64");

        assert!(!only_arm && describes_uefi(folder.path()));
    }

    #[test]
    fn test_manual_missing_tools_is_one_command_to_paste() {
        assert_eq!(
            manual(&missing(&TOOLS, |what| what != What::Program("qemu-img"))),
            "apt-get update && apt-get install --yes --no-install-recommends qemu-utils"
        );
    }
}
