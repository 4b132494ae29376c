//! `maqet console`.

use std::str::FromStr;

use clap::Args;
use maqet::HumanDuration;

use super::number;

/// Attach to the serial console of a running VM
///
/// On a terminal, every key is sent to the guest, including Ctrl-C, until Ctrl-] detaches; the VM keeps running. The
/// guest's output reaches the terminal unchanged, so attach only to guests that you trust. Only one client can be attached
/// at a time. To read along, use `maqet logs VM --follow`: all output is logged, whether or not a client is attached.
/// When the VM stops, the command says why, and its exit code is 4.
///
/// Without a terminal, standard input is sent to the guest, and its output is written to standard output. After the end of
/// the input, the console stays open until the VM stops, or until `--idle` or `--timeout` ends it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  maqet console web                                    attach; Ctrl-] detaches
  maqet console web --tail 20                          show the last 20 lines first
  printf 'uname -a\\n' | maqet console web --idle 2s    run a command, detach when its output ends
  maqet console web < /dev/null                        watch until the VM stops")]
pub(crate) struct ConsoleArgs {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub(crate) vm: String,
    /// Show the last N lines of the log first
    #[arg(long, value_name = "N", value_parser = number::<usize, 0>)]
    pub(crate) tail: Option<usize>,
    /// Key that detaches from a terminal: `^A` for Ctrl-A and so on, or `none`
    #[arg(long, value_name = "KEY", default_value = "^]")]
    pub(crate) escape: Escape,
    /// Timeout, after which the console is detached and the exit code is 124
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<HumanDuration>,
    /// Detach once the guest has been silent for this long after the end of standard input
    #[arg(long, value_name = "DURATION")]
    pub(crate) idle: Option<HumanDuration>,
}

/// The key that detaches from a console, as the byte that a terminal sends for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Escape(pub(crate) Option<u8>);

impl FromStr for Escape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Self(None));
        }
        match text.as_bytes() {
            // Ctrl takes three bits off a letter.
            [b'^', key] if (b'@'..=b'_').contains(&key.to_ascii_uppercase()) => {
                Ok(Self(Some(key.to_ascii_uppercase() - b'@')))
            }
            _ => Err("expected `none`, or `^` and a letter or one of `@[\\]^_`, as in `^A`".to_owned()),
        }
    }
}

impl Escape {
    /// Returns the name of the key, as in `Ctrl-]`.
    pub(crate) fn key_name(self) -> Option<String> {
        self.0.map(|byte| format!("Ctrl-{}", char::from(byte + b'@')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_escape_key_is_the_byte_a_terminal_sends() {
        let byte = |text: &str| text.parse::<Escape>().unwrap().0;

        assert_eq!(
            [byte("^]"), byte("^a"), byte("^A"), byte("^@"), byte("none")],
            [Some(0x1d), Some(1), Some(1), Some(0), None]
        );
        assert_eq!(Escape(Some(0x1d)).key_name().as_deref(), Some("Ctrl-]"));
    }

    #[test]
    fn test_escape_invalid_key_is_refused() {
        for text in ["", "^", "a", "^ab", "^1", "^ä", "None"] {
            assert!(text.parse::<Escape>().is_err(), "{text}");
        }
    }
}
