//! USB devices: those of the host, and QEMU's own input devices.

use std::fmt;
use std::str::FromStr;

use super::{OwnDevice, USB_CONTROLLER};
use crate::text::shortened;

/// The ports of the controller: the limit of QEMU's (7.2, 10.0).
pub(super) const MAX_PORTS: u8 = 15;

/// The limit of USB devices; one port stays for a sound card.
pub const MAX_USB_DEVICES: usize = 14;

/// A USB device of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UsbDevice {
    /// A pointer with absolute coordinates.
    Tablet,
    /// A pointer with relative coordinates.
    Mouse,
    /// A keyboard.
    Keyboard,
    /// The device of the host with this vendor and product.
    Model {
        /// The id of its vendor.
        vendor: u16,
        /// The id of its product.
        product: u16,
    },
    /// The device of the host at this port.
    Port {
        /// The number of the host's bus.
        bus: u8,
        /// The ports that lead to it, as in `2` or `1.4`.
        port: String,
    },
}

/// A text that is not a valid [`UsbDevice`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid USB device {}: {reason}", shortened(value))]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct InvalidUsbDevice {
    pub value: String,
    pub reason: &'static str,
}

/// The limit of hubs on the way to a device, by the USB standard.
const MAX_TIERS: usize = 7;

impl UsbDevice {
    /// Returns the device; `index` is its position.
    pub(super) fn device(&self, index: u8) -> OwnDevice {
        let id = format!("{USB_CONTROLLER}{index}");
        let device = |driver| OwnDevice::new(driver, &id);
        let device = match self {
            Self::Tablet => device("usb-tablet"),
            Self::Mouse => device("usb-mouse"),
            Self::Keyboard => device("usb-kbd"),
            Self::Model { vendor, product } => {
                device("usb-host").option("vendorid", *vendor).option("productid", *product)
            }
            Self::Port { bus, port } => device("usb-host").option("hostbus", *bus).option("hostport", port.as_str()),
        };
        device.option("bus", format!("{USB_CONTROLLER}.0"))
    }
}

impl FromStr for UsbDevice {
    type Err = InvalidUsbDevice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |reason| InvalidUsbDevice { value: text.to_owned(), reason };
        match text {
            "tablet" => return Ok(Self::Tablet),
            "mouse" => return Ok(Self::Mouse),
            "keyboard" => return Ok(Self::Keyboard),
            _ => {}
        }
        if let Some((vendor, product)) = text.split_once(':') {
            let id = |text: &str| {
                let is_id = text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
                u16::from_str_radix(text, 16).ok().filter(|_| is_id)
            };
            let reason = "expected `VENDOR:PRODUCT` as `lsusb` prints it, four hexadecimal digits each";
            let (vendor, product) = id(vendor).zip(id(product)).ok_or_else(|| invalid(reason))?;
            return Ok(Self::Model { vendor, product });
        }
        let form =
            "expected `tablet`, `mouse`, `keyboard`, `VENDOR:PRODUCT` as in `046d:c52b`, or `BUS-PORT` as in `1-2.3`";
        let (bus, port) = text.split_once(['-', '.']).ok_or_else(|| invalid(form))?;
        let bus = number(bus).ok_or_else(|| invalid(form))?;
        let ports: Option<Vec<u8>> = port.split('.').map(number).collect();
        match ports {
            Some(ports) if ports.len() < MAX_TIERS => Ok(Self::Port { bus, port: port.to_owned() }),
            Some(_) => Err(invalid("a USB device has at most six ports on its way")),
            None => Err(invalid(form)),
        }
    }
}

impl fmt::Display for UsbDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tablet => f.write_str("tablet"),
            Self::Mouse => f.write_str("mouse"),
            Self::Keyboard => f.write_str("keyboard"),
            Self::Model { vendor, product } => write!(f, "{vendor:04x}:{product:04x}"),
            Self::Port { bus, port } => write!(f, "{bus}-{port}"),
        }
    }
}

/// Reads a number from 1 to 255, without a sign or leading zeros.
fn number(text: &str) -> Option<u8> {
    text.parse().ok().filter(|number: &u8| *number > 0 && number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_usb_device_every_form_becomes_its_switch() {
        for (text, driver, options) in [
            ("tablet", "usb-tablet", ""),
            ("mouse", "usb-mouse", ""),
            ("keyboard", "usb-kbd", ""),
            ("046D:c52b", "usb-host", r#""vendorid":1133,"productid":50475,"#),
            ("0000:0001", "usb-host", r#""vendorid":0,"productid":1,"#),
            ("1-2", "usb-host", r#""hostbus":1,"hostport":"2","#),
            ("1-2.3.14", "usb-host", r#""hostbus":1,"hostport":"2.3.14","#),
            ("3.1", "usb-host", r#""hostbus":3,"hostport":"1","#),
            ("3.1.10", "usb-host", r#""hostbus":3,"hostport":"1.10","#),
        ] {
            let device: UsbDevice = text.parse().unwrap();

            let expected = format!(r#"{{"driver":"{driver}","id":"maqet-usb2",{options}"bus":"maqet-usb.0"}}"#);
            assert_eq!(device.device(2).last().argument(), Some(expected.as_str()), "{text}");
            assert_eq!(device.to_string().parse::<UsbDevice>(), Ok(device), "{text}");
        }
    }

    #[test]
    fn test_usb_device_malformed_is_invalid() {
        for text in [
            "", "disk", "046d", "46d:c52b", "046d:c52b:1", "046d:+52b", "0x46:c52b", "1", "1-", "-1", "0-1", "1-0",
            "1-02", "1-2.", "256-1", "1-2,x=y", "1-1.1.1.1.1.1.1", "1:2",
        ] {
            assert!(text.parse::<UsbDevice>().is_err(), "{text}");
        }
        assert!("1-1.1.1.1.1.1".parse::<UsbDevice>().is_ok());
    }
}
