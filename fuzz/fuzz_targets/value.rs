//! Values with a syntax of their own: sizes, names, IDs, ports, hardware addresses.
//!
//! Any text is rejected with a message, or accepted and the same after writing and reading it.

#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use maqet::domain::network::{Forward, MacAddress};
use maqet::domain::qemu::NodeName;
use maqet::domain::size::ByteSize;
use maqet::domain::snapshot::SnapshotName;
use maqet::domain::text::quote;
use maqet::domain::vm::{VmId, VmName};

fuzz_target!(|text: &str| {
    round_trips::<ByteSize>(text);
    round_trips::<VmName>(text);
    round_trips::<VmId>(text);
    round_trips::<NodeName>(text);
    round_trips::<SnapshotName>(text);
    round_trips::<Forward>(text);
    round_trips::<MacAddress>(text);
    for shift in [0, 10, 20, 30, 40, 50, 60] {
        let _ = ByteSize::parse_with_bare_unit(text, shift);
    }
    assert_eq!(unquoted(&quote(text)), text);
});

fn round_trips<T>(text: &str)
where
    T: FromStr + Display + PartialEq + Debug,
    T::Err: Display,
{
    match text.parse::<T>() {
        Ok(value) => {
            let again =
                value.to_string().parse::<T>().unwrap_or_else(|why| panic!("`{value}` does not round trip: {why}"));
            assert_eq!(again, value);
        }
        Err(why) => assert!(!why.to_string().is_empty()),
    }
}

/// Reads a quoted word as a POSIX shell does; it has single quotes and backslashes only.
fn unquoted(word: &str) -> String {
    let mut text = String::new();
    let mut is_quoted = false;
    let mut chars = word.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => is_quoted = !is_quoted,
            '\\' if !is_quoted => text.extend(chars.next()),
            c => text.push(c),
        }
    }
    text
}
