//! Stores by the scheme of their URL.

mod other;
#[cfg(feature = "postgres")]
mod postgres;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use maqet_adapters_sqlite::{Options, SqliteStore, SqliteTransfer};
use maqet_domain::event::kind;
use maqet_domain::history::Actor;
use maqet_domain::port::{
    Host, RepairReport, Store, StoreError, StoreHealth, StoreMaintenance, StoreTransfer, VmCopies, VmCopy, VmPresence,
};
use maqet_domain::registry::DuplicateName;
use maqet_domain::text::similar;
use maqet_domain::vm::VmId;
use maqet_fault_points::FaultPoints;

pub(crate) use self::other::OtherDatabases;
use crate::{Environment, OpenError};

/// An open store.
pub struct StoreSetup {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) maintenance: Option<Arc<dyn StoreMaintenance>>,
    pub(crate) transfer: Option<Arc<dyn StoreTransfer>>,
}

impl StoreSetup {
    /// Uses a store that `doctor` can neither back up nor repair, and that is not moved.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, maintenance: None, transfer: None }
    }

    /// Checks, backs up and repairs the store with `maintenance`.
    #[must_use]
    pub fn with_maintenance(self, maintenance: Arc<dyn StoreMaintenance>) -> Self {
        Self { maintenance: Some(maintenance), ..self }
    }

    /// Moves what the store holds with `transfer`.
    #[must_use]
    pub fn with_transfer(self, transfer: Arc<dyn StoreTransfer>) -> Self {
        Self { transfer: Some(transfer), ..self }
    }
}

/// What a factory may use to open a store.
#[derive(Clone)]
#[non_exhaustive]
pub struct StoreContext {
    /// The caller, determined when it is first needed.
    pub(crate) caller: Arc<dyn Host>,
    /// The environment, with the variables of database clients.
    pub environment: Environment,
    /// Copies of the VMs that the database held, if they are known yet: a store should not create an empty database while
    /// there are any, but fail with [`StoreError::NotFound`].
    pub copies: Option<Arc<dyn VmCopies>>,
}

impl StoreContext {
    /// Returns the name of this host, and that of the user, in a store that several share.
    pub fn host_and_owner(&self) -> (String, String) {
        let Actor { user, host, .. } = self.caller.actor();
        (host, user)
    }
}

/// Opens the stores of a scheme.
#[async_trait]
pub trait StoreFactory: Send + Sync {
    /// Returns the normal form of `address` without secrets, which identifies the database in directories that several
    /// share; by default `address` without what precedes an `@` and what follows a `?`.
    fn name(&self, address: &str, _context: &StoreContext) -> Result<String, StoreError> {
        Ok(server_and_query(address).0.to_owned())
    }

    /// Opens the store at `address`, the part of the URL after the scheme, without the slashes `//`.
    async fn open(&self, address: &str, context: StoreContext) -> Result<StoreSetup, StoreError>;
}

/// Opens SQLite files at their first use, so that commands which need no store work where it cannot be opened.
struct SqliteFactory {
    faults: FaultPoints,
}

#[async_trait]
impl StoreFactory for SqliteFactory {
    fn name(&self, address: &str, _: &StoreContext) -> Result<String, StoreError> {
        let absolute = std::path::absolute(address);
        Ok(absolute.map_or_else(|_| address.to_owned(), |path| path.to_string_lossy().into_owned()))
    }

    async fn open(&self, address: &str, context: StoreContext) -> Result<StoreSetup, StoreError> {
        let options = Options { faults: self.faults.clone(), ..Options::default() };
        let store = SqliteStore::new(address, options);
        let store = match context.copies {
            Some(copies) => store.with_copies(copies),
            None => store,
        };
        let maintenance = Arc::new(store.maintenance());
        let transfer = Arc::new(SqliteTransfer::new(address, self.faults.clone()));
        Ok(StoreSetup::new(Arc::new(store)).with_maintenance(maintenance).with_transfer(transfer))
    }
}

/// The stores that can be opened, by the scheme of their URL.
#[derive(Clone)]
pub struct StoreFactories {
    factories: Vec<(String, Arc<dyn StoreFactory>)>,
}

/// A database URL with a supported scheme.
pub(crate) struct StoreUrl {
    scheme: String,
    address: String,
    factory: Arc<dyn StoreFactory>,
}

impl StoreUrl {
    /// Returns the URL in a normal form, without secrets; it identifies the database in directories that several share.
    pub(crate) fn name(&self, context: &StoreContext) -> Result<String, StoreError> {
        Ok(format!("{}:{}", self.scheme, self.factory.name(&self.address, context)?))
    }

    /// Opens the store.
    pub(crate) async fn open(&self, context: StoreContext) -> Result<StoreSetup, StoreError> {
        self.factory.open(&self.address, context).await
    }
}

impl Default for StoreFactories {
    /// Supports `sqlite:PATH`, which a plain path means as well, and `postgres://…` with the feature `postgres`.
    fn default() -> Self {
        Self::builtin(&FaultPoints::default())
    }
}

impl StoreFactories {
    /// Supports the same as [`default`](Self::default); `faults` receives the fault points.
    pub(crate) fn builtin(faults: &FaultPoints) -> Self {
        let factories: Vec<(String, Arc<dyn StoreFactory>)> = vec![
            ("sqlite".to_owned(), Arc::new(SqliteFactory { faults: faults.clone() })),
            #[cfg(feature = "postgres")]
            ("postgres".to_owned(), Arc::new(postgres::PostgresFactory { faults: faults.clone() })),
        ];
        Self { factories }
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
            // Both are the scheme of libpq.
            Some(("postgresql", rest)) => ("postgres", rest),
            Some((scheme, rest)) if !scheme.is_empty() && !scheme.contains('/') => (scheme, rest),
            Some(_) | None => ("sqlite", url),
        };
        if let Some((_, factory)) = self.factories.iter().find(|(known, _)| known == scheme) {
            let address = rest.strip_prefix("//").unwrap_or(rest).to_owned();
            return Ok(StoreUrl { scheme: scheme.to_owned(), address, factory: Arc::clone(factory) });
        }
        let known: Vec<String> = self.factories.iter().map(|(known, _)| known.clone()).collect();
        let similar = similar(scheme, known.iter().map(String::as_str));
        Err(OpenError::UnknownStore { url: without_secrets(url), similar, known })
    }
}

/// The parameters of a URL that are shown.
const SHOWN_PARAMETERS: [&str; 12] = [
    "host", "hostaddr", "port", "dbname", "options", "application_name", "connect_timeout", "passfile", "sslmode",
    "sslrootcert", "sslcert", "sslkey",
];

/// Returns a URL without the user and the password before `@`, and without a password among its parameters.
pub(crate) fn without_secrets(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("//") else { return url.to_owned() };
    if scheme.starts_with("sqlite") {
        return url.to_owned();
    }
    let (address, query) = server_and_query(rest);
    let is_shown = |parameter: &&str| SHOWN_PARAMETERS.contains(&parameter.split('=').next().unwrap_or_default());
    let shown: Vec<&str> = query.split('&').filter(is_shown).collect();
    let query = if shown.is_empty() { String::new() } else { format!("?{}", shown.join("&")) };
    format!("{scheme}//{address}{query}")
}

/// Splits an address into what follows the user and the password, and its parameters.
///
/// A password may contain `@`, `/` and `?`, although these are to be encoded: it ends at the last `@`. Only a URL that has no
/// colon before its parameters has no password there, so that an `@` is one of a value.
fn server_and_query(address: &str) -> (&str, &str) {
    let split = |address| match str::split_once(address, '?') {
        Some((server, query)) => (server, query),
        None => (address, ""),
    };
    match split(address) {
        (server, query) if !server.contains([':', '@']) => (server, query),
        _ => split(address.rsplit_once('@').map_or(address, |(_, server)| server)),
    }
}

/// How many events are read at a time.
const EVENTS_AT_A_TIME: u32 = 1_000;

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

    async fn backup_to(&self, _: PathBuf) -> Result<(), StoreError> {
        Err(StoreError::Failed { action: "back up the database", source: Unsupported.into() })
    }

    async fn newest_backup(&self) -> Option<PathBuf> {
        None
    }

    async fn repair(&self, _: Vec<VmCopy>) -> Result<RepairReport, StoreError> {
        Err(StoreError::Failed { action: "repair the database", source: Unsupported.into() })
    }

    async fn presence(&self, vms: Vec<VmId>) -> Result<Vec<VmPresence>, StoreError> {
        let mut removals = HashMap::new();
        let mut last = 0;
        loop {
            let events = self.store.events_after(last, EVENTS_AT_A_TIME).await?;
            let Some(newest) = events.last() else { break };
            last = newest.sequence;
            let removed = events.into_iter().filter(|recorded| recorded.event.kind == kind::VM_REMOVED);
            removals.extend(removed.filter_map(|recorded| Some((recorded.event.vm?, recorded.event.at))));
        }
        let mut found = Vec::with_capacity(vms.len());
        for id in vms {
            let removed = || removals.get(&id).map_or(VmPresence::Unknown, |at| VmPresence::Removed { at: *at });
            found.push(if self.store.by_id(&id).await?.is_some() { VmPresence::Held } else { removed() });
        }
        Ok(found)
    }

    async fn add_missing(&self, _: Vec<VmCopy>) -> Result<RepairReport, StoreError> {
        Err(StoreError::Failed { action: "add VMs", source: Unsupported.into() })
    }
}

#[cfg(test)]
mod tests {
    use maqet_adapters_linux::LocalHost;

    use super::*;

    fn context() -> StoreContext {
        let caller = Arc::new(LocalHost::new(None));
        StoreContext { caller, environment: Environment::default(), copies: None }
    }

    fn sqlite() -> Arc<SqliteFactory> {
        Arc::new(SqliteFactory { faults: FaultPoints::default() })
    }

    /// A store without a form of its own.
    struct Other;

    #[async_trait]
    impl StoreFactory for Other {
        async fn open(&self, _: &str, _: StoreContext) -> Result<StoreSetup, StoreError> {
            Err(StoreError::Busy { location: String::new() })
        }
    }

    #[track_caller]
    fn check(url: &str, expected: &str) {
        let mut factories = StoreFactories::default();
        factories.register("other", Arc::new(Other)).unwrap();

        assert_eq!(factories.find(url).unwrap().name(&context()).unwrap(), expected);
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
        check("other://me:p@ss@db/maqet?password=x", "other:db/maqet");
        check("other://me:what?@db/maqet", "other:db/maqet");
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn test_store_name_of_postgres_is_the_same_for_both_schemes() {
        check("postgres://me:secret@db/maqet", "postgres:db/maqet");
        check("postgresql://you@db/maqet?sslmode=require", "postgres:db/maqet");
        check("postgres:///maqet?host=/run/x", "postgres:/maqet?host=/run/x");
    }

    #[test]
    fn test_find_unknown_scheme_shows_no_password() {
        let refused = StoreFactories::default().find("mysql://me:secret@db/maqet").map(drop).unwrap_err();

        assert_eq!(refused.to_string(), "unsupported database URL `mysql://db/maqet`");
    }

    #[test]
    fn test_without_secrets_keeps_the_rest_of_the_url() {
        let check = |url: &str, expected: &str| assert_eq!(without_secrets(url), expected);

        check("postgres://me:p@ss/word@db:5432/maqet", "postgres://db:5432/maqet");
        check("postgres://me:what?@db/maqet?sslmode=require", "postgres://db/maqet?sslmode=require");
        check("postgres://db/maqet?password=secret&sslmode=require", "postgres://db/maqet?sslmode=require");
        check("postgres://db/maqet?Password=a%26b", "postgres://db/maqet");
        check("postgres://db/maqet?sslpassword=a&passwor%64=b&pass", "postgres://db/maqet");
        check("postgres://me:a/b?c=d&e@db/maqet", "postgres://db/maqet");
        check("postgres:///maqet?host=/run/x&user=me@corp", "postgres:///maqet?host=/run/x");
        check("postgres://db/maqet", "postgres://db/maqet");
        check("sqlite:///home/a@b/maqet.db", "sqlite:///home/a@b/maqet.db");
        check("/home/a@b/maqet.db", "/home/a@b/maqet.db");
    }
}
