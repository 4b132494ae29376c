//! Ids of devices, and the names of their backends.

use serde_with::{DeserializeFromStr, SerializeDisplay};

use crate::qemu::{HOTPLUG_PREFIX, is_id, starts_with_letter};
use crate::text::checked_text;

/// The id of a hot-plugged device.
///
/// QEMU's ids begin with a letter (`id_wellformed`, 7.2). Its node names have up to 31 bytes, of which eight are the prefix
/// of a backend.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, DeserializeFromStr, SerializeDisplay)]
pub struct DeviceId(String);

/// A text that is not a valid [`DeviceId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid device ID `{}`: {reason}", value.escape_debug())]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct InvalidDeviceId {
    pub value: String,
    pub reason: &'static str,
}

impl DeviceId {
    /// The maximum length of an id, in bytes.
    pub const MAX_LEN: usize = 23;

    /// Checks an id.
    pub fn parse(text: &str) -> Result<Self, InvalidDeviceId> {
        let reason = match text {
            _ if text.len() > Self::MAX_LEN => "it is longer than 23 bytes",
            _ if !starts_with_letter(text) => "it must begin with a letter (a to z)",
            _ if !is_id(text) => "expected a to z, digits and - _ .",
            _ => return Ok(Self(text.to_owned())),
        };
        Err(InvalidDeviceId { value: text.chars().take(80).collect(), reason })
    }

    /// Returns an id for a device of this driver that is not in `used`: `virtio-blk-0` and so on.
    pub fn unused(driver: &str, used: &[String]) -> Self {
        const SUFFIXES: [&str; 5] = ["-non-transitional", "-transitional", "-pci", "-ccw", "-device"];
        let kind = SUFFIXES.iter().fold(driver, |kind, suffix| kind.strip_suffix(suffix).unwrap_or(kind));
        let is_allowed = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
        // Leaves room for a dash and three digits.
        let kind: String = kind.chars().filter(is_allowed).take(Self::MAX_LEN - 4).collect();
        let kind = if starts_with_letter(&kind) { kind } else { "device".to_owned() };
        let id = |number: usize| format!("{kind}-{number}");
        let unused = (0..=used.len()).map(id).find(|id| !used.contains(id));
        Self(unused.unwrap_or_else(|| id(used.len())))
    }

    /// Returns the name of the backend that maqet creates for the device.
    pub fn backend_name(&self) -> String {
        backend_name(&self.0)
    }
}

checked_text!(DeviceId, InvalidDeviceId);

/// Returns the name of the backend that maqet creates for a device.
pub fn backend_name(device: &str) -> String {
    format!("{HOTPLUG_PREFIX}{device}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_device_id_invalid_for_qemu_is_refused() {
        let longest = "x".repeat(DeviceId::MAX_LEN);
        for id in ["disk1", "a.b_c-d", &longest] {
            assert_eq!(DeviceId::parse(id).unwrap().backend_name(), format!("hotplug-{id}"));
            assert!(DeviceId::parse(id).unwrap().backend_name().len() <= 31);
        }
        for id in ["", "1st", "a b", "a,b", "a/b", "ä", &format!("{longest}x")] {
            assert!(DeviceId::parse(id).is_err(), "{id:?}");
        }
    }

    #[test]
    fn test_device_id_round_trips() {
        let id: DeviceId = "a.b_c-d".parse().unwrap();

        assert_eq!((id.as_str(), id.to_string()), ("a.b_c-d", "a.b_c-d".to_owned()));
    }

    #[test]
    fn test_device_id_unused_is_short_and_new() {
        let used = ["virtio-blk-0", "virtio-blk-2"].map(str::to_owned);

        assert_eq!(DeviceId::unused("virtio-blk-pci", &used).as_str(), "virtio-blk-1");
        assert_eq!(DeviceId::unused("e1000", &used).as_str(), "e1000-0");
        assert_eq!(DeviceId::unused("virtio-net-pci-non-transitional", &[]).as_str(), "virtio-net-0");
        assert_eq!(DeviceId::unused("82801b11-bridge", &[]).as_str(), "device-0");
        for driver in ["x".repeat(60), "a".to_owned(), ",,".to_owned()] {
            assert!(DeviceId::parse(DeviceId::unused(&driver, &[]).as_str()).is_ok(), "{driver}");
        }
    }
}
