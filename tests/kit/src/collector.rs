//! A collector of OTLP over HTTP, which keeps what it receives.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

/// A collector on a port of its own; it accepts connections until the tests end.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    /// Starts it.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the host has a free port");
        let address = listener.local_addr().expect("the listener has an address");
        let received = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&received);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let body = read(&stream);
                // Kept before the sender can go on.
                kept.lock().expect("no test panics meanwhile").push(body);
                let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
            }
        });
        Self { address, received }
    }

    /// Returns its endpoint.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the bodies of the requests so far.
    #[must_use]
    pub fn received(&self) -> Vec<Value> {
        self.received.lock().expect("no test panics meanwhile").clone()
    }
}

/// Reads a request to the path of traces, with a body in JSON.
fn read(stream: &TcpStream) -> Value {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a request has a header");
        if line.trim_end().is_empty() {
            break;
        }
        lines.push(line.trim_end().to_ascii_lowercase());
    }
    assert_eq!(lines.first().map(String::as_str), Some("post /v1/traces http/1.1"));
    assert!(lines.contains(&"content-type: application/json".to_owned()), "{lines:?}");
    let length = lines.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.expect("the request has a length")];
    reader.read_exact(&mut body).expect("the body is complete");
    serde_json::from_slice(&body).expect("the body is JSON")
}
