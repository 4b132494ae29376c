//! Stores by the scheme of their URL.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use maqet_adapters_sqlite::{Options, SqliteStore};
use maqet_domain::port::{RepairReport, Store, StoreError, StoreHealth, StoreMaintenance, VmCopies, VmCopy};
use maqet_domain::registry::DuplicateName;
use maqet_domain::text::similar;
use maqet_fault_points::FaultPoints;

use crate::OpenError;

/// An open store.
pub struct StoreSetup {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) maintenance: Option<Arc<dyn StoreMaintenance>>,
}

impl StoreSetup {
    /// Uses a store that `doctor` can neither back up nor repair.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, maintenance: None }
    }

    /// Checks, backs up and repairs the store with `maintenance`.
    #[must_use]
    pub fn with_maintenance(self, maintenance: Arc<dyn StoreMaintenance>) -> Self {
        Self { maintenance: Some(maintenance), ..self }
    }
}

/// Opens the stores of a scheme.
#[async_trait]
pub trait StoreFactory: Send + Sync {
    /// Opens the store at `address`, the part of the URL after the scheme, without the slashes `//`.
    ///
    /// A store should not create an empty database while there are `copies` of VMs, but fail with [`StoreError::NotFound`].
    async fn open(&self, address: &str, copies: Arc<dyn VmCopies>) -> Result<StoreSetup, StoreError>;
}

/// Opens SQLite files at their first use, so that commands which need no store work where it cannot be opened.
struct SqliteFactory {
    faults: FaultPoints,
}

#[async_trait]
impl StoreFactory for SqliteFactory {
    async fn open(&self, address: &str, copies: Arc<dyn VmCopies>) -> Result<StoreSetup, StoreError> {
        let options = Options { faults: self.faults.clone(), ..Options::default() };
        let store = SqliteStore::new(address, options).with_copies(copies);
        let maintenance = Arc::new(store.maintenance());
        Ok(StoreSetup::new(Arc::new(store)).with_maintenance(maintenance))
    }
}

/// The stores that can be opened, by the scheme of their URL.
#[derive(Clone)]
pub struct StoreFactories {
    factories: Vec<(String, Arc<dyn StoreFactory>)>,
}

/// A database URL with a supported scheme.
pub(crate) struct StoreUrl {
    /// The URL in a normal form, without secrets; it identifies the database in directories that several share.
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) factory: Arc<dyn StoreFactory>,
}

impl Default for StoreFactories {
    /// Supports `sqlite:PATH`; a plain path means the same.
    fn default() -> Self {
        Self::builtin(&FaultPoints::default())
    }
}

impl StoreFactories {
    /// Supports the same as [`default`](Self::default); `faults` receives the fault points.
    pub(crate) fn builtin(faults: &FaultPoints) -> Self {
        let sqlite = Arc::new(SqliteFactory { faults: faults.clone() });
        Self { factories: vec![("sqlite".to_owned(), sqlite)] }
    }

    /// Supports no scheme.
    pub const fn empty() -> Self {
        Self { factories: Vec::new() }
    }

    /// Adds a scheme; it must be new.
    pub fn register(&mut self, scheme: &str, factory: Arc<dyn StoreFactory>) -> Result<(), DuplicateName> {
        if self.factories.iter().any(|(known, _)| known == scheme) {
            return Err(DuplicateName { kind: "store scheme", name: scheme.to_owned() });
        }
        self.factories.push((scheme.to_owned(), factory));
        Ok(())
    }

    /// Finds the factory for `url`.
    pub(crate) fn find(&self, url: &str) -> Result<StoreUrl, OpenError> {
        let (scheme, rest) = match url.split_once(':') {
            Some((scheme, rest)) if !scheme.is_empty() && !scheme.contains('/') => (scheme, rest),
            Some(_) | None => ("sqlite", url),
        };
        let address = rest.strip_prefix("//").unwrap_or(rest).to_owned();
        if let Some((_, factory)) = self.factories.iter().find(|(known, _)| known == scheme) {
            let name = format!("{scheme}:{}", normal_form(scheme, &address));
            return Ok(StoreUrl { name, address, factory: Arc::clone(factory) });
        }
        let known: Vec<String> = self.factories.iter().map(|(known, _)| known.clone()).collect();
        let similar = similar(scheme, known.iter().map(String::as_str));
        Err(OpenError::UnknownStore { url: url.to_owned(), similar, known })
    }
}

/// Returns a path as an absolute one, and any other address without the user and the password before `@`.
fn normal_form(scheme: &str, address: &str) -> String {
    if scheme == "sqlite" {
        let absolute = std::path::absolute(address);
        return absolute.map_or_else(|_| address.to_owned(), |path| path.to_string_lossy().into_owned());
    }
    address.rsplit_once('@').map_or(address, |(_, server)| server).to_owned()
}

/// The maintenance of a store that has none: it can only be read.
pub(crate) struct NoMaintenance {
    name: String,
    store: Arc<dyn Store>,
}

impl NoMaintenance {
    pub(crate) const fn new(name: String, store: Arc<dyn Store>) -> Self {
        Self { name, store }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("not supported by this kind of database")]
struct Unsupported;

#[async_trait]
impl StoreMaintenance for NoMaintenance {
    fn location(&self) -> String {
        self.name.clone()
    }

    async fn check(&self) -> Result<Option<StoreHealth>, StoreError> {
        let vms = self.store.list().await?.len() as u64;
        let journal = String::new();
        Ok(Some(StoreHealth { schema: 0, newest_schema: 0, journal, vms, bytes: 0, unwritable: None }))
    }

    async fn backup(&self) -> Result<PathBuf, StoreError> {
        Err(StoreError::Failed { action: "back up the database", source: Unsupported.into() })
    }

    async fn newest_backup(&self) -> Option<PathBuf> {
        None
    }

    async fn repair(&self, _: Vec<VmCopy>) -> Result<RepairReport, StoreError> {
        Err(StoreError::Failed { action: "repair the database", source: Unsupported.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: &str) {
        let mut factories = StoreFactories::default();
        factories.register("postgres", sqlite()).unwrap();

        assert_eq!(factories.find(url).unwrap().name, expected);
    }

    fn sqlite() -> Arc<SqliteFactory> {
        Arc::new(SqliteFactory { faults: FaultPoints::default() })
    }

    #[test]
    fn test_register_duplicate_scheme_is_an_error() {
        let refused = StoreFactories::default().register("sqlite", sqlite());

        assert_eq!(refused, Err(DuplicateName { kind: "store scheme", name: "sqlite".to_owned() }));
    }

    #[test]
    fn test_store_name_is_normalised_and_without_secrets() {
        check("/d/maqet.db", "sqlite:/d/maqet.db");
        check("sqlite:/d/maqet.db", "sqlite:/d/maqet.db");
        check("sqlite:///d/maqet.db", "sqlite:/d/maqet.db");
        check("postgres://me:p@ss@db/maqet", "postgres:db/maqet");
    }
}
