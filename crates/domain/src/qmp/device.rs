//! The properties of a device, which are not in the schema of `device_add`.

use serde_json::Value;

use super::schema::{OPEN_COMMAND, SchemaError, parse_integer};
use crate::qemu::parse_bool;
use crate::qmp::QmpCommand;
use crate::qmp::wording::expected_type;
use crate::text::similar;

/// The arguments that are in the schema, and not properties of the device.
const OWN: [&str; 3] = ["driver", "bus", "id"];

/// A PCI address has an integer type and is written as text: `02.0`, where `2` is slot 2 and not function 2.
const ADDRESS: &str = "addr";

/// Graphics cards with parts in modules that may not be installed: to list their properties QEMU makes one, and aborts if
/// a part is missing (`missing object type 'virtio-gpu-gl-device'`; 7.2, `virtio-gpu-gl-pci` and `virtio-vga-gl` only),
/// which would leave a core dump. None of them can be hot-plugged anyway.
const NEVER_QUERIED: [&str; 2] = ["virtio-gpu", "virtio-vga"];

/// A query about the device types of a build of QEMU.
///
/// It is not a [`QmpCommand`], and [`Builds`](crate::port::Builds) answers it with a fresh process: to list types, QEMU
/// loads all of its modules, and to list the properties of one, it creates a device. A QEMU whose package was upgraded
/// since it was started aborts over the modules of the other build, and its guest with it (`qom-list-types`; 10.0.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeQuery {
    /// The types that implement a kind and of which devices can be made.
    Types(TypeKind),
    /// The properties of the type of this name.
    Properties(String),
}

/// A kind of device types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "kebab-case")]
pub enum TypeKind {
    /// Every device.
    Device,
    /// Devices on a PCI bus.
    PciDevice,
}

impl TypeQuery {
    /// Returns the query for the properties of a driver; `None` if a process might abort over it.
    pub fn properties(driver: &str) -> Option<Self> {
        let is_safe = !NEVER_QUERIED.iter().any(|family| driver.starts_with(family));
        is_safe.then(|| Self::Properties(driver.to_owned()))
    }

    /// Returns the query for the properties of the driver in a `device_add`; `None` if that gives no properties, or a
    /// process might abort over it.
    pub fn properties_for(command: &QmpCommand) -> Option<Self> {
        let driver = command.arguments.get("driver").filter(|_| command.execute == OPEN_COMMAND)?;
        let has_properties = command.arguments.keys().any(|key| !OWN.contains(&key.as_str()));
        Self::properties(driver.as_str().filter(|_| has_properties)?)
    }

    /// Returns the command, for a process that runs no VM.
    pub fn command(&self) -> QmpCommand {
        match self {
            Self::Types(kind) => {
                QmpCommand::new("qom-list-types").with("implements", kind.to_string()).with("abstract", false)
            }
            Self::Properties(driver) => QmpCommand::new("device-list-properties").with("typename", driver.as_str()),
        }
    }
}

/// The properties of a device, as QEMU lists them (`device-list-properties`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceProperties {
    /// Names and types.
    properties: Vec<(String, String)>,
}

impl DeviceProperties {
    /// Reads the reply to [`TypeQuery::Properties`].
    pub fn from_reply(reply: &Value) -> Option<Self> {
        let property = |one: &Value| Some((one["name"].as_str()?.to_owned(), one["type"].as_str()?.to_owned()));
        let properties: Option<Vec<(String, String)>> = reply.as_array()?.iter().map(property).collect();
        properties.map(|properties| Self { properties })
    }

    /// Returns whether the device has a property of this name.
    pub fn has(&self, name: &str) -> bool {
        self.properties.iter().any(|(known, _)| known == name)
    }

    /// Checks that the device has the properties that a command gives.
    ///
    /// Errors: `ArgumentNotFound`.
    pub fn check(&self, command: &QmpCommand) -> Result<(), SchemaError> {
        let known = || OWN.into_iter().chain(self.properties.iter().map(|(name, _)| name.as_str()));
        // The items of a list exist once its length is set.
        let is_item = |key: &str| key.contains('[') || key.starts_with("len-");
        match command.arguments.keys().find(|key| !is_item(key) && !known().any(|name| name == *key)) {
            None => Ok(()),
            Some(name) => Err(SchemaError::ArgumentNotFound {
                command: command.execute.clone(),
                argument: name.clone(),
                similar: similar(name, known()),
                known: known().map(str::to_owned).collect(),
                requires: None,
            }),
        }
    }

    /// Converts properties that are strings to their types.
    ///
    /// QEMU 7.2 takes strings for all, later versions expect typed values. A number that does not parse stays a string,
    /// as QEMU may parse it. Errors: `ArgumentNotFound`, `InvalidValue`.
    pub fn typed(&self, mut command: QmpCommand) -> Result<QmpCommand, SchemaError> {
        self.check(&command)?;
        for (name, kind) in &self.properties {
            let Some(Value::String(text)) = command.arguments.get(name) else { continue };
            let value = match kind.as_str() {
                "bool" => parse_bool(text).map(Value::Bool).ok_or_else(|| SchemaError::InvalidValue {
                    command: command.execute.clone(),
                    argument: name.clone(),
                    value: text.clone(),
                    expected: "`on` or `off`".to_owned(),
                    similar: Vec::new(),
                })?,
                number if is_number(number) && name != ADDRESS => match parse_integer(text) {
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

/// Converts the string in a `device_add` that QEMU refused because of its type; `None` if it refused something else.
///
/// For a driver whose properties are not known.
pub fn retyped(command: &QmpCommand, refusal: &str) -> Option<QmpCommand> {
    let (name, kind) = expected_type(refusal)?;
    let text = command.arguments.get(name)?.as_str()?;
    let value = match kind {
        "boolean" => Value::Bool(parse_bool(text)?),
        _ => Value::Number(parse_integer(text)?),
    };
    Some(command.clone().with(name, value))
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
        let reply = json!([
            {"name": "addr", "type": "int32", "default-value": -1},
            {"name": "share-rw", "type": "bool"},
            {"name": "disable-legacy", "type": "OnOffAuto"},
            {"name": "queue-size", "type": "uint16"},
            {"name": "drive", "type": "str", "description": "Node name or ID"},
        ]);
        DeviceProperties::from_reply(&reply).unwrap()
    }

    fn command(arguments: Value) -> QmpCommand {
        let Value::Object(arguments) = arguments else { panic!("not an object") };
        QmpCommand { execute: "device_add".to_owned(), arguments }
    }

    #[test]
    fn test_properties_are_those_of_the_reply() {
        assert!(properties().has("addr") && properties().has("drive"));
        assert!(!properties().has("serial"));
    }

    #[test]
    fn test_properties_typed_converts_strings() {
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
    fn test_properties_typed_refuses_unknown_names_and_values() {
        let refused = |given: Value| properties().typed(command(given)).unwrap_err();

        let unknown = refused(json!({"driver": "virtio-blk-pci", "drvie": "x"}));
        let invalid = refused(json!({"driver": "virtio-blk-pci", "share-rw": "maybe"}));

        assert_eq!(unknown.to_string(), "`device_add` has no argument `drvie`");
        assert_eq!(unknown.hints()[0], "did you mean `drive` or `driver`?");
        assert_eq!(invalid.to_string(), "invalid value `maybe` for `share-rw` of `device_add`: expected `on` or `off`");
        let odd = refused(json!({"driver": "virtio-blk-pci", "queue-sizes": 1}));
        assert_eq!(odd.code(), "qmp.argument-not-found");
    }

    #[test]
    fn test_type_query_for_needs_properties_and_safe_driver() {
        let query = |given: Value| TypeQuery::properties_for(&command(given));

        assert_eq!(query(json!({"driver": "x", "bus": "b", "id": "i"})), None);
        assert_eq!(query(json!({"bus": "b", "drive": "n"})), None);
        assert_eq!(query(json!({"driver": "virtio-vga-gl", "xres": 800})), None);
        assert_eq!(query(json!({"driver": "x", "drive": "n"})), Some(TypeQuery::Properties("x".to_owned())));
        assert_eq!(TypeQuery::properties_for(&QmpCommand::new("stop").with("driver", "x").with("y", 1)), None);
        assert_eq!(DeviceProperties::from_reply(&json!([{"name": 1}])), None);
    }

    #[test]
    fn test_retyped_refused_string_gets_the_expected_type() {
        let given = command(json!({"driver": "x", "share-rw": "on", "queue-size": "0x40"}));
        let typed = |refusal: &str| retyped(&given, refusal).map(|command| command.arguments);

        let boolean = typed("Invalid parameter type for 'share-rw', expected: boolean").unwrap();
        let number = typed("Parameter 'queue-size' expects uint64").unwrap();

        assert_eq!((&boolean["share-rw"], &number["queue-size"]), (&json!(true), &json!(64)));
        assert_eq!(typed("Parameter 'share-rw' expects uint64"), None);
        assert_eq!(typed("Property 'x.y' not found"), None);
    }

    #[test]
    fn test_type_query_command_is_that_of_qemu() {
        let types = TypeQuery::Types(TypeKind::PciDevice).command();
        let properties = TypeQuery::Properties("x".to_owned()).command();

        assert_eq!(json!(types.arguments), json!({"abstract": false, "implements": "pci-device"}));
        assert_eq!((types.execute.as_str(), properties.execute.as_str()), ("qom-list-types", "device-list-properties"));
        assert_eq!(json!(properties.arguments), json!({"typename": "x"}));
    }
}
