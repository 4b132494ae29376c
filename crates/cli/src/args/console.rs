//! `maqet console`.

use std::str::FromStr;

use clap::Args;
use maqet::HumanDuration;

/// Attach to the serial console of a running VM
///
/// On a terminal, every key goes to the guest, Ctrl-C too, until Ctrl-] leaves; the VM runs on, and the terminal is as
/// it was. What the guest writes reaches the terminal as it is: sit down at guests that you trust. One can be attached at a time; others read along with `maqet logs VM --follow`, as all that the guest writes
/// is logged, whoever is attached.
///
/// Without a terminal, standard input goes to the guest byte by byte, and what the guest writes comes out; the end of
/// the input leaves the console open, until the VM stops or `--idle` or `--timeout` ends it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  maqet console web                                    sit down at it; Ctrl-] leaves
  maqet console web --tail 20                          … with what it said before
  printf 'uname -a\\n' | maqet console web --idle 2s    ask, and leave once it is silent
  maqet console web < /dev/null                        watch until the VM stops")]
pub(crate) struct ConsoleArgs {
    /// The VM: a name, an id, or the unique beginning of one
    pub(crate) vm: String,
    /// Show the last lines of its log first
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<usize>,
    /// The key that leaves, where standard input is a terminal: `^A` for Ctrl-A and so on, or `none`
    #[arg(long, value_name = "KEY", default_value = "^]")]
    pub(crate) escape: Escape,
    /// Leave after that time, with exit code 124
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<HumanDuration>,
    /// Once standard input has ended, leave when the guest has been silent that long
    #[arg(long, value_name = "DURATION")]
    pub(crate) idle: Option<HumanDuration>,
}

/// The key that leaves a console, as the byte a terminal sends for it.
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
            _ => Err("a key is `^` and a letter or one of `@[\\]^_`, as in `^A`, or `none`".to_owned()),
        }
    }
}

impl Escape {
    /// Returns the key as people call it.
    pub(crate) fn in_words(self) -> Option<String> {
        self.0.map(|byte| format!("Ctrl-{}", char::from(byte + b'@')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_escape_key_is_the_byte_of_a_terminal() {
        let byte = |text: &str| text.parse::<Escape>().unwrap().0;

        assert_eq!(
            [byte("^]"), byte("^a"), byte("^A"), byte("^@"), byte("none")],
            [Some(0x1d), Some(1), Some(1), Some(0), None]
        );
        assert_eq!(Escape(Some(0x1d)).in_words().as_deref(), Some("Ctrl-]"));
    }

    #[test]
    fn test_escape_nonsense_is_refused() {
        for text in ["", "^", "a", "^ab", "^1", "^ä", "None"] {
            assert!(text.parse::<Escape>().is_err(), "{text}");
        }
    }
}
