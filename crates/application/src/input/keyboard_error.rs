//! Why keys were not pressed.

use std::time::Duration;

use maqet_domain::error::{Explain, Fault};
use maqet_domain::keyboard::{InvalidChord, Untypable};
use maqet_domain::port::LockError;
use maqet_domain::qmp::QmpError;
use maqet_domain::vm::{Status, VmName};

use crate::Error;
use crate::limits::{KEY_EDGE_LONGEST, TYPED_BYTES};

/// Why keys were not pressed, or not all of them.
#[derive(Debug, thiserror::Error)]
pub enum KeyboardError {
    /// There is no such chord.
    #[error(transparent)]
    Chord(#[from] InvalidChord),
    /// The text holds what the layout cannot type.
    #[error(transparent)]
    Untypable(#[from] Untypable),
    /// No key was named.
    #[error("there is no key to press")]
    NoKeys,
    /// The text is longer than anybody would wait for.
    #[error("the text has {length} bytes, and at most {TYPED_BYTES} are typed")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// A pause that is none, or that nobody would wait for.
    #[error("a key is held for 1 ms to {KEY_EDGE_LONGEST:?}, not for {given:?}")]
    Hold {
        /// What was given.
        given: Duration,
    },
    /// Somebody else types.
    #[error("the keyboard of `{vm}` is in use")]
    Taken {
        /// The VM.
        vm: VmName,
        /// Who uses it.
        source: LockError,
    },
    /// The machine does not run, so that keys would be lost.
    #[error("the VM `{vm}` is {} and hears no keys{}", status.as_str(), so_far(*pressed, *total))]
    StandsStill {
        /// The VM.
        vm: VmName,
        /// Its state.
        status: Status,
        /// How many were pressed before.
        pressed: usize,
        /// How many there are.
        total: usize,
    },
    /// QEMU did not press a key.
    #[error("the keys of `{vm}` could not be pressed{}", so_far(*pressed, *total))]
    Cut {
        /// The VM.
        vm: VmName,
        /// How many were pressed before.
        pressed: usize,
        /// How many there are.
        total: usize,
        /// Why.
        source: QmpError,
    },
}

impl Error {
    /// Returns the error as it may be written into logs: what was to be typed at a guest may be a password, and so may
    /// what was taken for the name of a key.
    pub(crate) fn told_in_logs(&self) -> String {
        match self {
            Self::Keyboard(KeyboardError::Untypable(_)) => "a character has no key".to_owned(),
            Self::Keyboard(KeyboardError::Chord(_)) => "a key has no such name".to_owned(),
            Self::Command(error) => error.told_in_logs(),
            other => other.to_string(),
        }
    }
}

fn so_far(pressed: usize, total: usize) -> String {
    if pressed == 0 { String::new() } else { format!("; {pressed} of {total} were pressed before") }
}

impl Explain for KeyboardError {
    fn code(&self) -> &'static str {
        match self {
            Self::Chord(inner) => inner.code(),
            Self::Untypable(inner) => inner.code(),
            Self::NoKeys => "keys.none",
            Self::TooLong { .. } => "keys.text-too-long",
            Self::Hold { .. } => "keys.hold-invalid",
            Self::Taken { .. } => "keys.taken",
            Self::StandsStill { .. } => "keys.not-heard",
            Self::Cut { source, .. } => source.code(),
        }
    }

    fn fault(&self) -> Fault {
        match self {
            Self::Chord(_) | Self::Untypable(_) | Self::NoKeys | Self::TooLong { .. } | Self::Hold { .. } => {
                Fault::Usage
            }
            Self::Taken { source, .. } => source.fault(),
            Self::StandsStill { .. } => Fault::State,
            Self::Cut { source, .. } => source.fault(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Chord(inner) => inner.hints(),
            Self::Untypable(inner) => inner.hints(),
            Self::NoKeys => vec!["name some, such as `ctrl-alt-delete` or `enter`".to_owned()],
            Self::TooLong { .. } => vec!["bring it to the guest as a file: on a disk, in a shared folder".to_owned()],
            Self::Taken { source, .. } => source.hints(),
            Self::StandsStill { vm, status: Status::Paused, .. } => {
                vec![format!("let it go on with `maqet resume {vm}`")]
            }
            Self::Hold { .. } | Self::StandsStill { .. } => Vec::new(),
            Self::Cut { source, .. } => source.hints(),
        }
    }
}
