//! Fetching Debian packages and unpacking them, without installing anything.

use std::fs;
use std::path::{Path, PathBuf};

use super::{BUSYBOX_PACKAGE, KERNEL_METAPACKAGE, read};
use crate::chore::remark;
use crate::failure::{Failure, OrFailure};
use crate::{Result, program, tools};

/// The unpacked packages.
#[derive(Debug)]
pub(crate) struct Unpacked {
    folder: PathBuf,
    kernel_package: String,
}

impl Unpacked {
    /// Returns the name of the kernel's package, which holds its version.
    pub(crate) fn kernel_package(&self) -> &str {
        &self.kernel_package
    }

    /// Returns the path of the kernel.
    pub(crate) fn kernel(&self) -> Result<PathBuf> {
        only_entry(&self.folder.join("boot"), "vmlinuz-")
    }

    /// Returns the folder with the kernel's modules.
    ///
    /// On a system whose /lib is a link into /usr the package may have them there.
    pub(crate) fn modules(&self) -> Result<PathBuf> {
        let places = ["lib/modules", "usr/lib/modules"].map(|place| self.folder.join(place));
        let place = places.iter().find(|place| place.is_dir()).unwrap_or(&places[0]);
        only_entry(place, "")
    }

    /// Returns the busybox binary.
    pub(crate) fn busybox_path(&self) -> PathBuf {
        let places = ["bin/busybox", "usr/bin/busybox"].map(|place| self.folder.join(place));
        places.iter().find(|place| place.is_file()).unwrap_or(&places[0]).clone()
    }

    /// Returns the content of the busybox binary.
    pub(crate) fn busybox(&self) -> Result<Vec<u8>> {
        read(&self.busybox_path())
    }
}

/// Downloads kernel and busybox into `work` and unpacks them there.
pub(crate) fn fetch(work: &Path) -> Result<Unpacked> {
    for needed in ["apt-cache", "apt-get", "dpkg-deb"] {
        if program::find(needed).is_none() {
            return Err(Failure::new(format!("the guest is built from Debian packages, and there is no `{needed}`"))
                .hint("build it on a Debian machine, and name the folder with the two files in MAQET_GUEST"));
        }
    }

    // Old lists name packages that the mirror no longer has, and a fresh machine has no lists at all.
    download(work).or_else(|_| {
        remark("the package lists are missing or old");
        tools::update_lists("apt-get update")?;
        download(work)
    })
}

fn download(work: &Path) -> Result<Unpacked> {
    let listed = program::output(program::command("apt-cache").args(["depends", KERNEL_METAPACKAGE]))?;
    let kernel_package = kernel_package(&listed).ok_or_else(|| {
        Failure::new(format!("apt knows no kernel behind `{KERNEL_METAPACKAGE}`"))
            .hint("the guest needs a Debian machine of the amd64 kind")
    })?;
    remark(&format!("downloading {kernel_package} and {BUSYBOX_PACKAGE}"));
    let mut apt = program::command("apt-get");
    // As root, apt would drop to a user who may not enter our folder, and warn about it.
    apt.args(["-o", "APT::Sandbox::User=root", "download", &kernel_package, BUSYBOX_PACKAGE]).current_dir(work);
    program::output(&mut apt)?;

    let folder = work.join("unpacked");
    for archive in archives(work)? {
        program::output(program::command("dpkg-deb").arg("--extract").args([&archive, &folder]))?;
    }
    Ok(Unpacked { folder, kernel_package })
}

/// Returns the real kernel package out of what `apt-cache depends` says about the metapackage.
fn kernel_package(listed: &str) -> Option<String> {
    listed
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-") && name.bytes().any(|byte| byte.is_ascii_digit()))
        .map(str::to_owned)
}

fn archives(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).or_failure(|| format!("cannot list `{}`", folder.display()))?;
    let is_archive = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "deb");
    Ok(entries.flatten().map(|entry| entry.path()).filter(is_archive).collect())
}

fn only_entry(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).or_failure(|| format!("the kernel's package has no `{}`", folder.display()))?;
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(named)
        .ok_or_else(|| Failure::new(format!("the kernel's package has nothing like `{}/{prefix}*`", folder.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_kernel_package_metapackage_leads_to_the_versioned_one() {
        let listed = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";

        assert_eq!(kernel_package(listed).as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
    }

    #[test]
    fn test_kernel_package_nothing_listed_is_none() {
        assert_eq!(kernel_package(""), None);
    }
}
