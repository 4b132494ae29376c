//! A whole Debian system for the tests of what happens inside a guest: systemd, the guest agent, sshd and cloud-init.
//!
//! `mmdebstrap` makes the tree of files, and `mke2fs -d` a file system of it: nothing is mounted and no loop device is
//! needed. The kernel is that of the other guests, with an initramfs that only finds the disk.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use maqet_testkit::guest::{DebianFiles, Files};

use super::cpio::Archive;
use super::package::{Busybox, Kernel, Packages};
use super::{CLOUD, locked, module, package, put, read};
use crate::failure::{Failure, OrFailure};
use crate::file::remove_if_exists;
use crate::qemu::source::{self, Source};
use crate::task::{remark, step};
use crate::{Result, program, tools};

/// The release, whose backports the other QEMU comes from, too.
const RELEASE: &str = "bookworm";

/// What the system has besides Debian's essential packages.
const PACKAGES: [&str; 10] = [
    "systemd-sysv", "udev", "dbus", "kmod", "procps", "iproute2", "netbase", "qemu-guest-agent", "openssh-server",
    "cloud-init",
];

/// What is not unpacked, as it is not read there.
const EXCLUDED: [&str; 4] = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*"];

/// Modules of the initramfs; the disk is a virtio disk.
const MODULES: [&str; 2] = ["virtio_pci", "virtio_blk"];

const INIT: &str = include_str!("debian-init.sh");

/// Files of the system, besides those of its packages.
const FILES: [(&str, &str); 5] = [
    ("etc/fstab", "LABEL=maqet-debian / ext4 rw,noatime 0 0\n"),
    ("etc/hostname", "debian\n"),
    ("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 debian\n"),
    ("etc/systemd/network/80-dhcp.network", "[Match]\nName=en* eth*\n\n[Network]\nDHCP=ipv4\n"),
    // Of some 250 devices, those that a driver or a name of `/dev` is missing for.
    (
        "etc/systemd/system/systemd-udev-trigger.service.d/few.conf",
        "[Service]\nExecStart=\nExecStart=udevadm trigger --action=add --subsystem-match=block --subsystem-match=net \
         --subsystem-match=tty --subsystem-match=virtio --subsystem-match=virtio-ports\n",
    ),
];

/// Units that are started besides those that their packages enable.
const UNITS: [&str; 1] = ["systemd-networkd.service"];

/// Units that cost time at boot and do nothing for a guest that lives for a minute: systemd itself takes most of the CPU
/// time of an emulated boot, some tenths of a second for each unit.
const MASKED: [&str; 29] = [
    "cryptsetup.target",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "integritysetup.target",
    "kmod-static-nodes.service",
    "modprobe@.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-binfmt.service",
    "systemd-journal-flush.service",
    "systemd-modules-load.service",
    "systemd-networkd-wait-online.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-remount-fs.service",
    "systemd-sysusers.service",
    "systemd-tmpfiles-setup-dev.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
    "veritysetup.target",
];

/// Generators of units for what the guest has not.
const MASKED_GENERATORS: [&str; 10] = [
    "systemd-cryptsetup-generator",
    "systemd-getty-generator",
    "systemd-gpt-auto-generator",
    "systemd-hibernate-resume-generator",
    "systemd-integritysetup-generator",
    "systemd-rc-local-generator",
    "systemd-run-generator",
    "systemd-system-update-generator",
    "systemd-sysv-generator",
    "systemd-veritysetup-generator",
];

/// The size of the file system, of which most is free.
const SIZE: &str = "2G";

/// Raise it when the builder changes its output for the same lists and files.
const BUILDER: u32 = 2;

/// Builds the guest if it is missing or outdated; returns whether it did.
pub(crate) fn ensure(files: &Files) -> Result<bool> {
    let debian = files.debian();
    locked(debian.folder(), || {
        if debian.exist() && fs::read_to_string(stamp_path(&debian)).is_ok_and(|found| found == stamp()) {
            return Ok(false);
        }
        build(&debian).map(|()| true)
    })
}

/// Has the guest count as outdated.
pub(crate) fn forget(files: &Files) -> Result<()> {
    remove_if_exists(&stamp_path(&files.debian()))
}

fn build(debian: &DebianFiles) -> Result<()> {
    tools::ensure_for_debian_guest()?;
    step("Building the Debian guest (a minute or two)");
    let source = source::of_release(RELEASE).ok_or_else(|| {
        Failure::new(format!("no package source in /etc/apt names a mirror with `{RELEASE}` and `main`"))
            .hint(format!("add `deb http://deb.debian.org/debian {RELEASE} main` to /etc/apt/sources.list"))
    })?;
    let folder = debian.folder();
    let work = tempfile::Builder::new()
        .prefix(".build-")
        .tempdir_in(folder)
        .or_failure(|| format!("cannot create a directory in `{}`", folder.display()))?;
    let work = work.path();

    let Packages { busybox, kernels: [kernel], .. } = package::fetch(work, [CLOUD])?;
    let archive = bootstrap(work, &source, &kernel)?;
    let disk = Tree { work }.disk(&archive)?;
    // Without a stamp the guest counts as missing, so an interrupted build is never used.
    remove_if_exists(&stamp_path(debian))?;
    put(&debian.kernel(), &read(&kernel.kernel()?)?, work)?;
    put(&debian.initramfs(), &initramfs(&kernel, &busybox)?, work)?;
    fs::rename(&disk, debian.disk()).or_failure(|| format!("cannot write `{}`", debian.disk().display()))?;
    remark(&format!("Debian {RELEASE} with {} in {}", kernel.package(), folder.display()));
    put(&stamp_path(debian), stamp().as_bytes(), work)
}

/// Installs the packages and the kernel's modules; returns an archive of the tree, which keeps owners whichever user runs this.
fn bootstrap(work: &Path, source: &Source, kernel: &Kernel) -> Result<PathBuf> {
    let sources = work.join(source.file);
    fs::write(&sources, &source.text).or_failure(|| format!("cannot write `{}`", sources.display()))?;
    let archive = work.join("root.tar");
    remark(&format!("installing {} from {RELEASE}", PACKAGES.join(", ")));
    let mut command = program::command("mmdebstrap");
    command.args(["--variant=essential", "--aptopt=Acquire::Languages \"none\"", "--dpkgopt=force-unsafe-io"]);
    command.args(["--aptopt=APT::Install-Recommends \"false\"", "--aptopt=Acquire::Retries \"3\""]);
    command.args(EXCLUDED.map(|path| format!("--dpkgopt=path-exclude={path}")));
    command.arg(format!("--include={}", PACKAGES.join(",")));
    let modules = kernel.modules()?;
    let version = modules.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let copied = program::shown(program::command("copy-in").arg(&modules).arg("/lib/modules"));
    command.args(["--customize-hook=mkdir -p \"$1/lib/modules\"", &format!("--customize-hook={copied}")]);
    command.arg(format!("--customize-hook=chroot \"$1\" depmod {version}"));
    command.arg(RELEASE).arg(&archive).arg(&sources).env("DEBIAN_FRONTEND", "noninteractive");
    program::output(&mut command)?;
    Ok(archive)
}

/// The tree of the system's files.
struct Tree<'a> {
    work: &'a Path,
}

impl Tree<'_> {
    /// Unpacks the archive, adds the settings, and makes an image of the result.
    ///
    /// All in one shell: unless this is run by root, `fakeroot` remembers the owners of files only for so long.
    fn disk(&self, archive: &Path) -> Result<PathBuf> {
        let (root, raw, image) = (self.work.join("root"), self.work.join("disk.raw"), self.work.join("disk.qcow2"));
        self.write_settings()?;
        let script = "set -e; PATH=\"$PATH:/usr/sbin:/sbin\"\n\
            mkdir \"$1\"; tar --extract --file \"$2\" --directory \"$1\"; cp -R \"$3/.\" \"$1/\"\n\
            mke2fs -q -t ext4 -L maqet-debian -d \"$1\" \"$4\" \"$5\"";
        let mut command = as_root("sh");
        command.args(["-c", script, "sh"]).args([root.as_path(), archive, &self.settings(), &raw]).arg(SIZE);
        program::output(&mut command)?;
        let mut convert = program::command("qemu-img");
        convert.args(["convert", "-f", "raw", "-O", "qcow2"]).args([&raw, &image]);
        program::output(&mut convert)?;
        Ok(image)
    }

    fn settings(&self) -> PathBuf {
        self.work.join("settings")
    }

    /// Writes the settings into a tree of their own, which is copied over the system.
    fn write_settings(&self) -> Result<()> {
        let settings = self.settings();
        let write = |path: &Path, work: &dyn Fn(&Path) -> std::io::Result<()>| {
            let path = settings.join(path);
            let folder = path.parent().unwrap_or(&settings);
            fs::create_dir_all(folder)
                .and_then(|()| work(&path))
                .or_failure(|| format!("cannot write `{}`", path.display()))
        };
        for (path, content) in FILES {
            write(Path::new(path), &|path| fs::write(path, content))?;
        }
        let system = Path::new("etc/systemd/system");
        for unit in UNITS {
            let target = Path::new("/lib/systemd/system").join(unit);
            write(&system.join("multi-user.target.wants").join(unit), &|path| symlink(&target, path))?;
        }
        let units = MASKED.map(|unit| system.join(unit));
        let generators = MASKED_GENERATORS.map(|generator| Path::new("etc/systemd/system-generators").join(generator));
        for masked in units.iter().chain(&generators) {
            write(masked, &|path| symlink("/dev/null", path))?;
        }
        Ok(())
    }
}

/// Returns a command whose files belong to root, if only as far as it sees them.
fn as_root(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return program::command(program);
    }
    let mut command = program::command("fakeroot");
    command.arg(program);
    command
}

fn initramfs(kernel: &Kernel, busybox: &Busybox) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "lib", "lib/modules", "mnt", "proc", "sys"] {
        archive.folder(folder);
    }
    archive.device("dev/console", (5, 1));
    archive.program("init", INIT.as_bytes());
    archive.program("bin/busybox", &busybox.content()?);
    for name in ["sh", "mount", "umount", "insmod", "findfs", "switch_root"] {
        archive.link(&format!("bin/{name}"), "busybox");
    }
    let modules = module::in_order(&kernel.modules()?, &MODULES)?;
    let order: Vec<&str> = modules.iter().flat_map(|module| [module.file.as_str(), "\n"]).collect();
    archive.file("lib/modules/order", order.concat().as_bytes());
    for module in &modules {
        archive.file(&format!("lib/modules/{}", module.file), &module.content);
    }
    Ok(archive.finish())
}

fn stamp_path(debian: &DebianFiles) -> PathBuf {
    debian.folder().join("stamp")
}

/// Returns a text of everything the guest is made from; it is rebuilt when it changes.
fn stamp() -> String {
    let lists =
        [&PACKAGES[..], &EXCLUDED, &MODULES, &UNITS, &MASKED, &MASKED_GENERATORS].map(|list| list.join(" ")).join("\n");
    let files = FILES.map(|(path, content)| format!("{path}: {content}")).concat();
    format!("builder {BUILDER}\n{RELEASE} {SIZE}\n{lists}\n{files}\n{INIT}")
}
