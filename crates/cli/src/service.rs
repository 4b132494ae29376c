//! Notifying a service manager of a process that stays in the foreground, as `sd_notify(3)` describes.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable with the socket of the service manager.
const SOCKET: &str = "NOTIFY_SOCKET";

/// The service manager that started this process, if there is one.
pub(crate) struct ServiceManager(Option<(UnixDatagram, SocketAddr)>);

impl ServiceManager {
    /// Finds it by the environment of this process.
    pub(crate) fn new<'a>(variable: impl FnOnce(&str) -> Option<&'a OsStr>) -> Self {
        let path = variable(SOCKET).filter(|path| !path.is_empty());
        Self(path.and_then(|path| Some((UnixDatagram::unbound().ok()?, address(path).ok()?))))
    }

    /// The service is ready.
    pub(crate) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// What the service does now.
    pub(crate) fn status(&self, status: &str) {
        self.send(&format!("STATUS={status}"));
    }

    /// The service is ending.
    pub(crate) fn stopping(&self, status: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={status}"));
    }

    /// A service manager that is gone does not matter to the VM.
    fn send(&self, state: &str) {
        let Some((socket, address)) = &self.0 else { return };
        if let Err(error) = socket.send_to_addr(state.as_bytes(), address) {
            tracing::debug!(%error, "cannot notify the service manager");
        }
    }
}

/// Returns the address of a path, or of an abstract socket, which is written with `@`.
fn address(path: &OsStr) -> io::Result<SocketAddr> {
    match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 100];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn test_service_manager_receives_states_at_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();

        let manager = ServiceManager::new(|name| (name == "NOTIFY_SOCKET").then_some(path.as_os_str()));
        manager.ready("the VM runs");
        manager.stopping("shutting down");

        assert_eq!(received(&socket), "READY=1\nSTATUS=the VM runs");
        assert_eq!(received(&socket), "STOPPING=1\nSTATUS=shutting down");
    }

    #[test]
    fn test_service_manager_receives_states_at_an_abstract_name() {
        let name = format!("maqet-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();

        let path = format!("@{name}");
        ServiceManager::new(|_| Some(OsStr::new(&path))).status("waiting");

        assert_eq!(received(&socket), "STATUS=waiting");
    }

    #[test]
    fn test_service_manager_that_is_missing_is_no_failure() {
        ServiceManager::new(|_| None).ready("");
        ServiceManager::new(|_| Some(OsStr::new(""))).ready("");
        ServiceManager::new(|_| Some(OsStr::new("/nowhere/notify"))).ready("");
    }
}
