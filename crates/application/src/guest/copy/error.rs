//! Why a copy failed.

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::guest::copy::{CopyFailure, InvalidCopyPlace};
use maqet_domain::port::HostFileError;
use maqet_domain::vm::VmName;

use crate::HumanDuration;

/// Why a copy between host and guest failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum CopyError {
    #[error(transparent)]
    Place(#[from] InvalidCopyPlace),
    #[error("neither `{first}` nor `{second}` is in a VM")]
    VmRequired { first: String, second: String },
    #[error("cannot copy from VM to VM")]
    TwoVms,
    /// Standard input or output is a single file.
    #[error("a directory cannot be copied by `-`")]
    StreamUnsupported { vm: String },
    #[error("standard input and output are not connected")]
    StreamRequired,
    #[error(transparent)]
    Host(#[from] HostFileError),
    #[error("{}", guest_message(*failure, path, vm))]
    Guest { vm: VmName, path: String, failure: CopyFailure },
    /// A program of the guest failed.
    #[error("cannot copy `{}` in VM `{vm}`: {reason}", path.escape_debug())]
    Failed { vm: VmName, path: String, reason: String },
    #[error("VM `{vm}` sent nothing that is a copy of `{}`", path.escape_debug())]
    Unexpected { vm: VmName, path: String },
    #[error("timed out after {after} while copying")]
    TimedOut { vm: VmName, after: HumanDuration },
    #[error("the copy was cut off: {reason}")]
    VmEnded { vm: VmName, reason: String },
}

fn guest_message(failure: CopyFailure, path: &str, vm: &VmName) -> String {
    let path = path.escape_debug();
    match failure {
        CopyFailure::NotFound => format!("`{path}` does not exist in VM `{vm}`"),
        CopyFailure::IsDirectory => format!("`{path}` in VM `{vm}` is a directory"),
        CopyFailure::NoParent => format!("the directory of `{path}` does not exist in VM `{vm}`"),
        CopyFailure::Conflict => format!("cannot replace what is at `{path}` in VM `{vm}`: it is of another kind"),
        CopyFailure::NoTar => format!("VM `{vm}` has no `tar`, which copies directories"),
        CopyFailure::NoChecksum => format!("VM `{vm}` has no `sha256sum`, which verifies copies"),
        CopyFailure::Incomplete => format!("not all of the content arrived in VM `{vm}`"),
        CopyFailure::Mismatch => format!("a checksum in VM `{vm}` differs from that of the source"),
        CopyFailure::Unsupported => format!("`{path}` in VM `{vm}` is neither a file nor a directory"),
    }
}

impl Explain for CopyError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Place(InvalidCopyPlace::NoVm { .. }) => {
                Explanation::new("copy.path-invalid", Fault::Usage).hint("begin a file name that has a colon with `./`")
            }
            Self::Place(_) => Explanation::new("copy.path-invalid", Fault::Usage),
            Self::VmRequired { .. } => {
                Explanation::new("copy.vm-required", Fault::Usage).hint("name the VM before a colon, as in `web:/srv`")
            }
            Self::TwoVms => Explanation::new("copy.vm-unsupported", Fault::Usage)
                .hint("copy to the host first, or pass a file on: `maqet cp a:/x - | maqet cp - b:/x`"),
            Self::StreamUnsupported { vm } => Explanation::new("copy.stream-unsupported", Fault::Usage).hint(format!(
                "pass an archive on: `maqet exec -i {vm} -w /srv -- tar x`, `maqet exec {vm} -- tar c /srv`"
            )),
            Self::StreamRequired => Explanation::new("copy.stream-required", Fault::Usage),
            Self::Host(inner) => inner.explain(),
            Self::Guest { failure, .. } => match failure {
                CopyFailure::NotFound => Explanation::new("copy.source-not-found", Fault::NotFound),
                CopyFailure::IsDirectory => Explanation::new("copy.recursive-required", Fault::Usage)
                    .hint("pass `-r` to copy it with all that is in it"),
                CopyFailure::NoParent => Explanation::new("copy.target-not-found", Fault::NotFound),
                CopyFailure::Conflict => Explanation::new("copy.target-conflict", Fault::State),
                CopyFailure::NoTar | CopyFailure::NoChecksum => {
                    Explanation::new("copy.program-not-found", Fault::State).hint("install it in the guest")
                }
                CopyFailure::Incomplete => Explanation::new("copy.transfer-interrupted", Fault::Failed),
                CopyFailure::Mismatch => Explanation::new("copy.content-corrupt", Fault::Failed),
                CopyFailure::Unsupported => Explanation::new("copy.source-unsupported", Fault::Usage),
            },
            Self::Failed { .. } => Explanation::new("copy.guest-failed", Fault::Failed),
            Self::Unexpected { .. } => Explanation::new("copy.archive-invalid", Fault::Failed),
            Self::TimedOut { .. } => Explanation::new("copy.transfer-timed-out", Fault::TimedOut),
            Self::VmEnded { .. } => Explanation::new("copy.vm-unavailable", Fault::Failed),
        }
    }
}
