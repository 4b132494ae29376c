//! The argument of `--set`: `key.path=value`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use maqet::config::set;
use maqet::domain::config::Node;
use maqet::domain::machine::ConfigHandler;
use maqet::domain::machine::{Machine, builtin_handlers};
use maqet::domain::registry::Registry;
use maqet::domain::storage::builtin_drivers;
use std::sync::LazyLock;

static HANDLERS: LazyLock<Registry<dyn ConfigHandler>> =
    LazyLock::new(|| builtin_handlers(&builtin_drivers().expect("names differ")).expect("names differ"));

fuzz_target!(|text: &str| {
    match set(Node::empty_map(), text, &HANDLERS) {
        Ok(once) => {
            let _ = Machine::read(&once, &HANDLERS);
            if let Ok(twice) = set(once, text, &HANDLERS) {
                let _ = Machine::read(&twice, &HANDLERS);
            }
        }
        Err(invalid) => assert!(!invalid.to_string().is_empty()),
    }
});
