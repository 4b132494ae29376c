//! `maqet keys` and `maqet type`, which are short for `maqet qmp keys` and `maqet qmp type`.

use std::path::PathBuf;

use clap::Args;
use maqet::HumanDuration;
use maqet::domain::keyboard::Layout;

/// Send key presses to a running VM
///
/// `maqet keys` is short for `maqet qmp keys`. Each KEY is a key or a chord, such as enter, f2, a or ctrl-alt-delete;
/// they are pressed one after the other. The keys of a chord are pressed in the given order and released in reverse;
/// QEMU releases them even if maqet is interrupted or killed. Keys have QEMU's names (`QKeyCode`: ret, spc, pgup …) or
/// common ones (enter, space, pageup, super …), and refer to the US layout.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  maqet keys web ctrl-alt-delete
  maqet keys web down down enter
  maqet keys web --hold 3s shift")]
pub(crate) struct KeysArgs {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub(crate) vm: String,
    /// Keys and chords
    #[arg(value_name = "KEY", required = true)]
    pub(crate) chords: Vec<String>,
    /// Delay after each key press and release [default: 50ms]
    #[arg(long, value_name = "DURATION")]
    pub(crate) hold: Option<HumanDuration>,
    /// Timeout for the keyboard to be free, and for each reply of QEMU [default: `timeouts.qmp`, else 30s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<HumanDuration>,
}

/// Type text into a running VM
///
/// `maqet type` is short for `maqet qmp type`. Line breaks are typed as Enter and tabs as Tab. If the layout has no key
/// for a character, nothing is typed. A busy guest may lose keys: wait until it is ready, and increase --delay for a slow one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  maqet type web root --enter
  maqet type web --layout de 'Grüße'
  maqet type web --file script.sh
  maqet type web -- '-v'
  pass show web | maqet type web -")]
pub(crate) struct TypeArgs {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub(crate) vm: String,
    /// Text to type, or `-` for standard input
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    pub(crate) text: Option<String>,
    /// Type the text in a file, or `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Keyboard layout of the guest: us, uk, de or fr
    #[arg(long, value_name = "LAYOUT", default_value_t)]
    pub(crate) layout: Layout,
    /// Press Enter at the end
    #[arg(long)]
    pub(crate) enter: bool,
    /// Delay after each key press and release [default: 10ms]
    #[arg(long, value_name = "DURATION")]
    pub(crate) delay: Option<HumanDuration>,
    /// Timeout for the keyboard to be free, and for each reply of QEMU [default: `timeouts.qmp`, else 30s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<HumanDuration>,
}
