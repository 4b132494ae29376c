//! The Linux guests of tests and demo: Debian kernels with a busybox initramfs, and [a whole Debian system](debian).
//!
//! The packages are downloaded and unpacked, not installed, so building the guests needs no root and does not change the
//! system.

mod cpio;
mod debian;
mod image;
mod module;
mod package;

use std::fs::{self, File};
use std::path::Path;

use maqet_testkit::guest::Files;
use package::Packages;

use crate::Result;
use crate::failure::OrFailure;
use crate::file::remove_if_exists;
use crate::task::{remark, step};
use crate::workspace::Workspace;

/// A guest: a Debian kernel and the modules it can load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flavour {
    /// The package that depends on the current kernel of this flavour.
    metapackage: &'static str,
    /// Modules loaded on request: each one loaded at boot adds 20 ms.
    on_demand: &'static [&'static str],
}

/// The kernel for virtual machines, which boots two seconds faster; most tests use it.
const CLOUD: Flavour = Flavour {
    metapackage: "linux-image-cloud-amd64",
    on_demand: &["virtio_net", "virtio_scsi", "sd_mod", "sr_mod", "virtio_balloon", "virtio_rng"],
};

/// The generic kernel: the cloud kernel lacks 9p.
const WITH_9P: Flavour = Flavour { metapackage: "linux-image-amd64", on_demand: &["9p", "9pnet_virtio"] };

/// The package of a statically linked busybox.
const BUSYBOX_PACKAGE: &str = "busybox-static";

/// The package of keymaps for Linux consoles.
const KEYMAP_PACKAGE: &str = "console-data";

/// The package of the program that compiles keymaps.
const LOADKEYS_PACKAGE: &str = "kbd";

/// Raise it when the builder changes its output for the same scripts and modules.
const BUILDER: u32 = 3;

#[derive(Debug, clap::Args)]
pub(crate) struct Guest {
    /// Which guests
    #[arg(value_enum, default_value = "busybox")]
    kind: Kind,

    /// Rebuild them even if they are up to date, for newer kernels and packages
    #[arg(long)]
    rebuild: bool,
}

/// A kind of guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Kernels with a busybox initramfs, which boot in seconds
    Busybox,
    /// A Debian system with systemd, the guest agent, sshd and cloud-init
    Debian,
}

impl Guest {
    pub(crate) fn run(&self, workspace: &Workspace) -> Result<()> {
        let files = workspace.guest();
        let (is_new, paths) = match self.kind {
            Kind::Busybox => {
                if self.rebuild {
                    remove_if_exists(&stamp_path(files))?;
                }
                (ensure(files)?, vec![files.kernel(), files.initramfs()])
            }
            Kind::Debian => {
                if self.rebuild {
                    debian::forget(files)?;
                }
                let built = files.debian();
                (ensure_debian(files)?, vec![built.kernel(), built.initramfs(), built.disk()])
            }
        };
        if !is_new {
            step("The guests are up to date");
        }
        for path in paths {
            anstream::println!("{}", path.display());
        }
        Ok(())
    }
}

/// Builds the guests if one is missing or outdated; returns whether it did.
///
/// A concurrent build waits for the first and then finds the guests up to date.
pub(crate) fn ensure(files: &Files) -> Result<bool> {
    locked(files.folder(), || {
        if files.exist()
            && files.with_9p().exist()
            && fs::read_to_string(stamp_path(files)).is_ok_and(|found| found == stamp())
        {
            return Ok(false);
        }
        build(files).map(|()| true)
    })
}

/// Builds the Debian guest if it is missing or outdated; returns whether it did.
pub(crate) fn ensure_debian(files: &Files) -> Result<bool> {
    debian::ensure(files)
}

/// Creates a folder and works in it, after other processes that do.
fn locked<T>(folder: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    fs::create_dir_all(folder).or_failure(|| format!("cannot create `{}`", folder.display()))?;
    let lock_path = folder.join("lock");
    let lock = File::create(&lock_path).or_failure(|| format!("cannot open `{}`", lock_path.display()))?;
    lock.lock().or_failure(|| format!("cannot lock `{}`", lock_path.display()))?;
    work()
}

fn build(files: &Files) -> Result<()> {
    step("Building the guests (kernels and busybox initramfs)");
    let folder = files.folder();
    let work = tempfile::Builder::new()
        .prefix(".build-")
        .tempdir_in(folder)
        .or_failure(|| format!("cannot create a directory in `{}`", folder.display()))?;

    let Packages { busybox, keymaps, kernels: [cloud, with_9p] } = package::fetch(work.path(), [CLOUD, WITH_9P])?;
    // Without a stamp the guests count as missing, so an interrupted build is never used.
    remove_if_exists(&stamp_path(files))?;
    for (files, unpacked, flavour) in [(files, cloud, CLOUD), (&files.with_9p(), with_9p, WITH_9P)] {
        let initramfs = image::initramfs(&unpacked, &busybox, &keymaps, flavour.on_demand)?;
        fs::create_dir_all(files.folder()).or_failure(|| format!("cannot create `{}`", files.folder().display()))?;
        put(&files.kernel(), &read(&unpacked.kernel()?)?, work.path())?;
        put(&files.initramfs(), &initramfs, work.path())?;
        remark(&format!("{} in {}", unpacked.package(), files.folder().display()));
    }
    put(&stamp_path(files), stamp().as_bytes(), work.path())
}

/// Writes a file atomically: under another name on the same file system, then renamed.
fn put(path: &Path, content: &[u8], work: &Path) -> Result<()> {
    let whole = work.join("whole");
    fs::write(&whole, content)
        .and_then(|()| fs::rename(&whole, path))
        .or_failure(|| format!("cannot write `{}`", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).or_failure(|| format!("cannot read `{}`", path.display()))
}

fn stamp_path(files: &Files) -> std::path::PathBuf {
    files.folder().join("stamp")
}

/// Returns a text of everything the guests are made from; they are rebuilt when it changes.
fn stamp() -> String {
    let on_demand = [CLOUD, WITH_9P].map(|flavour| flavour.on_demand.join(" ")).join(" / ");
    let modules = image::MODULES.join(" ");
    let keymaps = image::KEYMAPS.map(|(_, keymap)| keymap).join(" ");
    format!(
        "builder {BUILDER}\nkeymaps {keymaps}\nmodules {modules}\non demand {on_demand}\n\n{}\n{}",
        image::INIT,
        image::LOAD
    )
}
