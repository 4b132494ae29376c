//! Ports of the loopback address for programs that a test starts.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ports that Linux gives to connections and to listeners on port 0 (32768 to 60999), and above the usual ones
/// of services.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// Returns a TCP port that nothing listens on, and that no other call returns until 12,000 later.
///
/// Unlike a port that the kernel chooses, it is not given to another program while the test does not use it.
#[must_use]
pub fn free() -> u16 {
    // Each process begins elsewhere, since other test programs may run at the same time.
    // Those of two processes that are started one after the other are far apart.
    let begin = u16::try_from(std::process::id().wrapping_mul(7_919) % u32::from(COUNT)).expect("less than a u16");
    (0..COUNT)
        .map(|_| FIRST + (begin + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("some port is free")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wait;

    #[test]
    fn test_free_port_is_free_and_not_given_twice() {
        let ports = [free(), free()];

        assert_ne!(ports[0], ports[1]);
        // A process that another test starts has a copy of every socket for a moment, until it executes its program.
        let are_free = || ports.iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
        wait::until(Duration::from_secs(10), "both ports are free", || are_free().then_some(()));
    }
}
