//! The CPUs of a machine.

use crate::qemu::Switch;

/// The CPUs of a machine: how many there are, or how they are arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cpus {
    /// This many; QEMU arranges them (7.2: as cores of one socket, or as sockets with machine types of before 6.2).
    Count(u32),
    /// Their sockets, the cores of each socket, and the threads of each core.
    Topology {
        /// At least 1.
        sockets: u32,
        /// At least 1.
        cores: u32,
        /// At least 1.
        threads: u32,
    },
}

impl Cpus {
    /// More CPUs than any machine type of QEMU 7.2 supports (`q35` allows 288, `virt` 512).
    pub const MAX: u32 = 1024;

    /// Returns how many CPUs the guest has.
    pub const fn count(self) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Topology { sockets, cores, threads } => sockets.saturating_mul(cores).saturating_mul(threads),
        }
    }

    /// Returns the switch for QEMU.
    pub(crate) fn switch(self) -> Switch {
        let smp = Switch::new("smp").head(&self.count().to_string());
        match self {
            Self::Count(_) => smp,
            Self::Topology { sockets, cores, threads } => {
                let parts = [("sockets", sockets), ("cores", cores), ("threads", threads)];
                parts.into_iter().fold(smp, |smp, (key, number)| smp.option(key, number.to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_count_of_a_topology_is_the_product() {
        assert_eq!(Cpus::Topology { sockets: 2, cores: 3, threads: 4 }.count(), 24);
        assert_eq!(Cpus::Topology { sockets: 1024, cores: 1024, threads: 1 << 20 }.count(), u32::MAX);
        assert_eq!(Cpus::Count(3).count(), 3);
    }

    #[test]
    fn test_switch_of_a_topology_names_every_level() {
        let switch = Cpus::Topology { sockets: 1, cores: 2, threads: 2 }.switch();

        assert_eq!(switch.argument(), Some("4,sockets=1,cores=2,threads=2"));
        assert_eq!(Cpus::Count(4).switch().argument(), Some("4"));
    }
}
