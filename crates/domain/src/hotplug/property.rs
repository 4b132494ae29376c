//! Drivers and properties, as people write them.

/// A text that is no property, or a value that does not fit its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not usable: {why}", given.escape_debug())]
pub struct InvalidProperty {
    /// What was given.
    pub given: String,
    /// What is wrong with it.
    pub why: String,
}

impl InvalidProperty {
    /// Makes an error of what is wrong with the value of a property.
    pub fn value(name: &str, value: &str, expected: &str) -> Self {
        Self { given: format!("{name}={value}"), why: format!("it takes {expected}") }
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
