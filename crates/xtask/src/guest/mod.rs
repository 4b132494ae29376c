//! The Linux guests of tests and demo: one of Debian's kernels and a busybox initramfs each.
//!
//! All comes from downloaded packages that are unpacked and never installed, so an ordinary user can build the guests
//! and the machine's own busybox is left alone.

mod cpio;
mod image;
mod module;
mod package;

use std::fs::{self, File};
use std::path::Path;

use maqet_testkit::guest::Files;
use package::Packages;

use crate::Result;
use crate::chore::{remark, step};
use crate::failure::OrFailure;
use crate::workspace::Workspace;

/// A guest: one of Debian's kernels, and the modules it can load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flavour {
    /// The package that depends on the current kernel of this kind.
    metapackage: &'static str,
    /// What is loaded when somebody asks for it: each module costs every boot 20 ms.
    on_demand: &'static [&'static str],
}

/// The kernel for virtual machines. Its boot is two seconds shorter, so this is the guest of all tests but few.
const CLOUD: Flavour = Flavour {
    metapackage: "linux-image-cloud-amd64",
    on_demand: &["virtio_net", "virtio_scsi", "sd_mod", "sr_mod", "virtio_balloon"],
};

/// The kernel for any machine: the cloud kernel has no 9p.
const WITH_9P: Flavour = Flavour { metapackage: "linux-image-amd64", on_demand: &["9p", "9pnet_virtio"] };

/// The package with a busybox that needs no libraries.
const BUSYBOX_PACKAGE: &str = "busybox-static";

/// The package with the keymaps of Linux consoles.
const KEYMAP_PACKAGE: &str = "console-data";

/// The package with the program that compiles them.
const LOADKEYS_PACKAGE: &str = "kbd";

/// To be raised when the builder makes something else out of the same scripts and modules.
const BUILDER: u32 = 3;

#[derive(Debug, clap::Args)]
pub(crate) struct Guest {
    /// Build them even if they are there, to take newer kernels
    #[arg(long)]
    rebuild: bool,
}

impl Guest {
    pub(crate) fn run(&self, workspace: &Workspace) -> Result<()> {
        let files = workspace.guest();
        if self.rebuild {
            remove_if_there(&stamp_path(files))?;
        }
        if !ensure(files)? {
            step("The guests are up to date");
        }
        for file in [files.kernel(), files.initramfs()] {
            anstream::println!("{}", file.display());
        }
        Ok(())
    }
}

/// Builds the guests if one is missing or was built by another version of the builder; returns whether it did.
///
/// A second builder waits for the first one and then finds all done.
pub(crate) fn ensure(files: &Files) -> Result<bool> {
    let folder = files.folder();
    fs::create_dir_all(folder).or_failure(|| format!("cannot make `{}`", folder.display()))?;
    let lock_path = folder.join("lock");
    let lock = File::create(&lock_path).or_failure(|| format!("cannot open `{}`", lock_path.display()))?;
    lock.lock().or_failure(|| format!("cannot lock `{}`", lock_path.display()))?;

    if files.exist()
        && files.with_9p().exist()
        && fs::read_to_string(stamp_path(files)).is_ok_and(|found| found == stamp())
    {
        return Ok(false);
    }
    build(files)?;
    Ok(true)
}

fn build(files: &Files) -> Result<()> {
    step("Building the guests (kernels and busybox initramfs)");
    let folder = files.folder();
    let work = tempfile::Builder::new()
        .prefix(".build-")
        .tempdir_in(folder)
        .or_failure(|| format!("cannot make a folder in `{}`", folder.display()))?;

    let Packages { busybox, keymaps, kernels: [cloud, with_9p] } = package::fetch(work.path(), [CLOUD, WITH_9P])?;
    // Without a stamp all count as missing, so that an interrupted build is never taken for a whole one.
    remove_if_there(&stamp_path(files))?;
    for (files, unpacked, flavour) in [(files, cloud, CLOUD), (&files.with_9p(), with_9p, WITH_9P)] {
        let initramfs = image::initramfs(&unpacked, &busybox, &keymaps, flavour.on_demand)?;
        fs::create_dir_all(files.folder()).or_failure(|| format!("cannot make `{}`", files.folder().display()))?;
        put(&files.kernel(), &read(&unpacked.kernel()?)?, work.path())?;
        put(&files.initramfs(), &initramfs, work.path())?;
        remark(&format!("{} in {}", unpacked.package(), files.folder().display()));
    }
    put(&stamp_path(files), stamp().as_bytes(), work.path())
}

/// Writes a file whole: elsewhere on the same file system, then renamed.
fn put(path: &Path, content: &[u8], work: &Path) -> Result<()> {
    let whole = work.join("whole");
    fs::write(&whole, content)
        .and_then(|()| fs::rename(&whole, path))
        .or_failure(|| format!("cannot write `{}`", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).or_failure(|| format!("cannot read `{}`", path.display()))
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).or_failure(|| format!("cannot remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}

fn stamp_path(files: &Files) -> std::path::PathBuf {
    files.folder().join("stamp")
}

/// Returns what the guests are made from, word by word: any change of it asks for new ones.
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
