//! Drivers and properties, as QEMU describes them.

use serde_json::{Value, json};

use crate::size::ByteSize;

/// A property of a driver, as `device-list-properties` tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Its name.
    pub name: String,
    /// Its type, by QEMU's name.
    pub kind: String,
}

/// A text that is no property, or a value that does not fit its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not usable: {why}", given.escape_debug())]
pub struct InvalidProperty {
    /// What was given.
    pub given: String,
    /// What is wrong with it.
    pub why: String,
}

impl Property {
    /// Returns `text` as QEMU wants a value of this type: newer ones take no text where a number belongs.
    pub fn value(&self, text: &str) -> Result<Value, InvalidProperty> {
        let invalid = |why: &str| InvalidProperty { given: format!("{}={text}", self.name), why: why.to_owned() };
        match self.kind.as_str() {
            "bool" => match text {
                "on" | "true" | "yes" => Ok(json!(true)),
                "off" | "false" | "no" => Ok(json!(false)),
                _ => Err(invalid("it is `on` or `off`")),
            },
            // A place on a bus is a number to QEMU and `04.0` to people, so it is told as they write it.
            _ if self.name == "addr" => Ok(json!(text)),
            "int8" | "int16" | "int32" | "int64" | "int" => {
                let number = number(text).ok_or_else(|| invalid("it is a whole number"))?;
                Ok(i64::try_from(number).map_or_else(|_| json!(text), |number| json!(number)))
            }
            "uint8" | "uint16" | "uint32" | "uint64" => match number(text).map(u64::try_from) {
                Some(Ok(number)) => Ok(json!(number)),
                Some(Err(_)) | None => Err(invalid("it is a whole number from 0 on")),
            },
            "size" => match text.parse::<ByteSize>() {
                Ok(size) => Ok(json!(size.bytes())),
                Err(_) => Err(invalid("it is a size such as `512` or `64K`")),
            },
            _ => Ok(json!(text)),
        }
    }
}

fn number(text: &str) -> Option<i128> {
    match text.strip_prefix("0x") {
        Some(digits) => i128::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Reads `name=value`.
pub fn parse_pair(text: &str) -> Result<(String, String), InvalidProperty> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => {
            Err(InvalidProperty { given: text.to_owned(), why: "write a property as `name=value`".to_owned() })
        }
    }
}

/// Returns the driver that is meant by `given`: QEMU itself takes `virtio-blk` for `virtio-blk-pci` and the like, and its
/// list of drivers does not have these.
pub fn driver_named<'a>(given: &str, known: &'a [String]) -> Option<&'a str> {
    let by_name = |name: &str| known.iter().find(|one| *one == name).map(String::as_str);
    let on_bus = |bus: &str| by_name(&format!("{given}-{bus}")).filter(|_| given.starts_with("virtio-"));
    by_name(given).or_else(|| on_bus("pci")).or_else(|| on_bus("ccw"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: &str, text: &str, expected: Option<&Value>) {
        let property = Property { name: "p".to_owned(), kind: kind.to_owned() };
        assert_eq!(property.value(text).ok().as_ref(), expected, "{kind} {text}");
    }

    #[test]
    fn test_property_value_has_the_type_that_qemu_tells() {
        check("bool", "on", Some(&json!(true)));
        check("bool", "maybe", None);
        check("uint32", "0x10", Some(&json!(16)));
        check("uint32", "-1", None);
        check("int32", "-1", Some(&json!(-1)));
        check("int32", "x", None);
        check("size", "64K", Some(&json!(65_536)));
        check("size", "much", None);
        check("str", "5", Some(&json!("5")));
        check("OnOffAuto", "auto", Some(&json!("auto")));
        let addr = Property { name: "addr".to_owned(), kind: "int32".to_owned() };
        assert_eq!(addr.value("04.1").unwrap(), json!("04.1"));
    }

    #[test]
    fn test_parse_pair_without_equals_sign_or_name_is_refused() {
        assert_eq!(parse_pair("a=b=c").unwrap(), ("a".to_owned(), "b=c".to_owned()));
        assert_eq!(parse_pair("a=").unwrap(), ("a".to_owned(), String::new()));
        assert!(parse_pair("a").is_err() && parse_pair("=b").is_err());
    }

    #[test]
    fn test_driver_named_short_name_of_virtio_is_its_device_on_the_bus() {
        let known = ["virtio-blk-pci", "e1000", "virtio-net-ccw", "other-pci"].map(str::to_owned);

        assert_eq!(driver_named("virtio-blk", &known), Some("virtio-blk-pci"));
        assert_eq!(driver_named("virtio-net", &known), Some("virtio-net-ccw"));
        assert_eq!(driver_named("e1000", &known), Some("e1000"));
        assert_eq!(driver_named("other", &known), None);
    }
}
