//! The copies of VMs from which a database is created again.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use maqet_adapters_postgres::{Identity, PostgresStore};
use maqet_domain::error::Cause;
use maqet_domain::port::{StoreError, StoreMaintenance, VmCopies, VmCopy, VmRepository};
use maqet_domain::vm::VmId;
use maqet_testkit::store::sample;
use uuid::Uuid;

use crate::support::{Database, names, url};

/// Copies of VMs, and the ID of their database.
struct Copies {
    all: Vec<VmCopy>,
    id: Mutex<Uuid>,
}

#[async_trait]
impl VmCopies for Copies {
    async fn write(&self, _: &VmCopy) -> Result<(), Cause> {
        Ok(())
    }

    async fn count(&self) -> usize {
        self.all.len()
    }

    async fn all(&self) -> Vec<VmCopy> {
        self.all.clone()
    }

    async fn of_other_databases(&self) -> Vec<VmCopy> {
        Vec::new()
    }

    async fn find(&self, id: &VmId) -> Option<VmCopy> {
        self.all.iter().find(|copy| copy.vm.entry.id == *id).cloned()
    }

    async fn remove(&self, _: &VmId) -> Result<(), Cause> {
        Ok(())
    }

    async fn hand_over(&self, _: &str, _: &str) -> Result<(), Cause> {
        Ok(())
    }

    async fn database_id(&self) -> Option<Uuid> {
        Some(*self.id.lock().unwrap())
    }

    async fn record_database_id(&self, id: Uuid) -> Result<(), Cause> {
        *self.id.lock().unwrap() = id;
        Ok(())
    }
}

/// A repair that ends half way must not leave a database that passes for the old one.
#[tokio::test]
async fn test_database_created_again_is_accepted_once_it_has_the_vms() {
    let database = Database::new();
    let vms = [sample::vm("db", 1), sample::vm("web", 2)];
    let all = vms.map(|vm| VmCopy::new(vm, Vec::new())).to_vec();
    let old = Uuid::from_u128(7);
    let copies = Arc::new(Copies { all: all.clone(), id: Mutex::new(old) });
    let known: Arc<dyn VmCopies> = Arc::clone(&copies) as _;
    let identity = Identity { host: "here".to_owned(), owner: "me".to_owned() };
    let open = || PostgresStore::new(url(&database.schema.url), identity.clone(), Some(Arc::clone(&known)));
    names(&database.open()).await.unwrap();
    database.query(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$; \
        CREATE TRIGGER refuse BEFORE INSERT ON vm FOR EACH ROW WHEN (NEW.name = 'web') EXECUTE FUNCTION refuse();",
    );

    let half = open().maintenance().repair(all.clone()).await;
    let id_after_half = *copies.id.lock().unwrap();
    let refused = open().list().await;
    database.query("DROP TRIGGER refuse ON vm");
    let report = open().maintenance().repair(all).await.unwrap();

    assert!(half.is_err(), "{half:?}");
    assert_eq!(id_after_half, old);
    assert!(matches!(refused, Err(StoreError::Replaced { vms: 1, .. })), "{refused:?}");
    assert_eq!(report.vms.len(), 1);
    assert_ne!(*copies.id.lock().unwrap(), old);
    assert_eq!(names(&open()).await.unwrap(), ["db", "web"]);
}
