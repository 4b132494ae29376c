//! The TPM on the command line: a device of QEMU, and the swtpm(8) that emulates the chip.

use std::path::{Path, PathBuf};

use super::{PathNotUtf8, utf8};
use crate::qemu::{Helper, Switch};

/// The name of the file with the state of a TPM 2.0, in the directory that swtpm is given (0.7).
pub const TPM_STATE_FILE: &str = "tpm2-00.permall";

/// The lock that swtpm leaves in the directory of the state.
pub const TPM_LOCK_FILE: &str = ".lock";

/// The ID of the character device that connects QEMU to swtpm.
pub const TPM_CHARDEV: &str = "tpm";

/// The TPM of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tpm {
    /// The device, as QEMU names it.
    pub device: &'static str,
    /// The directory with the state of the TPM; without a comma, which swtpm has no way to write.
    pub directory: PathBuf,
}

impl Tpm {
    /// Returns the switches, and the swtpm that listens at `socket`.
    ///
    /// `--terminate` makes it exit with QEMU. It confines itself with seccomp.
    pub(super) fn command_line(&self, socket: &Path) -> Result<(Vec<Switch>, Helper), PathNotUtf8> {
        let path = utf8(socket)?;
        let switches = vec![
            Switch::new("chardev").head("socket").option("id", TPM_CHARDEV).option("path", path),
            Switch::new("tpmdev").head("emulator").option("id", "tpm").option("chardev", TPM_CHARDEV),
            Switch::new("device").head(self.device).option("tpmdev", "tpm"),
        ];
        let args = [
            "socket".to_owned(),
            "--tpm2".to_owned(),
            "--tpmstate".to_owned(),
            format!("dir={},mode=0600", utf8(&self.directory)?),
            "--ctrl".to_owned(),
            format!("type=unixio,path={path},mode=0600"),
            "--terminate".to_owned(),
            "--daemon".to_owned(),
        ];
        let directory = Some(self.directory.clone());
        Ok((switches, Helper { program: "swtpm", package: "swtpm", directory, args: args.into() }))
    }
}
