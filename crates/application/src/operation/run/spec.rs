//! What is copied, shared and kept.

use std::path::PathBuf;
use std::str::FromStr;

use maqet_domain::guest::copy::CopyFilter;
use maqet_domain::port::SourceRequest;
use serde::{Deserialize, Serialize};

use crate::throw_away::definition::Share;

/// Where shares are in the guest, unless their path is given.
const MOUNTS: &str = "/mnt";

/// What is copied between host and guest: the path of what is copied, and that of where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunCopy {
    /// What is copied.
    pub source: String,
    /// Where to: an existing directory, or a new name.
    pub target: String,
}

/// A directory of the host that the guest gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunShare {
    /// The directory of the host; absolute.
    pub path: PathBuf,
    /// Where it is in the guest.
    pub target: String,
    /// Whether the guest may not write to it.
    #[serde(default)]
    pub readonly: bool,
}

/// Whether a VM that was made for a command stays.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString,
    strum::VariantNames
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum KeepVm {
    /// It does not.
    #[default]
    Never,
    /// If the command did not exit with 0.
    Failed,
    /// It does.
    Always,
}

/// A text that is not what is to be copied or shared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid `{}`: expected {expected}", value.escape_debug())]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct InvalidRunSpec {
    pub value: String,
    pub expected: &'static str,
}

impl RunCopy {
    /// Reads what is copied into the guest: `SOURCE:TARGET`, of which the target has no colon.
    pub fn into_guest(text: &str) -> Result<Self, InvalidRunSpec> {
        Self::of(text, text.rsplit_once(':'), "`SOURCE:TARGET`, a path of the host and one of the guest")
    }

    /// Reads what is copied from the guest: `SOURCE:TARGET`, of which the source has no colon.
    pub fn from_guest(text: &str) -> Result<Self, InvalidRunSpec> {
        Self::of(text, text.split_once(':'), "`SOURCE:TARGET`, a path of the guest and one of the host")
    }

    /// Returns how what is copied into the guest is opened.
    pub(super) fn of_host(&self) -> SourceRequest {
        SourceRequest {
            path: self.source.clone().into(),
            is_recursive: true,
            keeps: false,
            is_verified: false,
            filter: CopyFilter::default(),
        }
    }

    fn of(text: &str, parts: Option<(&str, &str)>, expected: &'static str) -> Result<Self, InvalidRunSpec> {
        match parts {
            Some((source, target)) if !source.is_empty() && !target.is_empty() && !text.contains('\0') => {
                Ok(Self { source: source.to_owned(), target: target.to_owned() })
            }
            Some(_) | None => Err(InvalidRunSpec { value: text.to_owned(), expected }),
        }
    }
}

impl FromStr for RunShare {
    type Err = InvalidRunSpec;

    /// Reads `DIRECTORY[:PATH][:ro]`.
    fn from_str(text: &str) -> Result<Self, InvalidRunSpec> {
        let expected = "`DIRECTORY[:PATH][:ro]`, of which PATH is an absolute one in the guest";
        let invalid = || InvalidRunSpec { value: text.to_owned(), expected };
        let (rest, readonly) = match text.strip_suffix(":ro") {
            Some(rest) => (rest, true),
            None => (text.strip_suffix(":rw").unwrap_or(text), false),
        };
        let (path, target) = match rest.rsplit_once(':') {
            Some((path, target)) => (path, Some(target.to_owned())),
            None => (rest, None),
        };
        let name = || PathBuf::from(path).file_name().map(|name| name.to_string_lossy().into_owned());
        let target = target.or_else(|| Some(format!("{MOUNTS}/{}", name()?))).ok_or_else(invalid)?;
        let is_valid = !path.is_empty() && target.starts_with('/') && !text.contains('\0');
        if is_valid { Ok(Self { path: path.into(), target, readonly }) } else { Err(invalid()) }
    }
}

impl RunShare {
    /// Returns its entry of the definition.
    pub(super) fn entry(&self, index: usize) -> Share<'_> {
        Share { name: Self::tag(index), path: &self.path, readonly: self.readonly }
    }

    /// Returns the mount tag of the share at `index`.
    pub(super) fn tag(index: usize) -> String {
        format!("run-share-{index}")
    }

    /// Returns the command that mounts it in the guest.
    pub(super) fn mount(&self, index: usize) -> Vec<String> {
        let mode = if self.readonly { "ro" } else { "rw" };
        // The module may be built in, and `modprobe` missing.
        let script = "modprobe 9pnet_virtio 2>/dev/null; mkdir -p -- \"$2\" && mount -t 9p -o \"$3\" \"$1\" \"$2\"";
        let options = format!("trans=virtio,version=9p2000.L,msize=262144,{mode}");
        ["sh", "-c", script, "sh", &Self::tag(index), &self.target, &options].map(str::to_owned).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_copies_are_divided_at_the_colon_of_the_guest() {
        let copy = |source: &str, target: &str| RunCopy { source: source.into(), target: target.into() };

        assert_eq!(RunCopy::into_guest("a:b:/srv"), Ok(copy("a:b", "/srv")));
        assert_eq!(RunCopy::from_guest("/srv:a:b"), Ok(copy("/srv", "a:b")));
        for text in ["", "a", ":", "a:", ":b"] {
            assert!(RunCopy::into_guest(text).is_err() && RunCopy::from_guest(text).is_err(), "{text}");
        }
    }

    #[test]
    fn test_share_has_a_default_path_and_may_be_read_only() {
        let share = |text: &str| text.parse::<RunShare>().map(|share| (share.path, share.target, share.readonly));
        let of = |path: &str, target: &str, readonly| Ok((PathBuf::from(path), target.to_owned(), readonly));

        assert_eq!(share("/srv/src"), of("/srv/src", "/mnt/src", false));
        assert_eq!(share("src:ro"), of("src", "/mnt/src", true));
        assert_eq!(share("a:b:/work:ro"), of("a:b", "/work", true));
        assert_eq!(share("src:/work:rw"), of("src", "/work", false));
        for text in ["", "/", "src:work", ":/work", "src:"] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
