//! One switch of QEMU's command line: `-flag head,key=value`.

use std::fmt::Write;

/// A switch and its argument; the only way a value reaches QEMU's command line.
///
/// QEMU splits most arguments at commas, and reads a doubled comma as part of a value (`get_opt_value`, QEMU 7.2). A
/// single comma in a path would therefore add options. [`Switch::option`] doubles them; nothing else in maqet writes
/// `key=value`.
///
/// ```
/// use maqet_domain::qemu::Switch;
///
/// let drive = Switch::new("blockdev").option("driver", "file").option("filename", "/d/a,readonly=on");
/// assert_eq!(drive.argument().as_deref(), Some("driver=file,filename=/d/a,,readonly=on"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Switch {
    name: String,
    argument: Option<String>,
}

impl Switch {
    /// Makes `-name` without an argument.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), argument: None }
    }

    /// Makes `-name text` with an argument that is passed unchanged.
    ///
    /// For switches whose argument QEMU does not split (`-append`, `-kernel`), and for arguments that the user wrote as
    /// one string. Never for a value within an argument.
    pub fn verbatim(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), argument: Some(text.into()) }
    }

    /// Adds a part without a key, such as the driver of `-device`.
    #[must_use]
    pub fn head(self, text: &str) -> Self {
        self.part(&escaped(text))
    }

    /// Adds `key=value`, with the commas of the value doubled.
    #[must_use]
    pub fn option(self, key: &str, value: impl AsRef<str>) -> Self {
        let part = format!("{key}={}", escaped(value.as_ref()));
        self.part(&part)
    }

    /// Adds `key=on` or `key=off`.
    #[must_use]
    pub fn flag(self, key: &str, on: bool) -> Self {
        self.option(key, if on { "on" } else { "off" })
    }

    fn part(mut self, part: &str) -> Self {
        match &mut self.argument {
            Some(argument) => {
                // Writing to a `String` cannot fail.
                let _ = write!(argument, ",{part}");
            }
            None => self.argument = Some(part.to_owned()),
        }
        self
    }

    /// Returns the name without its hyphen.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the argument as QEMU gets it.
    pub fn argument(&self) -> Option<&str> {
        self.argument.as_deref()
    }

    /// Returns the one or two arguments on the command line.
    pub fn args(&self) -> impl Iterator<Item = String> + '_ {
        std::iter::once(format!("-{}", self.name)).chain(self.argument.clone())
    }
}

/// Parses `on` and `off`, and the synonyms that QEMU accepts on its command line.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "on" | "yes" | "true" => Some(true),
        "off" | "no" | "false" => Some(false),
        _ => None,
    }
}

fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_switch_without_argument_is_one_arg() {
        assert_eq!(Switch::new("S").args().collect::<Vec<_>>(), ["-S"]);
    }

    #[test]
    fn test_switch_head_and_options_are_joined_with_commas() {
        let switch = Switch::new("device").head("virtio-blk-pci").option("drive", "hdd").flag("share-rw", true);

        assert_eq!(switch.argument(), Some("virtio-blk-pci,drive=hdd,share-rw=on"));
    }

    #[test]
    fn test_switch_verbatim_text_keeps_its_commas() {
        let switch = Switch::verbatim("append", "root=/dev/vda a,b");

        assert_eq!(switch.argument(), Some("root=/dev/vda a,b"));
    }
}
