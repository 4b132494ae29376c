//! The Debian guest that tests share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use maqet_testkit::{Finished, Maqet, Shared, TestHome, guest};

/// A Debian guest whose agent answers; the tests take turns at it, since commands have all of its CPU and ports.
pub(crate) struct Booted(pub(crate) TestHome, Mutex<()>);

static BOOTED: Shared<Booted> = Shared::new();

impl Booted {
    pub(crate) fn get() -> Arc<Self> {
        BOOTED.get_or_make(|| {
            let home = TestHome::new();
            // More than the firmware's tables hold.
            let credential = format!("credentials: {{large: {}}}\n", "v".repeat(5000));
            home.add(&(guest::debian_yaml("deb", &guest::DebianFiles::built()) + &credential));
            let start = home.maqet(["start", "deb", "--wait", "agent", "--timeout", "4m"]);
            start.deadline(Duration::from_mins(5)).run().ok();
            Self(home, Mutex::new(()))
        })
    }

    /// Waits for exclusive use of the guest.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns `exec` with these arguments.
    pub(crate) fn exec<const N: usize>(&self, arguments: [&str; N]) -> Maqet {
        self.0.maqet(["exec", "deb"]).args(arguments).deadline(Duration::from_mins(1))
    }

    /// Waits until its agent answers.
    pub(crate) fn wait_for_agent(&self) {
        let wait = self.0.maqet(["wait", "deb", "--for", "agent", "--timeout", "1m"]);
        wait.deadline(Duration::from_mins(2)).run().ok();
    }

    /// Runs a script by a shell.
    pub(crate) fn shell(&self, script: &str) -> Finished {
        self.exec(["--", "sh", "-c", script]).run()
    }
}
