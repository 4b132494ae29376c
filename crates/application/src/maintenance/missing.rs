//! VMs that the database lacks although there are copies of them: it was restored from an older backup, or lost its tables
//! and was created again by another host.

use maqet_domain::port::{StoreError, VmCopy, VmPresence};
use maqet_domain::vm::VmId;

use super::{Area, Finding, Maintenance, Severity};

impl Maintenance {
    /// Returns the copies of VMs that the database neither holds nor records as removed; removes those of VMs that another
    /// host took over.
    pub(crate) async fn missing_vms(&self) -> Result<Vec<VmCopy>, StoreError> {
        let copies = self.copies.all().await;
        if copies.is_empty() {
            return Ok(copies);
        }
        let ids: Vec<VmId> = copies.iter().map(|copy| copy.vm.entry.id).collect();
        let presence = self.store.presence(ids).await?;
        for (copy, _) in copies.iter().zip(&presence).filter(|(_, presence)| **presence == VmPresence::TakenOver) {
            // Else it would be added again if its row went to another database, or was lost.
            let _tried_again_next_time = self.copies.remove(&copy.vm.entry.id).await;
        }
        let missing = copies.into_iter().zip(presence).filter(|(copy, presence)| copy.is_missing(*presence));
        Ok(missing.map(|(copy, _)| copy).collect())
    }
}

/// Reports a VM that the database lacks.
pub(super) fn missing_finding(copy: &VmCopy) -> Finding {
    let message = "the database does not have this VM, but a copy of its definition exists";
    Finding::new(Severity::Problem, Area::Vm, copy.vm.entry.name.as_str(), message)
        .hint("run `maqet doctor --fix` to add it from the copy; `maqet rm` removes it for good")
        .fixable()
}

/// Reports a VM that cannot be added because its name is in use.
pub(super) fn name_in_use_finding(copy: &VmCopy) -> Finding {
    let name = copy.vm.entry.name.as_str();
    let message =
        format!("a copy of VM `{}` cannot be added to the database: another VM has its name", copy.vm.entry.id);
    Finding::new(Severity::Problem, Area::Vm, name, message).hint(format!(
        "remove the VM that has the name now with `maqet rm {name}`, which keeps its disks, and run `maqet doctor --fix` \
         again"
    ))
}
