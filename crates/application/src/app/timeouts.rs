//! The timeouts that settings can change.

use std::time::Duration;

use crate::{HumanDuration, limits};

/// The timeouts that have a name in the settings; the defaults are in [`limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// How long QEMU may take to answer after it was started.
    pub start: Duration,
    /// How long a guest may take to power off on request.
    pub power_down: Duration,
    /// How long QEMU may take to quit on request.
    pub quit: Duration,
    /// How long QEMU may take to exit after SIGTERM.
    pub term: Duration,
    /// How long the kernel may take to remove QEMU after SIGKILL.
    pub kill: Duration,
    /// How long an operation waits for another one on the same VM.
    pub lock: Duration,
    /// How long a QMP command may take.
    pub qmp: Duration,
    /// How long the file systems of a guest may be frozen.
    pub freeze: Duration,
    /// How long a hook may take.
    pub hook: Duration,
    /// How long `wait` waits for its conditions.
    pub wait: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            start: limits::START_TIMEOUT,
            power_down: limits::POWER_DOWN_TIMEOUT,
            quit: limits::QUIT_TIMEOUT,
            term: limits::SIGTERM_TIMEOUT,
            kill: limits::SIGKILL_TIMEOUT,
            lock: limits::LOCK_TIMEOUT,
            qmp: limits::QMP_COMMAND_TIMEOUT,
            freeze: limits::FREEZE_LIMIT,
            hook: limits::HOOK_TIMEOUT,
            wait: limits::WAIT_TIMEOUT,
        }
    }
}

impl Timeouts {
    /// The names, in the order of a VM's life.
    pub const NAMES: [&'static str; 10] =
        ["start", "power_down", "quit", "term", "kill", "lock", "qmp", "freeze", "hook", "wait"];

    /// Returns a timeout by name.
    pub fn get(&self, name: &str) -> Option<HumanDuration> {
        let mut copy = *self;
        copy.slot(name).copied().map(HumanDuration::new)
    }

    /// Sets a timeout by name; returns `false` if no timeout has this name.
    pub fn set(&mut self, name: &str, timeout: HumanDuration) -> bool {
        let slot = self.slot(name);
        let is_known = slot.is_some();
        if let Some(slot) = slot {
            *slot = timeout.duration();
        }
        is_known
    }

    fn slot(&mut self, name: &str) -> Option<&mut Duration> {
        Some(match name {
            "start" => &mut self.start,
            "power_down" => &mut self.power_down,
            "quit" => &mut self.quit,
            "term" => &mut self.term,
            "kill" => &mut self.kill,
            "lock" => &mut self.lock,
            "qmp" => &mut self.qmp,
            "freeze" => &mut self.freeze,
            "hook" => &mut self.hook,
            "wait" => &mut self.wait,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_timeouts_set_changes_one_timeout() {
        for name in Timeouts::NAMES {
            let mut timeouts = Timeouts::default();
            let odd = HumanDuration::new(Duration::from_millis(7));

            assert!(timeouts.set(name, odd), "{name}");

            let changed = Timeouts::NAMES.into_iter().filter(|one| timeouts.get(one) == Some(odd));
            assert_eq!(changed.collect::<Vec<_>>(), [name]);
        }
    }

    #[test]
    fn test_timeouts_unknown_name_sets_nothing() {
        let mut timeouts = Timeouts::default();

        assert!(!timeouts.set("reset", HumanDuration::new(Duration::ZERO)));
        assert_eq!((timeouts, timeouts.get("reset")), (Timeouts::default(), None));
    }
}
