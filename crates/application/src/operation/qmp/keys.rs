//! `qmp keys` and `qmp type`: the guest's keyboard.

use derive_setters::Setters;
use maqet_domain::keyboard::{Chord, Layout};
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::input::keyboard::{KeyTiming, press_keys};
use crate::input::keyboard_error::KeyboardError;
use crate::limits::{KEY_HOLD, MAX_TYPED_BYTES, TYPING_INTERVAL};
use crate::{App, Error, HumanDuration};

/// Presses keys of a running VM, one chord after the other.
///
/// Returns once the last key is released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct QmpKeys {
    /// The VM: a name, an ID, or a unique prefix of an ID.
    pub vm: String,
    /// The chords, as in `ctrl-alt-delete` or `enter`.
    pub keys: Vec<String>,
    /// The pause after each key press and release; 50 ms by default.
    pub hold: Option<HumanDuration>,
    /// How long to wait for the keyboard, if it is in use, and for each reply of QEMU.
    pub timeout: Option<HumanDuration>,
}

/// Types a text into a running VM.
///
/// Nothing is typed unless all of it can be. Returns once the last key is released.
///
/// ```no_run
/// # async fn example(app: &maqet_application::App) -> Result<(), maqet_application::Error> {
/// use maqet_application::operation::{QmpKeys, QmpType};
/// use maqet_domain::keyboard::Layout;
///
/// app.run(QmpType::new("web", "Grüße").layout(Layout::De).enter(true)).await?;
/// app.run(QmpKeys::new("web", ["ctrl-alt-f2", "enter"])).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct QmpType {
    /// The VM: a name, an ID, or a unique prefix of an ID.
    pub vm: String,
    /// The text; line breaks are typed as Enter and tabs as Tab.
    pub text: String,
    /// The keyboard layout of the guest.
    #[serde(default)]
    pub layout: Layout,
    /// Whether to press Enter at the end.
    #[serde(default)]
    pub enter: bool,
    /// The pause after each key press and release; 10 ms by default.
    pub delay: Option<HumanDuration>,
    /// How long to wait for the keyboard, if it is in use, and for each reply of QEMU.
    pub timeout: Option<HumanDuration>,
}

/// The chords that were pressed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KeysPressed {
    /// The ID of the VM.
    pub id: String,
    /// The name of the VM.
    pub name: String,
    /// The chords, with QEMU's names of the keys.
    pub keys: Vec<Chord>,
    /// The chords as the caller wrote them.
    #[serde(skip)]
    pub given: Vec<String>,
}

/// The text that was typed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TextTyped {
    /// The ID of the VM.
    pub id: String,
    /// The name of the VM.
    pub name: String,
    /// The number of characters, with Enter at the end.
    pub characters: usize,
    /// The number of chords; a character may take two.
    pub chords: usize,
}

impl QmpKeys {
    /// Presses `keys`, one chord after the other.
    pub fn new<K: Into<String>>(vm: impl Into<String>, keys: impl IntoIterator<Item = K>) -> Self {
        Self { vm: vm.into(), keys: keys.into_iter().map(Into::into).collect(), hold: None, timeout: None }
    }
}

impl QmpType {
    /// Types `text` in the American layout.
    pub fn new(vm: impl Into<String>, text: impl Into<String>) -> Self {
        let layout = Layout::default();
        Self { vm: vm.into(), text: text.into(), layout, enter: false, delay: None, timeout: None }
    }
}

impl Operation for QmpKeys {
    const NAME: &'static str = "qmp.keys";
    const EFFECT: Effect = Effect::Acts;
    type Output = KeysPressed;

    async fn run(&self, app: &App) -> Result<Done<KeysPressed>, Error> {
        let keys: Vec<Chord> =
            self.keys.iter().map(|text| Chord::parse(text)).collect::<Result<_, _>>().map_err(KeyboardError::from)?;
        if keys.is_empty() {
            return Err(KeyboardError::KeysRequired.into());
        }
        let timing = KeyTiming::new(app, self.hold, KEY_HOLD, self.timeout)?;
        let entry = press_keys(app, &self.vm, Self::NAME, &keys, timing).await?;
        let (id, name) = (entry.id.to_string(), entry.name.to_string());
        Ok(Done::reading(KeysPressed { id, name, keys, given: self.keys.clone() }).about(entry.id))
    }
}

impl Operation for QmpType {
    const NAME: &'static str = "qmp.type";
    const EFFECT: Effect = Effect::Acts;
    type Output = TextTyped;

    async fn run(&self, app: &App) -> Result<Done<TextTyped>, Error> {
        if self.text.len() > MAX_TYPED_BYTES {
            return Err(KeyboardError::TextTooLarge { length: self.text.len() }.into());
        }
        let text = if self.enter { format!("{}\n", self.text) } else { self.text.clone() };
        let chords = self.layout.chords(&text).map_err(KeyboardError::from)?;
        let timing = KeyTiming::new(app, self.delay, TYPING_INTERVAL, self.timeout)?;
        let entry = press_keys(app, &self.vm, Self::NAME, &chords, timing).await?;
        // A carriage return and a line feed are one line break.
        let characters = text.replace("\r\n", "\n").chars().count();
        Ok(Done::reading(TextTyped {
            id: entry.id.to_string(),
            name: entry.name.to_string(),
            characters,
            chords: chords.len(),
        })
        .about(entry.id))
    }
}
