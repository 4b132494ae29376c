//! A network between a store and its server: it counts round trips, and fails as networks do.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What happens to the next connection that sends a `COMMIT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It is forwarded.
    Never,
    /// It is lost, and the connection with it.
    BeforeCommit,
    /// It is forwarded, and the connection is lost once the server has replied.
    AfterCommit,
    /// It is forwarded, and nothing else from then on, on any connection.
    StallAtCommit,
}

/// A proxy in front of a server's socket, with a thread for each direction of each connection.
pub(crate) struct Proxy {
    address: String,
    state: Arc<State>,
}

struct State {
    server: PathBuf,
    /// Whether nothing is forwarded in either direction.
    is_stalled: AtomicBool,
    cut: Mutex<Cut>,
    /// How often the store sent something after a reply.
    turns: AtomicU32,
}

impl Proxy {
    pub(crate) fn to(server: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State {
            server: server.to_owned(),
            is_stalled: AtomicBool::new(false),
            cut: Mutex::new(Cut::Never),
            turns: AtomicU32::new(0),
        });
        let of_thread = Arc::clone(&state);
        // Ends with the process.
        thread::spawn(move || listener.incoming().flatten().for_each(|client| forward(client, &of_thread)));
        Self { address, state }
    }

    /// Returns the URL of a schema through the proxy.
    pub(crate) fn url(&self, schema: &str) -> String {
        format!("postgres://maqet@{}/maqet?sslmode=disable&options=-csearch_path%3D{schema}", self.address)
    }

    pub(crate) fn stall(&self, is_stalled: bool) {
        self.state.is_stalled.store(is_stalled, Ordering::SeqCst);
    }

    pub(crate) fn cut(&self, cut: Cut) {
        *self.state.cut.lock().unwrap() = cut;
    }

    /// Returns whether the connection that [`cut`](Self::cut) waits for was lost.
    pub(crate) fn was_cut(&self) -> bool {
        *self.state.cut.lock().unwrap() == Cut::Never
    }

    /// Returns the round trips since the last call.
    pub(crate) fn turns(&self) -> u32 {
        self.state.turns.swap(0, Ordering::SeqCst)
    }
}

fn forward(client: TcpStream, state: &Arc<State>) {
    let Ok(server) = UnixStream::connect(&state.server) else { return };
    // Small packets are not collected.
    client.set_nodelay(true).unwrap();
    let has_replied = Arc::new(AtomicBool::new(true));
    let loses_reply = Arc::new(AtomicBool::new(false));
    let (from_client, to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (up, replied, loses) = (Arc::clone(state), Arc::clone(&has_replied), Arc::clone(&loses_reply));
    thread::spawn(move || {
        copy(&from_client, &to_server, &up, |bytes| {
            if replied.swap(false, Ordering::SeqCst) {
                up.turns.fetch_add(1, Ordering::SeqCst);
            }
            if !bytes.windows(6).any(|window| window == b"COMMIT") {
                return true;
            }
            let mut cut = up.cut.lock().unwrap();
            loses.store(*cut == Cut::AfterCommit, Ordering::SeqCst);
            up.is_stalled.fetch_or(*cut == Cut::StallAtCommit, Ordering::SeqCst);
            std::mem::replace(&mut *cut, Cut::Never) != Cut::BeforeCommit
        });
        let _gone = (from_client.shutdown(Shutdown::Both), to_server.shutdown(Shutdown::Both));
    });
    let down = Arc::clone(state);
    thread::spawn(move || {
        copy(&server, &client, &down, |_| {
            has_replied.store(true, Ordering::SeqCst);
            !loses_reply.load(Ordering::SeqCst)
        });
        let _gone = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
    });
}

/// Copies until one side is closed, or until `passes` refuses the bytes.
fn copy<R, W>(from: &R, to: &W, state: &State, mut passes: impl FnMut(&[u8]) -> bool)
where
    for<'a> &'a R: Read,
    for<'a> &'a W: Write,
{
    let (mut from, mut to) = (from, to);
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        while state.is_stalled.load(Ordering::SeqCst) {
            thread::sleep(std::time::Duration::from_millis(5));
        }
        if !passes(&buffer[..length]) || to.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}
