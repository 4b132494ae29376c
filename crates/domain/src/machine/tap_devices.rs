//! Tap devices under `arguments` and `args`.

use super::Machine;
use crate::config::{KeyPath, Node};
use crate::qemu::OptionString;

/// Switches that connect a network card.
const NETWORK: [&str; 3] = ["netdev", "nic", "net"];

impl Machine {
    /// Returns the tap devices that the user's switches name and no script sets up.
    pub fn tap_devices(&self) -> impl Iterator<Item = String> {
        self.user_switches().filter(|(name, _)| NETWORK.contains(name)).filter_map(|(name, argument)| {
            tap_device(&OptionString::parse(name, argument?)) //
        })
    }

    /// Returns them with their positions in the definition.
    pub fn tap_devices_in<'d>(&self, definition: &'d Node) -> Vec<(KeyPath, &'d Node, String)> {
        let switches = self.switches_in(definition).into_iter();
        let switches = switches.filter(|switch| NETWORK.contains(&switch.name.as_str()));
        switches.filter_map(|switch| Some((switch.at.clone(), switch.node, tap_device(switch.options())?))).collect()
    }
}

/// A script is there to set up a device that QEMU creates.
fn tap_device(options: &OptionString) -> Option<String> {
    let has_script = options.get("script") != Some("no") || options.get("helper").is_some();
    let device = options.get("ifname").filter(|_| options.head() == "tap" && !has_script)?;
    Some(device.to_owned())
}

#[cfg(test)]
mod tests {
    use crate::machine::reading::read;

    #[test]
    fn test_tap_devices_are_those_without_a_script() {
        let definition = r#"{"sandbox": false, "args": ["-nic", "tap,ifname=t0,script=no", "-netdev", "tap,id=n,ifname=t1"],
            "arguments": [{"netdev": "user,id=u"}, {"netdev": {"tap": null, "id": "n", "ifname": "t2", "script": "no"}},
                {"netdev": "tap,id=o,ifname=t3,script=/etc/up"}, {"netdev": "tap,id=p,script=no"}]}"#;

        assert_eq!(read(definition).0.tap_devices().collect::<Vec<_>>(), ["t0", "t2"]);
    }
}
