//! The credentials of the guest: files that QEMU reads while it starts.

use super::{LaunchContext, PathNotUtf8, utf8};
use crate::qemu::Switch;

/// Returns the switch of each.
pub(super) fn switches(context: &LaunchContext) -> Result<Vec<Switch>, PathNotUtf8> {
    let numbered = context.credentials.iter().zip(0_u8..);
    numbered.map(|(credential, index)| Ok(credential.switch(utf8(&context.paths.credential(index))?))).collect()
}
