//! `config`: checking configurations, and listing keys, defaults and settings.

use derive_setters::Setters;
use maqet_domain::config::{Node, Problem};
use maqet_domain::machine::{defaults, without_secrets};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::app::operations::{Done, Effect, Operation};
use crate::app::settings::EffectiveSetting;
use crate::config::{Document, Layers, check_layers};
use crate::{App, Error};

/// Check files without defining a VM
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct ConfigCheck {
    /// The documents, merged left to right.
    pub documents: Vec<Document>,
    /// Ignores unknown keys instead of refusing them.
    #[serde(default)]
    pub lenient: bool,
}

/// A valid configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ConfigChecked {
    /// Always `true`; an invalid configuration is an error.
    pub valid: bool,
    /// The merged definition.
    pub definition: Node,
    /// Unknown keys that were ignored, and what is probably not meant.
    pub warnings: Vec<Problem>,
}

/// Show the effective settings
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct ConfigShow {
    /// Show where each setting comes from
    #[cfg_attr(feature = "clap", arg(long))]
    pub origin: bool,
}

/// An effective setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ShownSetting {
    /// Its name, as in `directories.data`.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Where it came from, if requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

/// List the keys of a configuration
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ConfigKeys {}

/// A key of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KeyInfo {
    /// The key; a storage type is `storage[type=NAME]`.
    pub key: String,
    /// What it is for.
    pub summary: &'static str,
    /// Its value.
    pub value: String,
}

/// Print the JSON Schema of a configuration, for editors
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ConfigSchema {}

/// Show the default values of a configuration
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ConfigDefaults {}

/// A default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DefaultValue {
    /// The key.
    pub key: String,
    /// Its default.
    pub value: String,
}

impl ConfigCheck {
    /// Makes a strict check of documents, merged left to right.
    pub fn new(documents: impl IntoIterator<Item = Document>) -> Self {
        Self { documents: documents.into_iter().collect(), lenient: false }
    }
}

impl Operation for ConfigCheck {
    const NAME: &'static str = "config.check";
    const EFFECT: Effect = Effect::Reads;
    type Output = ConfigChecked;

    async fn run(&self, app: &App) -> Result<Done<ConfigChecked>, Error> {
        let layers = Layers { documents: &self.documents, flags: Vec::new(), set: &[], lenient: self.lenient };
        let checked = check_layers(app, &layers, Node::empty_map()).await?;
        let result =
            ConfigChecked { valid: true, definition: without_secrets(checked.definition), warnings: checked.warnings };
        Ok(Done::reading(result))
    }
}

impl Operation for ConfigShow {
    const NAME: &'static str = "config.show";
    const EFFECT: Effect = Effect::Reads;
    type Output = Vec<ShownSetting>;

    async fn run(&self, app: &App) -> Result<Done<Vec<ShownSetting>>, Error> {
        let shown = |setting: &EffectiveSetting| ShownSetting {
            key: setting.key.clone(),
            value: setting.value.clone(),
            origin: self.origin.then(|| setting.origin.clone()),
        };
        Ok(Done::reading(app.settings().effective.iter().map(shown).collect()))
    }
}

impl Operation for ConfigKeys {
    const NAME: &'static str = "config.keys";
    const EFFECT: Effect = Effect::Reads;
    type Output = Vec<KeyInfo>;

    async fn run(&self, app: &App) -> Result<Done<Vec<KeyInfo>>, Error> {
        let mut keys: Vec<KeyInfo> = app
            .handlers()
            .iter()
            .map(|handler| {
                let doc = handler.documentation();
                KeyInfo { key: handler.key().to_owned(), summary: doc.summary, value: doc.value.to_owned() }
            })
            .collect();
        keys.extend(app.drivers().iter().map(|driver| KeyInfo {
            key: format!("storage[type={}]", driver.type_name()),
            summary: driver.summary(),
            value: match driver.own_keys() {
                [] => "no keys of its own".to_owned(),
                own => format!("keys of its own: {}", own.join(", ")),
            },
        }));
        Ok(Done::reading(keys))
    }
}

impl Operation for ConfigSchema {
    const NAME: &'static str = "config.schema";
    const EFFECT: Effect = Effect::Reads;
    type Output = Value;

    /// Built from the registries, so it includes keys of plug-ins.
    async fn run(&self, app: &App) -> Result<Done<Value>, Error> {
        let properties: Map<String, Value> = app
            .handlers()
            .iter()
            .map(|handler| {
                let doc = handler.documentation();
                // `null` deletes the value of another file.
                let schema = json!({
                    "description": format!("{}: {}", doc.summary, doc.value),
                    "anyOf": [handler.schema(), { "type": "null" }],
                });
                (handler.key().to_owned(), schema)
            })
            .collect();
        Ok(Done::reading(json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "maqet VM definition",
            "type": "object",
            "additionalProperties": false,
            "properties": properties,
        })))
    }
}

impl Operation for ConfigDefaults {
    const NAME: &'static str = "config.defaults";
    const EFFECT: Effect = Effect::Reads;
    type Output = Vec<DefaultValue>;

    async fn run(&self, app: &App) -> Result<Done<Vec<DefaultValue>>, Error> {
        let architecture = app.ports.host.facts().architecture;
        let built_in = [
            ("binary", format!("qemu-system-{architecture}")),
            ("memory", defaults::MEMORY.to_string()),
            ("cpu", defaults::CPU.to_string()),
            ("network", "user".to_owned()),
            ("hotplug_ports", defaults::HOTPLUG_PORTS.to_string()),
            ("network.model", defaults::NETWORK_MODEL.to_owned()),
            ("display", defaults::DISPLAY.to_owned()),
            ("accel", "auto".to_owned()),
            ("serial", "console".to_owned()),
            ("firmware", "bios".to_owned()),
            ("sandbox", "true".to_owned()),
            ("storage.type", defaults::STORAGE_TYPE.to_owned()),
            ("storage.interface", defaults::STORAGE_INTERFACE.to_string()),
            ("storage.size", defaults::STORAGE_SIZE.to_string()),
        ];
        let overridden = app.settings().defaults.entries();
        let mut all: Vec<DefaultValue> = built_in
            .into_iter()
            .filter(|(key, _)| !overridden.iter().any(|(name, _)| name == key))
            .map(|(key, value)| DefaultValue { key: key.to_owned(), value })
            .collect();
        for (key, node) in overridden {
            let value = serde_json::to_string(node)
                .map_err(|source| Error::Encode { operation: Self::NAME.to_owned(), source })?;
            let value = node.written().unwrap_or(value);
            all.push(DefaultValue { key: key.clone(), value });
        }
        Ok(Done::reading(all))
    }
}
