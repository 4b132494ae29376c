//! The layers of drives.

use maqet_domain::vm::{DriveLayers, Revision, VmId};

use super::{Rule, Statement, of_vm, optional_json};
use crate::error::Failure;
use crate::identity::Identity;

/// Replaces the layers of the drives of a VM.
pub(super) fn change(
    id: VmId,
    expected: Revision,
    identity: &Identity,
    layers: &[DriveLayers],
) -> Result<Statement, Failure> {
    let sql = "UPDATE vm SET revision = revision + 1, layers = $5 \
        WHERE id = $1 AND revision = $2 AND host = $3 AND owner = $4";
    let mut values = of_vm(id, expected, identity);
    values.push(optional_json(written(layers).as_ref())?);
    Ok(Statement::new(sql, values).under(Rule::ChangesVm(id)))
}

/// Returns the layers if there are any.
pub(super) fn written(layers: &[DriveLayers]) -> Option<&[DriveLayers]> {
    (!layers.is_empty()).then_some(layers)
}
