//! Why keys were not pressed.

use std::time::Duration;

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::keyboard::{InvalidChord, UnsupportedCharacter};
use maqet_domain::port::LockError;
use maqet_domain::qmp::QmpError;
use maqet_domain::vm::{Status, VmName};

use crate::Error;
use crate::limits::{MAX_KEY_INTERVAL, MAX_TYPED_BYTES};

/// Why keys were not pressed, or not all of them.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum KeyboardError {
    #[error(transparent)]
    Chord(#[from] InvalidChord),
    #[error(transparent)]
    UnsupportedCharacter(#[from] UnsupportedCharacter),
    #[error("no keys given")]
    KeysRequired,
    #[error("text of {length} bytes is too large: the limit is {MAX_TYPED_BYTES}")]
    TextTooLarge { length: usize },
    #[error("invalid key interval {interval:?}: expected 1ms to {MAX_KEY_INTERVAL:?}")]
    InvalidInterval { interval: Duration },
    #[error("the keyboard of VM `{vm}` is in use")]
    InUse { vm: VmName, source: LockError },
    #[error("VM `{vm}` has no keyboard")]
    NotFound { vm: VmName },
    #[error("cannot send keys: VM `{vm}` is {status}{}", progress(*pressed, *total))]
    Unavailable { vm: VmName, status: Status, pressed: usize, total: usize },
    #[error("cannot send keys to VM `{vm}`{}", progress(*pressed, *total))]
    Failed { vm: VmName, pressed: usize, total: usize, source: QmpError },
}

fn progress(pressed: usize, total: usize) -> String {
    if pressed == 0 { String::new() } else { format!(" ({pressed} of {total} sent)") }
}

impl Error {
    /// Returns the message for logs, without values: a text to type may be a password, and so may an unknown key.
    pub(crate) fn for_logs(&self) -> String {
        match self {
            Self::Keyboard(KeyboardError::UnsupportedCharacter(_)) => "unsupported character".to_owned(),
            Self::Keyboard(KeyboardError::Chord(_)) => "invalid key".to_owned(),
            Self::Command { error, .. } => error.for_logs(),
            other => other.to_string(),
        }
    }
}

impl Explain for KeyboardError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Chord(source) => source.explain(),
            Self::UnsupportedCharacter(source) => source.explain(),
            Self::KeysRequired => {
                Explanation::new("keys.required", Fault::Usage).hint("pass keys such as `ctrl-alt-delete` or `enter`")
            }
            Self::TextTooLarge { .. } => Explanation::new("keys.text-too-large", Fault::Usage)
                .hint("pass it to the guest as a file, on a disk or in a shared directory"),
            Self::InvalidInterval { .. } => Explanation::new("keys.interval-invalid", Fault::Usage),
            Self::InUse { source, .. } => Explanation { code: "keys.in-use", ..source.explain() },
            Self::NotFound { .. } => Explanation::new("keys.keyboard-not-found", Fault::State)
                .hint("add one to its definition, such as `device: usb-kbd` or `device: virtio-keyboard-pci` under `arguments`"),
            Self::Unavailable { vm, status: Status::Paused, .. } => {
                Explanation::new("keys.unavailable", Fault::State).hint(format!("resume it with `maqet resume {vm}`"))
            }
            Self::Unavailable { .. } => Explanation::new("keys.unavailable", Fault::State),
            Self::Failed { source, .. } => source.explain(),
        }
    }
}
