//! The port [`Dialer`]: TCP connections.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use maqet_domain::port::{Connection, Dialer};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Connects over TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpDialer;

struct TcpConnection(TcpStream);

#[async_trait]
impl Connection for TcpConnection {
    async fn stays(&mut self, timeout: Duration) -> bool {
        match tokio::time::timeout(timeout, self.0.read_u8()).await {
            // The server sends, or waits for the client to.
            Ok(Ok(_)) | Err(_) => true,
            Ok(Err(_)) => false,
        }
    }

    async fn begins_with(&mut self, greeting: &[u8], timeout: Duration) -> bool {
        let mut received = vec![0; greeting.len()];
        let read = tokio::time::timeout(timeout, self.0.read_exact(&mut received)).await;
        matches!(read, Ok(Ok(_))) && received == greeting
    }
}

#[async_trait]
impl Dialer for TcpDialer {
    async fn dial(&self, address: IpAddr, port: u16, timeout: Duration) -> Option<Box<dyn Connection>> {
        let stream = tokio::time::timeout(timeout, TcpStream::connect((address, port))).await.ok()?.ok()?;
        Some(Box::new(TcpConnection(stream)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn test_dial_closed_port_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);

        assert!(TcpDialer.dial(address.ip(), address.port(), LONG).await.is_none());
    }

    #[tokio::test]
    async fn test_begins_with_compares_what_the_server_sends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut held = Vec::new();
        for (sent, is_greeting) in [(&b"SSH-2.0-x"[..], true), (b"HTTP/1.1", false), (b"SS", false)] {
            let mut connection = TcpDialer.dial(address.ip(), address.port(), LONG).await.unwrap();
            let mut server = listener.accept().unwrap().0;
            server.write_all(sent).unwrap();
            held.push(server);

            let timeout = if sent.len() < 4 { SHORT } else { LONG };
            assert_eq!(connection.begins_with(b"SSH-", timeout).await, is_greeting, "{sent:?}");
        }
    }

    #[tokio::test]
    async fn test_stays_is_false_only_for_closed_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();

        let mut silent = TcpDialer.dial(address.ip(), address.port(), LONG).await.unwrap();
        let held = listener.accept().unwrap();
        let mut spoken = TcpDialer.dial(address.ip(), address.port(), LONG).await.unwrap();
        listener.accept().unwrap().0.write_all(b"SSH-2.0").unwrap();
        let mut closed = TcpDialer.dial(address.ip(), address.port(), LONG).await.unwrap();
        drop(listener.accept().unwrap());

        assert!(silent.stays(SHORT).await);
        assert!(spoken.stays(LONG).await);
        assert!(!closed.stays(LONG).await);
        drop(held);
    }
}
