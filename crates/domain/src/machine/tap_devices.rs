//! Tap devices under `arguments` and `args`.

use super::Machine;
use crate::config::{KeyPath, Node};
use crate::qemu::OptionString;

/// Switches that connect a network card.
const NETWORK: [&str; 3] = ["netdev", "nic", "net"];

/// A tap device that QEMU opens, or creates if it runs as root and the device does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TapUse {
    /// The device of this name, which no script connects.
    Named(String),
    /// A new device, which no script connects.
    New,
    /// A new device, which QEMU's own script connects to a bridge if the host has one.
    NewByDefaultScript,
}

impl Machine {
    /// Returns the tap devices of the user's switches that no script of the user sets up.
    pub fn tap_devices(&self) -> impl Iterator<Item = TapUse> {
        self.user_switches().filter(|(name, _)| NETWORK.contains(name)).filter_map(|(name, argument)| {
            tap_device(&OptionString::parse(name, argument?)) //
        })
    }

    /// Returns them with their positions in the definition.
    pub fn tap_devices_in<'d>(&self, definition: &'d Node) -> Vec<(KeyPath, &'d Node, TapUse)> {
        let switches = self.switches_in(definition).into_iter();
        let switches = switches.filter(|switch| NETWORK.contains(&switch.name.as_str()));
        switches.filter_map(|switch| Some((switch.at.clone(), switch.node, tap_device(switch.options())?))).collect()
    }
}

/// A script is there to set up a device that QEMU creates.
fn tap_device(options: &OptionString) -> Option<TapUse> {
    let has = |key| options.get(key).is_some();
    if options.head() != "tap" || has("helper") || has("fd") || has("fds") {
        return None;
    }
    match (options.get("ifname"), options.get("script")) {
        (Some(device), Some("no")) => Some(TapUse::Named(device.to_owned())),
        (None, Some("no")) => Some(TapUse::New),
        (None, None) => Some(TapUse::NewByDefaultScript),
        (Some(_), None) | (_, Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::TapUse;
    use crate::machine::reading::read;

    #[test]
    fn test_tap_devices_are_those_without_a_script() {
        let definition = r#"{"sandbox": false, "args": ["-nic", "tap,ifname=t0,script=no", "-netdev", "tap,id=n,ifname=t1"],
            "arguments": [{"netdev": "user,id=u"}, {"netdev": {"tap": null, "id": "n", "ifname": "t2", "script": "no"}},
                {"netdev": "tap,id=o,ifname=t3,script=/etc/up"}, {"netdev": "tap,id=p,script=no"},
                {"netdev": "tap,id=q"}, {"nic": "tap,fd=3"}, {"netdev": "tap,id=r,helper=/h"}]}"#;
        let named = |name: &str| TapUse::Named(name.to_owned());

        assert_eq!(
            read(definition).0.tap_devices().collect::<Vec<_>>(),
            [named("t0"), named("t2"), TapUse::New, TapUse::NewByDefaultScript,]
        );
    }
}
