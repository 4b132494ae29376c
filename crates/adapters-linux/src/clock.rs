//! The ports [`Clock`] and [`IdSource`].

use jiff::Timestamp;
use maqet_domain::guest::Nonce;
use maqet_domain::port::{Clock, IdSource, MoveId};
use maqet_domain::snapshot::SnapshotSetId;
use maqet_domain::vm::VmId;
use uuid::Uuid;

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// IDs from the random source of the kernel.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomIds;

impl IdSource for RandomIds {
    fn vm_id(&self) -> VmId {
        VmId::from_uuid(Uuid::new_v4())
    }

    fn snapshot_set_id(&self) -> SnapshotSetId {
        SnapshotSetId::from_uuid(Uuid::new_v4())
    }

    fn move_id(&self) -> MoveId {
        MoveId::new(Uuid::new_v4().into_bytes())
    }

    fn nonce(&self) -> Nonce {
        Nonce::new(Uuid::new_v4().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_random_ids_differ() {
        assert_ne!(RandomIds.vm_id(), RandomIds.vm_id());
    }
}
