//! The output of a monitor: bytes to messages, in pieces of any size.
//!
//! The first byte is the size of the pieces. For any input, nothing panics, no more than a line and a piece is buffered
//! (asserted by the decoder), the pieces make no difference, and every error has a message.

#![no_main]

use libfuzzer_sys::fuzz_target;
use maqet::domain::qmp::QmpEvent;
use maqet_adapters_qemu::decode_any;

/// The longest line that is taken here; shorter than that of a session, so that lines beyond it are made up, too.
const LIMIT: usize = 1 << 10;

fuzz_target!(|bytes: &[u8]| {
    let Some((cut, bytes)) = bytes.split_first() else { return };

    let whole = decode_any(bytes, bytes.len(), LIMIT);
    let in_pieces = decode_any(bytes, usize::from(*cut), LIMIT);

    assert_eq!(in_pieces, whole);
    for message in &whole {
        let (Ok(text) | Err(text)) = message;
        assert!(!text.is_empty());
    }
    for event in bytes.split(|byte| *byte == b'\n').filter_map(QmpEvent::parse) {
        assert!(!event.at.to_string().is_empty());
    }
});
