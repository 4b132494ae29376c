//! QEMU 10.0 beside that of the system, so that the tests run on both.
//!
//! The packages are downloaded from Debian's backports, verified by apt, and unpacked; nothing is installed. They hold
//! the real binaries: QEMU looks for its data and modules below `qemu-bundle` beside its binary, before the system's
//! directories, and a link of that name leads to the unpacked ones.

mod apt;
pub(crate) mod source;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use maqet_testkit::qemu::{self, Unpacked};

use self::apt::Apt;
use crate::failure::{Failure, OrFailure};
use crate::file::remove_if_exists;
use crate::task::{remark, step};
use crate::workspace::Workspace;
use crate::{Result, debian, program};

/// The release whose backports have QEMU 10.0, built for the libraries of that release.
const RELEASE: &str = "bookworm";

const PACKAGES: [&str; 5] = ["qemu-system-x86", "qemu-system-common", "qemu-system-data", "qemu-utils", "seabios"];

/// The system's network boot ROMs, which QEMU 10.0 uses too; installed with its own QEMU.
const NETWORK_ROMS: &str = "/usr/lib/ipxe";

/// Raise it when the layout of the directory changes.
const STAMP: &str = "layout 1\n";

#[derive(Debug, clap::Args)]
pub(crate) struct Qemu {
    /// Download it even if it is there, for a newer build
    #[arg(long)]
    refresh: bool,
}

impl Qemu {
    pub(crate) fn run(&self, workspace: &Workspace) -> Result<()> {
        let unpacked = workspace.unpacked_qemu();
        if let Some(lack) = lack() {
            return Err(Failure::new(format!("cannot unpack QEMU {}: {lack}", qemu::UNPACKED_VERSION)));
        }
        if self.refresh {
            remove_if_exists(&stamp_path(unpacked))?;
        }
        if !ensure(unpacked)? {
            step(&format!("{} is there", version_of(unpacked)?));
        }
        anstream::println!("{}", unpacked.emulator().display());
        Ok(())
    }
}

/// Returns why this host cannot have QEMU 10.0 beside its own.
pub(crate) fn lack() -> Option<String> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !release.lines().any(|line| line == format!("VERSION_CODENAME={RELEASE}")) {
        return Some(format!("its packages are for Debian 12 ({RELEASE}), and this host is not"));
    }
    if std::env::consts::ARCH != "x86_64" {
        return Some(format!("its packages are for x86_64, and this host is {}", std::env::consts::ARCH));
    }
    None
}

/// Unpacks it if it is missing; returns whether it did.
///
/// A concurrent call waits for the first and then finds it there.
pub(crate) fn ensure(unpacked: &Unpacked) -> Result<bool> {
    let folder = unpacked.folder();
    fs::create_dir_all(folder).or_failure(|| format!("cannot create `{}`", folder.display()))?;
    let lock_path = folder.join("lock");
    let lock = File::create(&lock_path).or_failure(|| format!("cannot open `{}`", lock_path.display()))?;
    lock.lock().or_failure(|| format!("cannot lock `{}`", lock_path.display()))?;

    if unpacked.exists() && fs::read_to_string(stamp_path(unpacked)).is_ok_and(|found| found == STAMP) {
        return Ok(false);
    }
    step(&format!("Unpacking QEMU {} beside that of the system", qemu::UNPACKED_VERSION));
    unpack(unpacked)
        .map_err(|failure| failure.hint("to run the tests without it, run `cargo xtask test --qemu system`"))?;
    remark(&format!("{} in {}", version_of(unpacked)?, folder.display()));
    Ok(true)
}

fn unpack(unpacked: &Unpacked) -> Result<()> {
    let source = source::of_backports(RELEASE).ok_or_else(|| {
        Failure::new(format!("no package source in /etc/apt names a mirror with `{RELEASE}` and `main`"))
            .hint(format!("add `deb http://deb.debian.org/debian {RELEASE} main` to /etc/apt/sources.list"))
    })?;
    let folder = unpacked.folder();
    let work = tempfile::Builder::new()
        .prefix(".work-")
        .tempdir_in(folder)
        .or_failure(|| format!("cannot create a directory in `{}`", folder.display()))?;
    remark(&format!("downloading {} from {RELEASE}-backports", PACKAGES.join(", ")));
    let downloads = Apt::in_folder(work.path(), &source)?.download(&PACKAGES).map_err(|failure| {
        Failure::new(format!("cannot download QEMU {}", qemu::UNPACKED_VERSION))
            .because(failure)
            .hint(format!("check that the mirror has `{RELEASE}-backports`:\n{}", source.text.trim_end()))
    })?;

    let fresh = Unpacked::in_folder(work.path().join("unpacked"));
    debian::unpack(&downloads, &PACKAGES.map(str::to_owned), |_| fresh.folder().to_owned())?;
    let link = |target: &Path, path: &Path| {
        symlink(target, path).or_failure(|| format!("cannot create the link `{}`", path.display()))
    };
    link(Path::new("../.."), &fresh.programs().join("qemu-bundle"))?;
    link(Path::new(NETWORK_ROMS), &fresh.folder().join("usr/lib/ipxe"))?;
    // A missing library shows here, not in the tests.
    version_of(&fresh)?;

    // Without a stamp it counts as missing, so an interrupted exchange is never used.
    remove_if_exists(&stamp_path(unpacked))?;
    let (old, new) = (folder.join("usr"), fresh.folder().join("usr"));
    if old.exists() {
        fs::remove_dir_all(&old).or_failure(|| format!("cannot remove `{}`", old.display()))?;
    }
    fs::rename(&new, &old).or_failure(|| format!("cannot rename `{}`", new.display()))?;
    fs::write(stamp_path(unpacked), STAMP).or_failure(|| format!("cannot write `{}`", stamp_path(unpacked).display()))
}

/// Returns what the unpacked emulator says that it is, once it and `qemu-img` run.
fn version_of(unpacked: &Unpacked) -> Result<String> {
    let expected = format!(" version {}.", qemu::UNPACKED_VERSION);
    let first_line = |program: &Path| {
        let printed = program::output(program::command(program).arg("--version"))?;
        let line = printed.lines().next().unwrap_or_default().to_owned();
        if !line.contains(&expected) {
            return Err(Failure::new(format!(
                "`{}` is not QEMU {}: it printed `{line}`",
                program.display(),
                qemu::UNPACKED_VERSION
            )));
        }
        Ok(line)
    };
    first_line(&unpacked.programs().join("qemu-img"))?;
    first_line(&unpacked.emulator())
}

fn stamp_path(unpacked: &Unpacked) -> std::path::PathBuf {
    unpacked.folder().join("stamp")
}
