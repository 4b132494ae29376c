//! The port [`Consoles`]: the first serial port of a VM.
//!
//! QEMU writes the guest's output to the log whatever a client does, and reads the guest's input from a FIFO; a client
//! [follows the log and writes to the FIFO](pipe). VMs that were started before that have a [socket](socket).

mod pipe;
mod socket;

use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use maqet_adapters_linux::limits::MIN_LOCK_TIMEOUT;
use maqet_adapters_linux::private_file::private_file;
use maqet_adapters_linux::{LockedFile, read_holder, write_holder};
use maqet_domain::port::{ConsoleError, ConsoleStream, Consoles};
use maqet_domain::vm::RunPaths;
use tokio::time::Instant;

use self::pipe::PipeConsole;
use self::socket::SocketConsole;

/// Attaches to the serial console of QEMU.
///
/// A lock beside it names the maqet process that is attached, since two would mix their input.
#[derive(Debug, Clone, Copy, Default)]
pub struct QemuConsoles;

/// Returns the file that is locked while a maqet process is attached.
pub(crate) fn console_lock(paths: &RunPaths) -> PathBuf {
    paths.sockets.join("serial.lock")
}

#[async_trait]
impl Consoles for QemuConsoles {
    async fn attach(&self, paths: &RunPaths) -> Result<Box<dyn ConsoleStream>, ConsoleError> {
        let (input, socket) = (paths.serial_input(), paths.serial_socket());
        let is_socket = input.symlink_metadata().is_err() && socket.symlink_metadata().is_ok();
        let path = if is_socket { socket } else { input };
        // Before the lock, whose file must not be created for a VM without a console.
        path.symlink_metadata().map_err(|error| failed(path.clone(), error))?;
        let claim = Claim::take(paths).await.map_err(|error| failed(path.clone(), error))??;
        if is_socket {
            return Ok(Box::new(SocketConsole::connect(paths, path, claim).await?));
        }
        let console = PipeConsole::open(paths, claim).map_err(|error| failed(path, error))?;
        Ok(Box::new(console))
    }
}

/// Returns the error of a console at `path`; one that QEMU does not have open is unavailable.
fn failed(path: PathBuf, error: io::Error) -> ConsoleError {
    let is_gone = error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error());
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ConsoleError::Unavailable { path, serial: None },
        _ if is_gone => ConsoleError::Unavailable { path, serial: None },
        _ => ConsoleError::Failed { path, source: error.into() },
    }
}

/// The right to be attached.
struct Claim(LockedFile);

impl Claim {
    async fn take(paths: &RunPaths) -> io::Result<Result<Self, ConsoleError>> {
        let file = private_file(&console_lock(paths))?;
        match LockedFile::lock(file, Instant::now() + MIN_LOCK_TIMEOUT).await? {
            Ok(file) => {
                // A courtesy to others: without it, as on a full disk, the lock is held all the same.
                let _ = write_holder(&file, "console");
                Ok(Ok(Self(file)))
            }
            Err(file) => Ok(Err(ConsoleError::InUse { holder: read_holder(&file) })),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let _ = self.0.set_len(0);
    }
}
