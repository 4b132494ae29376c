//! A scripted monitor.

use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

use maqet_adapters_qemu::QmpSession;
use maqet_domain::port::MonitorSession;
use maqet_domain::qmp::{QmpCommand, QmpError};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::kit::{folder, wait};

pub(crate) const GREETING: &[u8] = b"{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";
pub(crate) const NEGOTIATED: &[u8] = b"{\"return\": {}, \"id\": 0}\r\n";
pub(crate) const EVENT: &[u8] = b"{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"X\"}\r\n";

/// What a monitor does on a connection, in this order.
pub(crate) enum Step {
    /// Sends these bytes.
    SendBytes(Vec<u8>),
    /// Sends these bytes one by one, with a pause after each.
    Dribble(Vec<u8>, Duration),
    /// Waits for a line.
    ReceiveLine,
    /// Waits for a line, which has to be this one.
    ExpectLine(&'static str),
    /// Sends these bytes again and again, for ever.
    Flood(Vec<u8>),
    /// Sends nothing more.
    Hang,
}

pub(crate) use Step::{Dribble, ExpectLine, Flood, Hang, ReceiveLine, SendBytes};

pub(crate) fn send(bytes: &[u8]) -> Step {
    SendBytes(bytes.to_vec())
}

/// Runs the script of a monitor; then it closes.
pub(crate) async fn play(stream: UnixStream, steps: &[Step]) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    for step in steps {
        match step {
            // The client may have closed the connection.
            SendBytes(bytes) => drop(AsyncWriteExt::write_all(&mut writer, bytes).await),
            Dribble(bytes, pause) => {
                for byte in bytes {
                    drop(AsyncWriteExt::write_all(&mut writer, &[*byte]).await);
                    tokio::time::sleep(*pause).await;
                }
            }
            ReceiveLine => drop(reader.read_line(&mut String::new()).await),
            ExpectLine(expected) => {
                let mut line = String::new();
                reader.read_line(&mut line).await.unwrap();
                assert_eq!(line.trim_end(), *expected);
            }
            // In a thread, as a real peer does not depend on our runtime.
            Flood(bytes) => {
                let bytes = bytes.clone();
                let stream =
                    std::os::unix::net::UnixStream::from(writer.as_ref().as_fd().try_clone_to_owned().unwrap());
                stream.set_nonblocking(false).unwrap();
                std::thread::spawn(move || while (&stream).write_all(&bytes).is_ok() {});
            }
            Hang => std::future::pending().await,
        }
    }
}

/// Queries the status of a scripted monitor.
pub(crate) fn query(steps: &[Step], deadline: Duration) -> Result<serde_json::Value, QmpError> {
    with_session(steps, deadline, async |session| session.execute(&QmpCommand::new("query-status"), deadline).await)
}

/// Opens a session that keeps events with a scripted monitor, and runs `step` on it.
pub(crate) fn with_session<T>(
    steps: &[Step],
    deadline: Duration,
    work: impl AsyncFnOnce(&mut QmpSession) -> Result<T, QmpError>,
) -> Result<T, QmpError> {
    wait(served(steps, async |socket| {
        let mut session = QmpSession::connect(socket, deadline).await?.keeping_events();
        work(&mut session).await
    }))
}

/// Runs `step` with the socket of a scripted monitor.
async fn served<T>(steps: &[Step], work: impl AsyncFnOnce(&std::path::Path) -> T) -> T {
    let folder = folder();
    let socket = folder.path().join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        play(stream, steps).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = server => unreachable!(),
        done = work(&socket) => done,
    }
}
