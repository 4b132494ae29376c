//! The directories of the workspace.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use maqet_testkit::qemu::Unpacked;
use maqet_testkit::{FAULTY_NAME, guest};

use crate::Result;
use crate::failure::Failure;
use crate::program;

/// The folders of this workspace, found once: a build can replace our own executable while it runs.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    profile: PathBuf,
    guest: guest::Files,
    unpacked_qemu: Unpacked,
}

impl Workspace {
    /// Finds the workspace from the paths of this executable and its source.
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map(Path::to_owned);
        let (Some(root), Some(profile), Some(guest), Some(unpacked_qemu)) =
            (root, guest::profile_dir(), guest::Files::in_target(), Unpacked::in_target())
        else {
            return Err(Failure::new("not running from a Cargo target directory")
                .hint("run `cargo xtask` in the directory of the repository"));
        };
        Ok(Self { root, profile, guest, unpacked_qemu })
    }

    /// Returns the path of the CLI, built or not.
    pub(crate) fn maqet(&self) -> PathBuf {
        self.profile.join("maqet")
    }

    /// Returns the path of the CLI with fault points, built or not.
    pub(crate) fn faulty_maqet(&self) -> PathBuf {
        self.profile.join(FAULTY_NAME)
    }

    /// Returns the folder of the repository.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the path of the CLI built for release, built or not.
    pub(crate) fn released_maqet(&self) -> Option<PathBuf> {
        Some(self.profile.parent()?.join("release/maqet"))
    }

    /// Returns the Linux guest's files, built or not.
    pub(crate) fn guest(&self) -> &guest::Files {
        &self.guest
    }

    /// Returns the QEMU beside that of the system, unpacked or not.
    pub(crate) fn unpacked_qemu(&self) -> &Unpacked {
        &self.unpacked_qemu
    }

    /// Returns a Cargo command that runs in the repository and builds into the target folder of this executable.
    pub(crate) fn cargo<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let mut command = program::command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root).args(arguments);
        // Set by `cargo run` for the package `xtask`, not for the Cargo that it starts.
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text.starts_with("MAQET_") {
                command.env_remove(&name);
            }
        }
        if let Some(target) = self.guest.folder().parent() {
            command.env("CARGO_TARGET_DIR", target);
        }
        command
    }
}
