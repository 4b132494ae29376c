//! The Linux guest of tests and demo: Debian's cloud kernel and a busybox initramfs.
//!
//! Both come from downloaded packages that are unpacked and never installed, so an ordinary user can build the guest
//! and the machine's own busybox is left alone.

mod cpio;
mod image;
mod module;
mod package;

use std::fs::{self, File};
use std::path::Path;

use maqet_testkit::guest::Files;

use crate::Result;
use crate::chore::{remark, step};
use crate::failure::OrFailure;
use crate::workspace::Workspace;

/// The package that depends on the current kernel for virtual machines.
const KERNEL_METAPACKAGE: &str = "linux-image-cloud-amd64";

/// The package with a busybox that needs no libraries.
const BUSYBOX_PACKAGE: &str = "busybox-static";

/// To be raised when the builder makes something else out of the same script and modules.
const BUILDER: u32 = 1;

#[derive(Debug, clap::Args)]
pub(crate) struct Guest {
    /// Build it even if it is there, to take a newer kernel
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
            step("The guest is up to date");
        }
        for file in [files.kernel(), files.initramfs()] {
            anstream::println!("{}", file.display());
        }
        Ok(())
    }
}

/// Builds the guest if it is missing or was built by another version of the builder; returns whether it did.
///
/// A second builder waits for the first one and then finds all done.
pub(crate) fn ensure(files: &Files) -> Result<bool> {
    let folder = files.folder();
    fs::create_dir_all(folder).or_failure(|| format!("cannot make `{}`", folder.display()))?;
    let lock_path = folder.join("lock");
    let lock = File::create(&lock_path).or_failure(|| format!("cannot open `{}`", lock_path.display()))?;
    lock.lock().or_failure(|| format!("cannot lock `{}`", lock_path.display()))?;

    if files.exist() && fs::read_to_string(stamp_path(files)).is_ok_and(|found| found == stamp()) {
        return Ok(false);
    }
    build(files)?;
    Ok(true)
}

fn build(files: &Files) -> Result<()> {
    step("Building the guest (kernel and busybox initramfs)");
    let folder = files.folder();
    let work = tempfile::Builder::new()
        .prefix(".build-")
        .tempdir_in(folder)
        .or_failure(|| format!("cannot make a folder in `{}`", folder.display()))?;

    let unpacked = package::fetch(work.path())?;
    let kernel = unpacked.kernel()?;
    let initramfs = image::initramfs(&unpacked)?;

    // Without a stamp the pair counts as missing, so that an interrupted build is never taken for a whole one.
    remove_if_there(&stamp_path(files))?;
    put(&files.kernel(), &read(&kernel)?, work.path())?;
    put(&files.initramfs(), &initramfs, work.path())?;
    put(&stamp_path(files), stamp().as_bytes(), work.path())?;
    remark(&format!("{} in {}", unpacked.kernel_package(), folder.display()));
    Ok(())
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

/// Returns what the guest is made from, word by word: any change of it asks for a new guest.
fn stamp() -> String {
    format!("builder {BUILDER}\nmodules {}\n\n{}", image::MODULES.join(" "), image::INIT)
}
