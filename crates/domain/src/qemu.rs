//! QEMU's vocabulary: switches, versions, and the names of nodes and devices.

mod arity;
mod helper;
mod image_name;
mod node_name;
mod options;
mod raw;
mod switch;
mod version;

pub use self::arity::{canonical, switches, takes_boolean, takes_value};
pub use self::helper::Helper;
pub use self::image_name::{NamedFile, image_files, with_image_files};
pub use self::node_name::{
    BACKUP_PREFIX, HOTPLUG_PREFIX, InvalidNodeName, LAYER_PREFIX, LIMITS_PREFIX, NodeName, layer_node,
};
pub(crate) use self::node_name::{is_id, starts_with_letter};
pub use self::options::{
    OptionPart, OptionString, QemuOption, option_parts, option_value, with_values, without_options,
};
pub use self::raw::{RawPart, RawReader, raw_parts, switch_values};
pub use self::switch::{Switch, parse_bool};
pub use self::version::{InvalidVersion, QemuVersion, package_from_output};
