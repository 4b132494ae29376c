//! The channels between host and guest, which are ports of one virtio-serial controller.

use std::fmt;

use serde_json::Value;

use super::{AGENT_PORT, CONSOLE, CONTROLLER, FIRST_CONSOLE};

/// How many sets of ports a VM has: as many commands stream at once.
pub const PORT_SETS: u8 = 4;

/// A stream of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::Display, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum GuestStream {
    /// Standard input.
    In,
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

impl GuestStream {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::In, Self::Out, Self::Err];
}

/// Three ports, one for each stream of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortSet(u8);

impl PortSet {
    /// Returns all sets.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..=PORT_SETS).map(Self)
    }

    /// Returns its number, from 1.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Returns the id of a port and of its character device.
    pub fn id(self, stream: GuestStream) -> String {
        format!("maqet-{stream}{self}")
    }

    /// Returns the name of a port in the guest, below `/dev/virtio-ports`.
    pub fn name(self, stream: GuestStream) -> String {
        format!("org.maqet.{stream}.{self}")
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Returns the ids of all channels, and of their controller; each channel's character device has the same id.
pub fn channel_ids() -> impl Iterator<Item = String> {
    let fixed = [CONTROLLER, FIRST_CONSOLE, CONSOLE, AGENT_PORT].map(str::to_owned);
    let ports = PortSet::all().flat_map(|set| GuestStream::ALL.map(|stream| set.id(stream)));
    fixed.into_iter().chain(ports)
}

/// Returns whether the guest has a channel open, according to the reply of `query-chardev`; `None` if the VM does not have
/// the channel.
pub fn is_open(reply: &Value, id: &str) -> Option<bool> {
    let devices = reply.as_array()?;
    let device = devices.iter().find(|device| device.get("label").and_then(Value::as_str) == Some(id))?;
    device.get("frontend-open").and_then(Value::as_bool)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn test_channel_ids_are_unique_and_one_set_is_complete() {
        let ids: Vec<String> = channel_ids().collect();

        let unique: std::collections::HashSet<&String> = ids.iter().collect();
        assert_eq!((ids.len(), unique.len()), (16, 16));
        assert_eq!(ids[4..7], ["maqet-in1", "maqet-out1", "maqet-err1"]);
        assert_eq!(PortSet::all().last().unwrap().name(GuestStream::Err), "org.maqet.err.4");
    }

    #[test]
    fn test_is_open_reads_the_side_of_the_guest() {
        let reply = json!([
            {"label": "maqet-agent", "frontend-open": true, "filename": "x"},
            {"label": "maqet-out1", "frontend-open": false, "filename": "y"},
        ]);

        assert_eq!(
            [is_open(&reply, "maqet-agent"), is_open(&reply, "maqet-out1"), is_open(&reply, "maqet-out2")],
            [Some(true), Some(false), None]
        );
        assert_eq!(is_open(&json!({}), "maqet-agent"), None);
    }
}
