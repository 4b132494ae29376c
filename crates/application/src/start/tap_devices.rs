//! Tap devices that do not exist: as root, QEMU would create one that nothing is connected to.

use maqet_domain::config::{Node, Problem, ProblemKind};
use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::machine::{Machine, TapUse};
use maqet_domain::network::invalid_interface_name;
use maqet_domain::text::quote;

use super::link_sockets::card_problem;
use super::preflight::Preflight;
use crate::Error;

/// A network card without an existing tap device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TapNotFound {
    #[error("tap device `{device}` does not exist")]
    Missing { device: String },
    #[error("`{}` {reason}", device.escape_debug())]
    InvalidName { device: String, reason: String },
    #[error("`tap` without `ifname` creates a device that nothing is connected to")]
    Unnamed,
    #[error(
        "`tap` without `ifname` creates a device, which only QEMU's script `qemu-ifup` may connect, and only to a bridge"
    )]
    ByDefaultScript,
}

impl TapNotFound {
    fn help(&self) -> String {
        match self {
            Self::Missing { device } => {
                let device = quote(device);
                format!("create it: `sudo ip tuntap add {device} mode tap user $USER && sudo ip link set {device} up`")
            }
            Self::InvalidName { .. } => "name a tap device that exists; `ip link` lists them".to_owned(),
            Self::Unnamed | Self::ByDefaultScript => "set `ifname` to a tap device that exists, with `script=no,\
                downscript=no`, or `mode: tap` and `interface` under `network`"
                .to_owned(),
        }
    }
}

impl Explain for TapNotFound {
    fn explain(&self) -> Explanation {
        Explanation::new("host.tap-unavailable", Fault::Host)
            .hint(self.help())
            .hint("set `mode: user` or `mode: passt` for a network that requires no privileges")
    }
}

impl Preflight<'_> {
    /// Refuses a card whose tap device does not exist; returns what only a script may connect as warnings.
    pub(super) fn check_tap_devices(&self, machine: &Machine) -> Result<Vec<String>, Error> {
        for card in &machine.network {
            if let Some(missing) = card.interface.as_deref().and_then(|device| self.missing_tap(device)) {
                return Err(missing.into());
            }
        }
        let mut warnings = Vec::new();
        for missing in machine.tap_devices().filter_map(|tap| self.missing_of(&tap)) {
            match missing {
                TapNotFound::ByDefaultScript => warnings.push(format!("{missing}; {}", missing.help())),
                _ => return Err(missing.into()),
            }
        }
        Ok(warnings)
    }

    /// Returns them as warnings: a device may be created before the VM is started.
    pub(crate) fn tap_warnings(&self, machine: &Machine, definition: &Node) -> Vec<Problem> {
        let warning = |problem| Problem { kind: ProblemKind::Warning, ..problem };
        let cards = machine.network.iter().filter_map(|card| {
            let missing = self.missing_tap(card.interface.as_deref()?)?;
            Some(warning(card_problem(card, "interface", missing.to_string(), missing.help(), definition)))
        });
        let switches = machine.tap_devices_in(definition).into_iter().filter_map(|(at, node, tap)| {
            let missing = self.missing_of(&tap)?;
            let location = node.location().cloned();
            Some(warning(Problem { help: Some(missing.help()), location, ..Problem::new(at, missing.to_string()) }))
        });
        cards.chain(switches).collect()
    }

    fn missing_of(&self, tap: &TapUse) -> Option<TapNotFound> {
        match tap {
            TapUse::Named(device) => self.missing_tap(device),
            TapUse::New => Some(TapNotFound::Unnamed),
            TapUse::NewByDefaultScript => Some(TapNotFound::ByDefaultScript),
        }
    }

    /// Returns the error if a tap device does not exist; what cannot be read does not count as missing.
    pub(crate) fn missing_tap(&self, device: &str) -> Option<TapNotFound> {
        let device = device.to_owned();
        match invalid_interface_name(&device) {
            Some(reason) => Some(TapNotFound::InvalidName { device, reason }),
            None => (self.host.has_interface(&device) == Some(false)).then_some(TapNotFound::Missing { device }),
        }
    }
}
