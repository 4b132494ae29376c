//! The block nodes of a layer that a running QEMU opens.

use serde_json::{Map, Value};

use super::image_driver::node_options;
use super::{LAYER_FORMAT, StorageSpec};
use crate::qemu::layer_node;
use crate::qmp::QmpCommand;

/// The block nodes of a layer, above the image that a drive has so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerNodes {
    /// The name of the node of the format.
    pub format: String,
    /// The name of the node of the file.
    pub file: String,
}

impl LayerNodes {
    /// Returns the names of the nodes of a layer: one number for all layers of a checkpoint, and the position in it.
    pub fn new(number: u32, position: usize) -> Self {
        let format = layer_node(number, position);
        Self { file: format!("{format}-file"), format }
    }

    /// Returns the commands that open the file of a layer as the drive is opened, without the image below it: the
    /// snapshot puts that there.
    pub fn open(&self, drive: &StorageSpec, path: &str) -> [QmpCommand; 2] {
        let common = node_options(drive);
        let mut of_file = nested(&common);
        of_file.extend(drive.aio.map(|aio| ("aio".to_owned(), Value::from(<&str>::from(aio)))));
        let file = with(QmpCommand::new("blockdev-add"), of_file)
            .with("driver", "file")
            .with("node-name", self.file.as_str())
            .with("filename", path);
        let format = with(QmpCommand::new("blockdev-add"), nested(&common))
            .with("driver", LAYER_FORMAT)
            .with("node-name", self.format.as_str())
            .with("file", self.file.as_str())
            .with("backing", Value::Null);
        [file, format]
    }

    /// Returns the commands that close the nodes, the upper one first.
    pub fn close(&self) -> [QmpCommand; 2] {
        [&self.format, &self.file].map(|node| QmpCommand::new("blockdev-del").with("node-name", node.as_str()))
    }

    /// Returns the action that lets the guest write to the layer, above the node that its drive has so far.
    pub fn snapshot(&self, below: &str) -> QmpCommand {
        QmpCommand::new("blockdev-snapshot").with("node", below).with("overlay", self.format.as_str())
    }
}

fn with(command: QmpCommand, options: Map<String, Value>) -> QmpCommand {
    options.into_iter().fold(command, |command, (key, value)| command.with(&key, value))
}

/// Returns options of the command line as QMP has them: nested, with booleans.
fn nested(options: &[(&str, &str)]) -> Map<String, Value> {
    let mut map = Map::new();
    for (key, value) in options {
        let value = match *value {
            "on" => Value::Bool(true),
            "off" => Value::Bool(false),
            text => Value::from(text),
        };
        match key.split_once('.') {
            Some((outer, inner)) => {
                let entry = map.entry(outer.to_owned()).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(entry) = entry {
                    entry.insert(inner.to_owned(), value);
                }
            }
            None => drop(map.insert((*key).to_owned(), value)),
        }
    }
    map
}
