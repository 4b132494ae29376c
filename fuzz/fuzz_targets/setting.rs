//! What stands behind `--set`: `key.path=value`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use maqet::config::{layer_of, merge};
use maqet::domain::config::Node;
use maqet::domain::machine::{Machine, builtin_handlers};
use maqet::domain::plugin::{ConfigHandler, Registry};
use maqet::domain::storage::builtin_drivers;
use std::sync::LazyLock;

static HANDLERS: LazyLock<Registry<dyn ConfigHandler>> =
    LazyLock::new(|| builtin_handlers(&builtin_drivers().expect("names differ")).expect("names differ"));

fuzz_target!(|text: &str| {
    match layer_of(text) {
        Ok(layer) => {
            // Set twice is set once, but for lists, which append.
            let once = merge(Node::empty_map(), layer.clone());
            let _ = Machine::read(&once, &HANDLERS);
            let _ = Machine::read(&merge(once, layer), &HANDLERS);
        }
        Err(invalid) => assert!(!invalid.to_string().is_empty()),
    }
});
