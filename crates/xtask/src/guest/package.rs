//! Downloading and unpacking Debian packages, without installing them.

use std::path::{Path, PathBuf};

use super::{BUSYBOX_PACKAGE, Flavour, KEYMAP_PACKAGE, LOADKEYS_PACKAGE, read};
use crate::debian::only_entry;
use crate::failure::Failure;
use crate::task::remark;
use crate::{Result, debian, program, tools};

/// The unpacked packages.
#[derive(Debug)]
pub(crate) struct Packages<const N: usize> {
    pub(crate) busybox: Busybox,
    pub(crate) keymaps: Keymaps,
    /// In the order of the request.
    pub(crate) kernels: [Kernel; N],
}

/// An unpacked kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    folder: PathBuf,
    package: String,
}

/// An unpacked busybox.
#[derive(Debug)]
pub(crate) struct Busybox {
    folder: PathBuf,
}

/// Unpacked keymaps and their compiler.
#[derive(Debug)]
pub(crate) struct Keymaps {
    folder: PathBuf,
    loadkeys: PathBuf,
}

impl Keymaps {
    /// Compiles a keymap, such as `qwertz/de-latin1`, into the format of busybox's `loadkmap`.
    pub(crate) fn compiled(&self, keymap: &str) -> Result<Vec<u8>> {
        let paths = ["bin/loadkeys", "usr/bin/loadkeys"].map(|place| self.loadkeys.join(place));
        let loadkeys = paths.iter().find(|place| place.is_file()).unwrap_or(&paths[0]);
        let source = self.folder.join("usr/share/keymaps/i386").join(keymap).with_extension("kmap.gz");
        program::bytes(program::command(loadkeys).arg("--bkeymap").arg(source))
    }
}

impl Kernel {
    /// Returns the name of the package, which includes the version.
    pub(crate) fn package(&self) -> &str {
        &self.package
    }

    /// Returns the path of the kernel.
    pub(crate) fn kernel(&self) -> Result<PathBuf> {
        only_entry(&self.folder.join("boot"), "vmlinuz-")
    }

    /// Returns the folder with the kernel's modules.
    ///
    /// Packages of systems with a merged /usr can have them there.
    pub(crate) fn modules(&self) -> Result<PathBuf> {
        let paths = ["lib/modules", "usr/lib/modules"].map(|place| self.folder.join(place));
        let place = paths.iter().find(|place| place.is_dir()).unwrap_or(&paths[0]);
        only_entry(place, "")
    }
}

impl Busybox {
    /// Returns the path of the binary.
    pub(crate) fn path(&self) -> PathBuf {
        let paths = ["bin/busybox", "usr/bin/busybox"].map(|place| self.folder.join(place));
        paths.iter().find(|place| place.is_file()).unwrap_or(&paths[0]).clone()
    }

    /// Returns the content of the binary.
    pub(crate) fn content(&self) -> Result<Vec<u8>> {
        read(&self.path())
    }
}

/// Downloads kernels, busybox and keymaps into `work` and unpacks them there.
pub(crate) fn fetch<const N: usize>(work: &Path, flavours: [Flavour; N]) -> Result<Packages<N>> {
    for needed in ["apt-cache", "apt-get", "dpkg-deb"] {
        if program::find(needed).is_none() {
            return Err(Failure::new(format!("cannot build the guests from Debian packages: `{needed}` is missing"))
                .hint("build them on a Debian machine and set MAQET_GUEST to the directory of the files"));
        }
    }

    // Outdated lists name packages that the mirror no longer has, and a fresh machine has no lists.
    let packages = download(work, &flavours).or_else(|_| {
        remark("the package lists are missing or outdated");
        tools::update_lists("apt-get update")?;
        download(work, &flavours)
    })?;
    debian::unpack(work, &packages, |package| work.join(package))?;
    let mut packages = packages.into_iter();
    let kernels = flavours.map(|_| {
        let package = packages.next().unwrap_or_default();
        Kernel { folder: work.join(&package), package }
    });
    let keymaps = Keymaps { folder: work.join(KEYMAP_PACKAGE), loadkeys: work.join(LOADKEYS_PACKAGE) };
    Ok(Packages { busybox: Busybox { folder: work.join(BUSYBOX_PACKAGE) }, keymaps, kernels })
}

/// Downloads all packages; returns their names, those of kernels first.
fn download(work: &Path, flavours: &[Flavour]) -> Result<Vec<String>> {
    let mut packages = flavours.iter().map(|flavour| versioned(flavour.metapackage)).collect::<Result<Vec<_>>>()?;
    packages.extend([BUSYBOX_PACKAGE, KEYMAP_PACKAGE, LOADKEYS_PACKAGE].map(str::to_owned));
    remark(&format!("downloading {}", packages.join(", ")));
    let mut apt = program::command("apt-get");
    // Run by root, apt would switch to a user without access to the folder, and warn.
    apt.args(["-o", "APT::Sandbox::User=root", "download"]).args(&packages).current_dir(work);
    program::output(&mut apt)?;
    Ok(packages)
}

/// Returns the kernel package that a metapackage depends on.
fn versioned(metapackage: &str) -> Result<String> {
    let listed = program::output(program::command("apt-cache").args(["depends", metapackage]))?;
    kernel_package(&listed).ok_or_else(|| {
        Failure::new(format!("`{metapackage}` does not depend on a kernel package"))
            .hint("build the guests on a Debian machine with amd64")
    })
}

/// Returns the kernel package in the output of `apt-cache depends` for the metapackage.
fn kernel_package(listed: &str) -> Option<String> {
    listed
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-") && name.bytes().any(|byte| byte.is_ascii_digit()))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_kernel_package_of_metapackage_is_the_versioned_one() {
        let listed = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";

        assert_eq!(kernel_package(listed).as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
    }

    #[test]
    fn test_kernel_package_nothing_listed_is_none() {
        assert_eq!(kernel_package(""), None);
    }
}
