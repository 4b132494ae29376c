//! A device of maqet on the command line.

use serde_json::{Map, Value};

use crate::qemu::Switch;

/// A device with its options, in the types of their properties.
#[derive(Debug, Clone)]
pub(super) struct OwnDevice {
    options: Map<String, Value>,
}

impl OwnDevice {
    pub(super) fn new(driver: &str, id: &str) -> Self {
        let options = [("driver", driver), ("id", id)].map(|(key, value)| (key.to_owned(), Value::from(value)));
        Self { options: options.into_iter().collect() }
    }

    #[must_use]
    pub(super) fn option(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.options.insert(key.to_owned(), value.into());
        self
    }

    /// Returns the switch that creates it after all other devices.
    ///
    /// QEMU creates the devices of `-device key=value` first, then those of `-drive if=virtio`, and last those of this form
    /// (7.2, 10.0), each in the next free slot.
    pub(super) fn last(self) -> Switch {
        Switch::verbatim("device", Value::Object(self.options).to_string())
    }

    /// Returns the switch that creates it before those that follow, in either form.
    pub(super) fn before_others(self) -> Switch {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let mut options = self.options.iter();
        let driver = options.next().map(|(_, driver)| text(driver)).unwrap_or_default();
        options.fold(Switch::new("device").head(&driver), |switch, (key, value)| switch.option(key, text(value)))
    }
}
