//! The version of a QEMU binary.

use std::fmt;
use std::str::FromStr;

use serde_with::{DeserializeFromStr, SerializeDisplay};

/// A version of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, DeserializeFromStr, SerializeDisplay)]
pub struct QemuVersion {
    /// The major version.
    pub major: u16,
    /// The minor version.
    pub minor: u16,
    /// The patch level.
    pub micro: u16,
}

/// A text that is not a version of QEMU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid QEMU version `{value}`")]
#[expect(missing_docs, reason = "the message names the field")]
pub struct InvalidVersion {
    pub value: String,
}

impl QemuVersion {
    /// Reads the version from the first line of `qemu-system-… --version` or `qemu-img --version`.
    ///
    /// ```
    /// use maqet_domain::qemu::QemuVersion;
    ///
    /// let printed = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)";
    /// assert_eq!(QemuVersion::from_output(printed).unwrap().to_string(), "7.2.22");
    /// assert!(QemuVersion::from_output("bash, version 5.2").is_none());
    /// ```
    pub fn from_output(output: &str) -> Option<Self> {
        let first = output.lines().next()?;
        let rest = first.strip_prefix("QEMU emulator version ").or_else(|| first.strip_prefix("qemu-img version "))?;
        rest.split_whitespace().next()?.parse().ok()
    }
}

impl FromStr for QemuVersion {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidVersion { value: text.to_owned() };
        // A development version such as `9.2.50-rc1` counts as the part before its hyphen.
        let numeric = text.split('-').next().unwrap_or_default();
        let mut numbers = numeric.splitn(3, '.').map(str::parse::<u16>);
        let mut next = || numbers.next().and_then(Result::ok).ok_or_else(invalid);
        Ok(Self { major: next()?, minor: next()?, micro: next()? })
    }
}

impl fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}
