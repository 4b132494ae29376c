//! What a guest sends in place of its agent.
//!
//! The first byte is the length of the pieces in which the rest is received. Nothing panics, every error has a message, and
//! no more memory is taken than a reply may have.

#![no_main]

use libfuzzer_sys::fuzz_target;
use maqet::domain::guest::{AgentDecoder, AgentReply, CommandStatus, GuestInterface, GuestSystem, Nonce};
use maqet::domain::guest::{AgentVersion, ExecFailure, started_process};

/// The limit of a reply here.
const LIMIT: usize = 512;

fuzz_target!(|bytes: &[u8]| {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    let mut decoder = AgentDecoder::new(7);
    for piece in bytes.chunks(usize::from(*piece).max(1)) {
        match decoder.push(piece) {
            Ok(Some(AgentReply::Return(value))) => {
                let _ = (CommandStatus::from_reply(&value), GuestInterface::from_reply(&value));
                let _ = (GuestSystem::from_reply(&value), AgentVersion::from_reply(&value), started_process(&value));
                decoder.expect_reply(LIMIT);
            }
            Ok(Some(AgentReply::Synchronized | AgentReply::Error { .. })) => decoder.expect_reply(LIMIT),
            Ok(None) => {}
            Err(invalid) => {
                assert!(!invalid.to_string().is_empty());
                break;
            }
        }
        assert!(decoder.buffered() <= 4 * LIMIT, "{}", decoder.buffered());
    }
    let _ = ExecFailure::from_stderr(&Nonce::new([0; 16]), bytes);
});
