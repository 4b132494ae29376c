//! Gives a VM of another identity to this one, with its storage records.

use maqet_domain::change::Change;
use maqet_domain::vm::VmId;

use super::{Rule, Statement, of_vm, run_values};
use crate::column::Value;
use crate::error::Failure;
use crate::identity::Identity;

const TAKE: &str = "UPDATE vm SET revision = revision + 1, boot = $5, started_at = $6, phase = $7, \
    end_reason = $8, ended_at = $9, pid = $10, start_ticks = $11, host_boot = $12, pid_namespace = $13, \
    sockets = $14, records = $15, forwards = $16, host = $17, owner = $18 \
    WHERE id = $1 AND revision = $2 AND host = $3 AND owner = $4";

/// Records of images of removed VMs, whose paths others use by now.
const FORGET: &str = "DELETE FROM storage AS own USING storage AS taken \
    WHERE own.host = $2 AND own.owner = $3 AND own.vm IS NULL \
    AND taken.vm = $1 AND sha256(own.path) = sha256(taken.path)";

const TAKE_STORAGE: &str = "UPDATE storage SET host = $2, owner = $3 WHERE vm = $1 AND host = $4 AND owner = $5";

/// Adds the statements of a change; returns the VM, and whose it was.
pub(super) fn add(
    change: &Change,
    identity: &Identity,
    statements: &mut Vec<Statement>,
) -> Result<Option<(VmId, Identity)>, Failure> {
    let Change::VmTakenOver { id, expected, name, host, owner, run } = change else { return Ok(None) };
    let from = Identity { host: host.clone(), owner: owner.clone() };
    let mut values = of_vm(*id, *expected, &from);
    values.extend(run_values(run.as_ref())?);
    let to = [Value::text(&identity.host), Value::text(&identity.owner)];
    values.extend(to.clone());
    statements.push(Statement::new(TAKE, values).under(Rule::TakesVm(*id, name.clone())));
    let mut of_storage = vec![Value::id(*id)];
    of_storage.extend(to);
    statements.push(Statement::new(FORGET, of_storage.clone()));
    of_storage.extend([Value::text(host), Value::text(owner)]);
    statements.push(Statement::new(TAKE_STORAGE, of_storage).under(Rule::TakesStorage(*id)));
    Ok(Some((*id, from)))
}
