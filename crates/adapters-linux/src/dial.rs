//! The port [`Dialer`]: TCP.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use maqet_domain::port::{Connection, Dialer};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Connects over TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpDialer;

struct TcpConnection(TcpStream);

#[async_trait]
impl Connection for TcpConnection {
    async fn stays(&mut self, patience: Duration) -> bool {
        match timeout(patience, self.0.read_u8()).await {
            // It speaks, or it waits for us to.
            Ok(Ok(_)) | Err(_) => true,
            Ok(Err(_)) => false,
        }
    }
}

#[async_trait]
impl Dialer for TcpDialer {
    async fn dial(&self, address: IpAddr, port: u16, patience: Duration) -> Option<Box<dyn Connection>> {
        let stream = timeout(patience, TcpStream::connect((address, port))).await.ok()?.ok()?;
        Some(Box::new(TcpConnection(stream)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn test_dial_port_that_nobody_listens_at_is_no_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);

        assert!(TcpDialer.dial(address.ip(), address.port(), LONG).await.is_none());
    }

    #[tokio::test]
    async fn test_connection_that_is_held_or_spoken_on_stays_and_one_that_is_closed_does_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();

        let mut silent = TcpDialer.dial(address.ip(), address.port(), LONG).await.unwrap();
        let held = listener.accept().unwrap();
        let mut spoken = TcpDialer.dial(address.ip(), address.port(), LONG).await.unwrap();
        listener.accept().unwrap().0.write_all(b"SSH-2.0").unwrap();
        let mut closed = TcpDialer.dial(address.ip(), address.port(), LONG).await.unwrap();
        drop(listener.accept().unwrap());

        assert!(silent.stays(PATIENCE).await);
        assert!(spoken.stays(LONG).await);
        assert!(!closed.stays(LONG).await);
        drop(held);
    }
}
