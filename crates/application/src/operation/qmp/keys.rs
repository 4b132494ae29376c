//! `qmp keys` and `qmp type`: the guest's keyboard.

use maqet_domain::keyboard::{Chord, Layout};
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::input::keyboard::Touch;
use crate::input::keyboard_error::KeyboardError;
use crate::limits::{KEY_HOLD, TYPED_BYTES, TYPING_EDGE};
use crate::{App, Error, HumanDuration};

/// Presses keys of a running VM, one chord after the other.
///
/// Returns once the last one is up again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QmpKeys {
    /// The VM: a name, an id, or the unique beginning of one.
    pub vm: String,
    /// The chords, as in `ctrl-alt-delete` or `enter`.
    pub keys: Vec<String>,
    /// The pause after each key that goes down or up; 50 ms if left out.
    #[serde(default)]
    pub hold: Option<HumanDuration>,
    /// How long to wait while somebody else types, and for each answer of QEMU.
    #[serde(default)]
    pub timeout: Option<HumanDuration>,
}

/// Types a text at a running VM.
///
/// Nothing is typed unless all of it can be. Returns once the last key is up again.
///
/// ```no_run
/// # async fn example(app: &maqet_application::App) -> Result<(), maqet_application::Error> {
/// use maqet_application::operation::{QmpKeys, QmpType};
/// use maqet_domain::keyboard::Layout;
///
/// app.run(QmpType { layout: Layout::De, enter: true, ..QmpType::new("web", "Grüße") }).await?;
/// app.run(QmpKeys::new("web", ["ctrl-alt-f2", "enter"])).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QmpType {
    /// The VM: a name, an id, or the unique beginning of one.
    pub vm: String,
    /// The text; its line breaks are typed as Enter and its tabs as Tab.
    pub text: String,
    /// The layout the guest believes its keyboard has.
    #[serde(default)]
    pub layout: Layout,
    /// Whether Enter is pressed at the end.
    #[serde(default)]
    pub enter: bool,
    /// The pause after each key that goes down or up; 10 ms if left out.
    #[serde(default)]
    pub delay: Option<HumanDuration>,
    /// How long to wait while somebody else types, and for each answer of QEMU.
    #[serde(default)]
    pub timeout: Option<HumanDuration>,
}

/// Chords that were pressed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeysPressed {
    /// The VM's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The chords, by QEMU's names of the keys.
    pub keys: Vec<Chord>,
}

/// A text that was typed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Typed {
    /// The VM's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// How many characters were typed; Enter at the end is one.
    pub characters: usize,
    /// How many chords that took: a character may need two.
    pub chords: usize,
}

impl QmpKeys {
    /// Presses `keys` as a person would.
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
            return Err(KeyboardError::NoKeys.into());
        }
        let touch = Touch::new(app, self.hold, KEY_HOLD, self.timeout)?;
        let entry = app.press_keys(&self.vm, Self::NAME, &keys, touch).await?;
        Ok(Done::reading(KeysPressed { id: entry.id.to_string(), name: entry.name.to_string(), keys }).about(entry.id))
    }
}

impl Operation for QmpType {
    const NAME: &'static str = "qmp.type";
    const EFFECT: Effect = Effect::Acts;
    type Output = Typed;

    async fn run(&self, app: &App) -> Result<Done<Typed>, Error> {
        if self.text.len() > TYPED_BYTES {
            return Err(KeyboardError::TooLong { length: self.text.len() }.into());
        }
        let text = if self.enter { format!("{}\n", self.text) } else { self.text.clone() };
        let chords = self.layout.chords(&text).map_err(KeyboardError::from)?;
        let touch = Touch::new(app, self.delay, TYPING_EDGE, self.timeout)?;
        let entry = app.press_keys(&self.vm, Self::NAME, &chords, touch).await?;
        // A carriage return and a line feed are one line break.
        let characters = text.replace("\r\n", "\n").chars().count();
        let (id, name) = (entry.id.to_string(), entry.name.to_string());
        Ok(Done::reading(Typed { id, name, characters, chords: chords.len() }))
    }
}
