//! System packages that tasks need, installed with apt-get if they are missing.

use std::io::{IsTerminal, stdin};
use std::path::Path;
use std::process::Command;
use std::{fmt, fs};

use maqet_testkit::postgres;

use crate::failure::Failure;
use crate::task::{prompt, remark, step};
use crate::{Result, program};

/// A requirement of tasks and the Debian packages that provide it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tool {
    kind: Kind,
    packages: &'static [&'static str],
    why: &'static str,
}

/// Kinds of tools, each found in its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A program in PATH.
    Program(&'static str),
    /// GRUB in a bootable image.
    Grub,
    /// UEFI for this architecture, with a firmware descriptor.
    Uefi(&'static str),
    /// The server of PostgreSQL, which Debian keeps out of PATH.
    Postgres,
}

/// `qemu-system-x86` first, as its installation may remove installed `qemu-utils`.
const TOOLS: [Tool; 17] = [
    Tool {
        kind: Kind::Program("qemu-system-x86_64"),
        packages: &["qemu-system-x86"],
        why: "runs the virtual machines",
    },
    QEMU_IMG,
    Tool { kind: Kind::Program("cc"), packages: &["gcc", "libc6-dev"], why: "builds SQLite" },
    Tool { kind: Kind::Uefi("x86_64"), packages: &["ovmf"], why: "starts VMs with UEFI firmware" },
    Tool {
        kind: Kind::Program("qemu-system-aarch64"),
        packages: &["qemu-system-arm"],
        why: "runs virtual machines of another architecture",
    },
    Tool { kind: Kind::Uefi("aarch64"), packages: &["qemu-efi-aarch64"], why: "starts them with UEFI firmware" },
    Tool {
        kind: Kind::Program("qemu-system-riscv64"),
        packages: &["qemu-system-misc"],
        why: "runs virtual machines of a third architecture",
    },
    Tool { kind: Kind::Program("passt"), packages: &["passt"], why: "connects VMs with `mode: passt`" },
    Tool { kind: Kind::Program("swtpm"), packages: &["swtpm"], why: "emulates the TPM of VMs with `tpm: true`" },
    Tool { kind: Kind::Grub, packages: &["grub-rescue-pc"], why: "shows a prompt that tests type at" },
    Tool {
        kind: Kind::Program("tesseract"),
        packages: &["tesseract-ocr", "tesseract-ocr-eng"],
        why: "reads the screen in tests",
    },
    Tool { kind: Kind::Program("socat"), packages: &["socat"], why: "is an external QMP client in tests" },
    Tool { kind: Kind::Program("ip"), packages: &["iproute2"], why: "creates taps and bridges in tests" },
    Tool { kind: Kind::Program("ssh"), packages: &["openssh-client"], why: "logs in to guests in tests" },
    Tool {
        kind: Kind::Program("shellcheck"),
        packages: &["shellcheck"],
        why: "checks the scripts of the guides in tests",
    },
    Tool { kind: Kind::Program("promtool"), packages: &["prometheus"], why: "checks the text for Prometheus in tests" },
    Tool { kind: Kind::Postgres, packages: &["postgresql"], why: "is the database of shared hosts in tests" },
];

/// The image in GRUB's package.
const GRUB: &str = "/usr/lib/grub-rescue/grub-rescue-cdrom.iso";

/// Folders of firmware descriptors, of the host and of packages (`docs/interop/firmware.json`, QEMU 7.2).
const DESCRIPTORS: [&str; 2] = ["/etc/qemu/firmware", "/usr/share/qemu/firmware"];

/// An additional requirement of `bench`.
const SQLITE: Tool =
    Tool { kind: Kind::Program("sqlite3"), packages: &["sqlite3"], why: "is the limit of `ls` and `status`" };

const QEMU_IMG: Tool =
    Tool { kind: Kind::Program("qemu-img"), packages: &["qemu-utils"], why: "creates disks and snapshots" };

/// Additional requirements of the Debian guest.
const DEBIAN_GUEST: [Tool; 2] = [
    Tool { kind: Kind::Program("mmdebstrap"), packages: &["mmdebstrap"], why: "installs Debian into a directory" },
    Tool { kind: Kind::Program("fakeroot"), packages: &["fakeroot"], why: "keeps the owners of its files" },
];

/// How this user may install packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Privilege {
    Root,
    Sudo,
    None,
}

/// Installs missing tools; prints nothing if there are none.
pub(crate) fn ensure() -> Result<()> {
    ensure_all(&TOOLS)
}

/// Installs missing tools of `bench`; prints nothing if there are none.
pub(crate) fn ensure_for_bench() -> Result<()> {
    ensure_all(&[&TOOLS[..], &[SQLITE]].concat())
}

/// Installs missing tools of the tests, the Debian guest included; prints nothing if there are none.
pub(crate) fn ensure_for_tests() -> Result<()> {
    ensure_all(&[&TOOLS[..], &DEBIAN_GUEST].concat())
}

/// Returns whether an installation may ask for a password.
pub(crate) fn may_ask() -> bool {
    privilege() == Privilege::Sudo
}

/// Installs missing tools of the Debian guest; prints nothing if there are none.
pub(crate) fn ensure_for_debian_guest() -> Result<()> {
    ensure_all(&[&[QEMU_IMG], &DEBIAN_GUEST[..]].concat())
}

fn ensure_all(tools: &[Tool]) -> Result<()> {
    let missing = missing(tools, Kind::is_installed);
    if missing.is_empty() {
        return Ok(());
    }

    step("Installing missing packages");
    for tool in &missing {
        remark(&format!("{} {}", tool.kind, tool.why));
    }
    update_lists(&manual(&missing))?;
    apt(&install_arguments(&missing), &manual(&missing))?;
    for tool in tools {
        // Checked again for each: an installation can remove another tool.
        if !tool.kind.is_installed() {
            apt(&install_arguments(&[tool]), &manual(&missing))?;
        }
    }
    match tools.iter().find(|tool| !tool.kind.is_installed()) {
        None => Ok(()),
        Some(tool) => Err(Failure::new(format!("{} is missing after its installation", tool.kind))
            .hint(format!("run `apt-cache policy {}`", tool.packages.join(" ")))),
    }
}

/// Updates the package lists; `instead` is the command to suggest if this user cannot.
pub(crate) fn update_lists(instead: &str) -> Result<()> {
    apt(&["update"], instead)
}

fn missing(tools: &[Tool], is_installed: impl Fn(Kind) -> bool) -> Vec<&Tool> {
    tools.iter().filter(|tool| !is_installed(tool.kind)).collect()
}

impl Kind {
    fn is_installed(self) -> bool {
        match self {
            Self::Program(name) => program::find(name).is_some(),
            Self::Grub => Path::new(GRUB).is_file(),
            Self::Uefi(architecture) => {
                DESCRIPTORS.iter().any(|folder| describes_uefi(Path::new(folder), architecture))
            }
            Self::Postgres => postgres::programs().is_some(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(name) => write!(f, "`{name}`"),
            Self::Grub => f.write_str("GRUB's rescue image"),
            Self::Uefi(architecture) => write!(f, "UEFI firmware for {architecture}"),
            Self::Postgres => f.write_str("a PostgreSQL server"),
        }
    }
}

/// Returns whether `folder` has a descriptor of UEFI for an architecture; maqet itself checks the details.
fn describes_uefi(folder: &Path, architecture: &str) -> bool {
    let architecture = format!("\"{architecture}\"");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let contents = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    contents.into_iter().any(|content| content.contains("\"uefi\"") && content.contains(&architecture))
}

fn install_arguments(tools: &[&Tool]) -> Vec<&'static str> {
    let packages = tools.iter().flat_map(|tool| tool.packages).copied();
    ["install", "--yes", "--no-install-recommends"].into_iter().chain(packages).collect()
}

fn manual(missing: &[&Tool]) -> String {
    format!("apt-get update && apt-get {}", install_arguments(missing).join(" "))
}

fn apt(arguments: &[&str], instead: &str) -> Result<()> {
    if program::find("apt-get").is_none() {
        return Err(Failure::new("cannot install packages: apt-get is missing")
            .hint("install QEMU (`qemu-system-x86_64`, `qemu-img`), UEFI firmware and a C compiler (`cc`)")
            .hint(format!("on Debian: {instead}")));
    }
    let mut command = match privilege() {
        Privilege::Root => program::command("apt-get"),
        Privilege::Sudo => with_sudo(),
        Privilege::None => {
            return Err(Failure::new("cannot install packages: not root, and sudo is missing")
                .hint(format!("run as root: {instead}")));
        }
    };
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");

    prompt(&program::shown(&command));
    program::run(&mut command)
}

fn privilege() -> Privilege {
    if rustix::process::geteuid().is_root() {
        Privilege::Root
    } else if program::find("sudo").is_some() {
        Privilege::Sudo
    } else {
        Privilege::None
    }
}

fn with_sudo() -> Command {
    remark("installing packages needs root; only the next command runs with sudo");
    let mut command = program::command("sudo");
    if !stdin().is_terminal() {
        // sudo cannot ask for a password.
        command.arg("--non-interactive");
    }
    // sudo resets the environment.
    command.args(["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "apt-get"]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_missing_everything_installed_is_empty() {
        assert!(missing(&TOOLS, |_| true).is_empty());
    }

    #[test]
    fn test_missing_nothing_installed_starts_with_qemu_system() {
        let names: Vec<_> = missing(&TOOLS, |_| false).iter().map(|tool| tool.kind.to_string()).collect();

        assert_eq!(
            names,
            [
                "`qemu-system-x86_64`",
                "`qemu-img`",
                "`cc`",
                "UEFI firmware for x86_64",
                "`qemu-system-aarch64`",
                "UEFI firmware for aarch64",
                "`qemu-system-riscv64`",
                "`passt`",
                "`swtpm`",
                "GRUB's rescue image",
                "`tesseract`",
                "`socat`",
                "`ip`",
                "`ssh`",
                "`shellcheck`",
                "`promtool`",
                "a PostgreSQL server"
            ]
        );
    }

    #[test]
    fn test_describes_uefi_other_architecture_is_false() {
        let folder = tempfile::tempdir().unwrap();
        let describe = |name: &str, architecture: &str| {
            let content =
                format!(r#"{{"interface-types": ["uefi"], "targets": [{{"architecture": "{architecture}"}}]}}"#);
            fs::write(folder.path().join(name), content).unwrap();
        };

        describe("60-arm.json", "aarch64");
        let only_arm = describes_uefi(folder.path(), "x86_64");
        describe("60-pc.json", "x86_64");

        assert!(!only_arm && describes_uefi(folder.path(), "x86_64"));
    }

    #[test]
    fn test_manual_missing_tools_is_one_command_to_paste() {
        assert_eq!(
            manual(&missing(&TOOLS, |kind| kind != Kind::Program("qemu-img"))),
            "apt-get update && apt-get install --yes --no-install-recommends qemu-utils"
        );
    }
}
