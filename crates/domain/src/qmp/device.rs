//! The properties of a device, which the schema of `device_add` does not tell.

use serde_json::Value;

use super::schema::{OPEN_COMMAND, SchemaError, whole_number};
use crate::qmp::QmpCommand;
use crate::text::similar;

/// What is no property of a device, and told by the schema.
const OWN: [&str; 3] = ["driver", "bus", "id"];

/// A PCI address is a number to the type, and to people a text: `02.0`, where `2` is slot 2 and not function 2.
const ADDRESS: &str = "addr";

/// Graphics cards whose parts are in modules that may not be installed. Asked for the properties of one, QEMU makes one,
/// and ends over the part that is missing: `missing object type 'virtio-gpu-gl-device'` (7.2, where that is so of
/// `virtio-gpu-gl-pci` and `virtio-vga-gl` only). It takes none of them while a machine runs anyhow.
const NEVER_ASKED: [&str; 2] = ["virtio-gpu", "virtio-vga"];

/// The properties of a device, as QEMU tells them (`device-list-properties`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceProperties {
    /// Names and types.
    properties: Vec<(String, String)>,
}

impl DeviceProperties {
    /// Returns the command that asks for the properties of a driver; `None` for one that QEMU could end over.
    pub fn asking(driver: &str) -> Option<QmpCommand> {
        let may_be_asked = !NEVER_ASKED.iter().any(|family| driver.starts_with(family));
        may_be_asked.then(|| QmpCommand::new("device-list-properties").with("typename", driver))
    }

    /// Returns the command that asks for the properties a `device_add` would need; `None` where it gives none, and where
    /// QEMU is not to be asked.
    pub fn asked_for(command: &QmpCommand) -> Option<QmpCommand> {
        let driver = command.arguments.get("driver").filter(|_| command.execute == OPEN_COMMAND)?;
        let gives_some = command.arguments.keys().any(|key| !OWN.contains(&key.as_str()));
        Self::asking(driver.as_str().filter(|_| gives_some)?)
    }

    /// Reads QEMU's answer to that.
    pub fn of_reply(reply: &Value) -> Option<Self> {
        let one = |told: &Value| Some((told["name"].as_str()?.to_owned(), told["type"].as_str()?.to_owned()));
        let properties: Option<Vec<(String, String)>> = reply.as_array()?.iter().map(one).collect();
        properties.map(|properties| Self { properties })
    }

    /// Returns whether the device has a property of this name.
    pub fn has(&self, name: &str) -> bool {
        self.properties.iter().any(|(known, _)| known == name)
    }

    /// Refuses a property that the device does not have.
    ///
    /// Errors: `UnknownArgument`.
    pub fn check(&self, command: &QmpCommand) -> Result<(), SchemaError> {
        let known = || OWN.into_iter().chain(self.properties.iter().map(|(name, _)| name.as_str()));
        // Items of a list come into being with its length.
        let is_item = |key: &str| key.contains('[') || key.starts_with("len-");
        match command.arguments.keys().find(|key| !is_item(key) && !known().any(|name| name == *key)) {
            None => Ok(()),
            Some(given) => Err(SchemaError::UnknownArgument {
                command: command.execute.clone(),
                similar: similar(given, known()),
                known: known().map(str::to_owned).collect(),
                given: given.clone(),
                goes_with: None,
            }),
        }
    }

    /// Gives properties that came as texts the types they have.
    ///
    /// QEMU 7.2 takes texts for all; later ones want the types. A number that is none stays as it is, as QEMU may read
    /// it. Errors: `UnknownArgument`, `WrongValue`.
    pub fn typed(&self, mut command: QmpCommand) -> Result<QmpCommand, SchemaError> {
        self.check(&command)?;
        for (name, kind) in &self.properties {
            let Some(Value::String(text)) = command.arguments.get(name) else { continue };
            let value = match kind.as_str() {
                "bool" => Value::Bool(match text.as_str() {
                    "on" | "yes" | "true" => true,
                    "off" | "no" | "false" => false,
                    _ => {
                        return Err(SchemaError::WrongValue {
                            given: text.clone(),
                            argument: name.clone(),
                            command: command.execute,
                            expected: "`on` or `off`".to_owned(),
                            similar: Vec::new(),
                        });
                    }
                }),
                number if is_number(number) && name != ADDRESS => match whole_number(text) {
                    Some(number) => Value::Number(number),
                    None => continue,
                },
                _ => continue,
            };
            command.arguments.insert(name.clone(), value);
        }
        Ok(command)
    }
}

fn is_number(kind: &str) -> bool {
    matches!(kind, "int" | "int8" | "int16" | "int32" | "int64" | "uint8" | "uint16" | "uint32" | "uint64" | "size")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Explain;

    /// Some of the properties of `virtio-blk-pci` (7.2).
    fn properties() -> DeviceProperties {
        let told = json!([
            {"name": "addr", "type": "int32", "default-value": -1},
            {"name": "share-rw", "type": "bool"},
            {"name": "disable-legacy", "type": "OnOffAuto"},
            {"name": "queue-size", "type": "uint16"},
            {"name": "drive", "type": "str", "description": "Node name or ID"},
        ]);
        DeviceProperties::of_reply(&told).unwrap()
    }

    fn command(arguments: Value) -> QmpCommand {
        let Value::Object(arguments) = arguments else { panic!("it is an object") };
        QmpCommand { execute: "device_add".to_owned(), arguments }
    }

    #[test]
    fn test_properties_are_those_that_were_told() {
        assert!(properties().has("addr") && properties().has("drive"));
        assert!(!properties().has("serial"));
    }

    #[test]
    fn test_properties_that_came_as_texts_get_their_types() {
        let given = json!({"driver": "virtio-blk-pci", "id": "1", "addr": "2", "share-rw": "on", "drive": "7",
            "disable-legacy": "on", "queue-size": "0x80", "reserved-regions[0]": "x"});

        let typed = properties().typed(command(given)).unwrap();

        let expected = json!({"driver": "virtio-blk-pci", "id": "1", "addr": "2", "share-rw": true, "drive": "7",
            "disable-legacy": "on", "queue-size": 128, "reserved-regions[0]": "x"});
        assert_eq!(Value::Object(typed.arguments), expected);
        let off = properties().typed(command(json!({"driver": "virtio-blk-pci", "share-rw": "off"}))).unwrap();
        assert_eq!(off.arguments["share-rw"], json!(false));
    }

    #[test]
    fn test_properties_unknown_or_wrong_are_refused_with_near_names() {
        let refused = |given: Value| properties().typed(command(given)).unwrap_err();

        let unknown = refused(json!({"driver": "virtio-blk-pci", "drvie": "x"}));
        let wrong = refused(json!({"driver": "virtio-blk-pci", "share-rw": "maybe"}));

        assert_eq!(unknown.to_string(), "`device_add` has no argument `drvie`");
        assert_eq!(unknown.hints()[0], "did you mean `drive` or `driver`?");
        assert_eq!(wrong.to_string(), "`maybe` does not go with `share-rw` of `device_add`, which takes `on` or `off`");
        let odd = refused(json!({"driver": "virtio-blk-pci", "queue-sizes": 1}));
        assert_eq!(odd.code(), "qmp.unknown-argument");
    }

    #[test]
    fn test_properties_are_asked_for_where_some_are_given_only() {
        let asked = |given: Value| DeviceProperties::asked_for(&command(given)).map(|asked| asked.arguments);

        assert_eq!(asked(json!({"driver": "x", "bus": "b", "id": "i"})), None);
        assert_eq!(asked(json!({"bus": "b", "drive": "n"})), None);
        assert_eq!(asked(json!({"driver": "virtio-vga-gl", "xres": 800})), None);
        assert_eq!(Value::Object(asked(json!({"driver": "x", "drive": "n"})).unwrap()), json!({"typename": "x"}));
        assert_eq!(DeviceProperties::asked_for(&QmpCommand::new("stop").with("driver", "x").with("y", 1)), None);
        assert_eq!(DeviceProperties::of_reply(&json!([{"name": 1}])), None);
    }
}
