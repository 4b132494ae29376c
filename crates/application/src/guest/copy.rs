//! Copying between host and guest: the streams of a script that receives or sends, and what came of it.
//!
//! The script is a command as those of `exec`, so that what holds for their streams, ends and timeouts holds here as well.
//! Without ports, a file in the guest stands for the stream, which the agent writes or reads ([`staged`]).

pub(crate) mod error;
pub(crate) mod receiver;
pub(crate) mod staged;
pub(crate) mod streams;
