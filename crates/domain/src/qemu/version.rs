//! The version of a QEMU binary.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;
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

impl QemuVersion {
    /// Parses a reply to `query-version`.
    pub fn from_reply(reply: &Value) -> Option<Self> {
        let number = |name: &str| reply["qemu"][name].as_u64().and_then(|number| u16::try_from(number).ok());
        Some(Self { major: number("major")?, minor: number("minor")?, micro: number("micro")? })
    }
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

/// Returns the build that the first line of `qemu-system-… --version` names, as `query-version` reports it (`package`);
/// empty if it names none.
///
/// ```
/// use maqet_domain::qemu::package_from_output;
///
/// let printed = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright (c) …";
/// assert_eq!(package_from_output(printed), "Debian 1:7.2+dfsg-7");
/// assert_eq!(package_from_output("QEMU emulator version 9.2.0"), "");
/// ```
pub fn package_from_output(output: &str) -> &str {
    let first = output.lines().next().unwrap_or_default().trim_end();
    first.split_once(" (").and_then(|(_, package)| package.strip_suffix(')')).unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_version_from_reply_is_that_of_qemu() {
        let reply = serde_json::json!({ "qemu": { "micro": 22, "minor": 2, "major": 7 }, "package": "Debian" });

        assert_eq!(QemuVersion::from_reply(&reply), Some("7.2.22".parse().unwrap()));
        assert_eq!(QemuVersion::from_reply(&serde_json::json!([])), None);
    }
}
