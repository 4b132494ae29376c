//! Drivers and properties, as they are written by users.

use serde_json::{Map, Value};

use super::{DeviceError, DeviceId};
use crate::qmp::{DeviceProperties, QmpCommand, SchemaError};
use crate::text::similar;

/// A text that is not a property, or a value that does not fit its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid property `{}`: {reason}", property.escape_debug())]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct InvalidProperty {
    pub property: String,
    pub reason: String,
}

/// Returns the driver with this name.
///
/// QEMU accepts `virtio-blk` for `virtio-blk-pci` and so on, which its list of drivers does not have.
pub fn find_driver<'a>(name: &str, known: &'a [String]) -> Option<&'a str> {
    let find = |name: &str| known.iter().find(|driver| *driver == name).map(String::as_str);
    let on_bus = |bus: &str| find(&format!("{name}-{bus}")).filter(|_| name.starts_with("virtio-"));
    find(name).or_else(|| on_bus("pci")).or_else(|| on_bus("ccw"))
}

/// Returns the error of a driver that `known` does not have.
pub(super) fn driver_not_found(name: &str, known: &[String]) -> DeviceError {
    DeviceError::DriverNotFound {
        driver: name.chars().take(80).collect(),
        similar: similar(name, known.iter().map(String::as_str)),
    }
}

/// Parses `name=value` properties into values of the types that QEMU expects, and `id` if that is among them.
pub(super) fn parse_properties(
    driver: &str,
    properties: &[String],
    mut id: Option<DeviceId>,
    known: Option<&DeviceProperties>,
) -> Result<(Map<String, Value>, Option<DeviceId>), DeviceError> {
    let mut command = QmpCommand::new("device_add");
    for text in properties {
        let (name, value) = parse_pair(text)?;
        match name {
            "id" if id.is_some() => return Err(DeviceError::ArgumentConflict { arguments: "`id=` and `--id`" }),
            "id" => id = Some(DeviceId::parse(value)?),
            "driver" => return Err(DeviceError::ArgumentConflict { arguments: "a device and `driver=`" }),
            name => command = command.with(name, value),
        }
    }
    let command = match known {
        Some(known) => known.typed(command).map_err(|error| property_error(driver, error))?,
        None => command,
    };
    Ok((command.arguments, id))
}

fn parse_pair(text: &str) -> Result<(&str, &str), InvalidProperty> {
    text.split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| InvalidProperty { property: text.to_owned(), reason: "expected `name=value`".to_owned() })
}

fn property_error(driver: &str, error: SchemaError) -> DeviceError {
    match error {
        SchemaError::ArgumentNotFound { argument: property, similar, .. } => {
            DeviceError::PropertyNotFound { driver: driver.to_owned(), property, similar }
        }
        SchemaError::InvalidValue { argument, value, expected, .. } => {
            InvalidProperty { property: format!("{argument}={value}"), reason: format!("expected {expected}") }.into()
        }
        other => InvalidProperty { property: driver.to_owned(), reason: other.to_string() }.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_parse_pair_needs_name_and_equals_sign() {
        assert_eq!(parse_pair("a=b=c").unwrap(), ("a", "b=c"));
        assert_eq!(parse_pair("a=").unwrap(), ("a", ""));
        assert!(parse_pair("a").is_err() && parse_pair("=b").is_err());
    }

    #[test]
    fn test_find_driver_short_virtio_name_finds_bus_form() {
        let known = ["virtio-blk-pci", "e1000", "virtio-net-ccw", "other-pci"].map(str::to_owned);

        assert_eq!(find_driver("virtio-blk", &known), Some("virtio-blk-pci"));
        assert_eq!(find_driver("virtio-net", &known), Some("virtio-net-ccw"));
        assert_eq!(find_driver("e1000", &known), Some("e1000"));
        assert_eq!(find_driver("other", &known), None);
    }
}
