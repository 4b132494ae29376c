//! `keys` and `type`, which are short for `qmp keys` and `qmp type`.

use std::path::PathBuf;

use clap::Args;
use maqet::HumanDuration;
use maqet::domain::keyboard::Layout;

/// Press keys of a running VM
///
/// `maqet keys` is short for `maqet qmp keys`. Each KEY is a key or a chord, such as enter, f2, a, ctrl-alt-delete; they are pressed one after the other. The keys
/// of a chord go down in the order in which they are written and come up the other way round; QEMU releases them even
/// if maqet is interrupted or killed. Keys are called as QEMU calls them (`QKeyCode`: ret, spc, pgup …) or by
/// other usual names (enter, space, pageup, super …), and are where the American layout has them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  maqet keys web ctrl-alt-delete
  maqet keys web down down enter
  maqet keys web --hold 3s shift")]
pub(crate) struct KeysArgs {
    /// Name, id, or unique beginning of an id
    pub(crate) vm: String,
    /// Keys and chords
    #[arg(value_name = "KEY", required = true)]
    pub(crate) chords: Vec<String>,
    /// How long to wait after each key that goes down or up [default: 50ms]
    #[arg(long, value_name = "DURATION")]
    pub(crate) hold: Option<HumanDuration>,
    /// How long to wait while somebody else types, and for QEMU [default: `timeouts.qmp`, else 30s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<HumanDuration>,
}

/// Type a text at a running VM
///
/// `maqet type` is short for `maqet qmp type`. Line breaks are typed as Enter and tabs as Tab. If the layout has no key for a character, nothing is typed. A guest
/// that is busy loses keys, as it does with people: wait until it is ready, and for one that is slow raise --delay.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  maqet type web root --enter
  maqet type web --layout de 'Grüße'
  maqet type web --file script.sh
  maqet type web -- '-v'
  pass show web | maqet type web -")]
pub(crate) struct TypeArgs {
    /// Name, id, or unique beginning of an id
    pub(crate) vm: String,
    /// The text, or `-` for standard input
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    pub(crate) text: Option<String>,
    /// Type what is in a file, or `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The layout the guest believes its keyboard has: us, uk, de or fr
    #[arg(long, value_name = "LAYOUT", default_value_t)]
    pub(crate) layout: Layout,
    /// Press Enter at the end
    #[arg(long)]
    pub(crate) enter: bool,
    /// How long to wait after each key that goes down or up [default: 10ms]
    #[arg(long, value_name = "DURATION")]
    pub(crate) delay: Option<HumanDuration>,
    /// How long to wait while somebody else types, and for QEMU [default: `timeouts.qmp`, else 30s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<HumanDuration>,
}
