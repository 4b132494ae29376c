//! Stores by the scheme of their URL.

use std::path::Path;
use std::sync::Arc;

use maqet_adapters_sqlite::{Options, SqliteMaintenance, SqliteStore};
use maqet_domain::port::{Store, StoreError, StoreMaintenance};
use maqet_domain::text::similar;
use maqet_fault_points::FaultPoints;

use crate::OpenError;

/// Opens a store; it is given what stands after the colon of the URL.
pub type StoreFactory = Arc<dyn Fn(&str) -> Result<Arc<dyn Store>, StoreError> + Send + Sync>;

/// Makes what looks after a store; it is given what stands after the colon of the URL, and opens nothing.
pub type CareFactory = Arc<dyn Fn(&str) -> Arc<dyn StoreMaintenance> + Send + Sync>;

/// The stores that can be opened, by the scheme of their URL.
#[derive(Clone)]
pub struct StoreFactories {
    kinds: Vec<Kind>,
}

#[derive(Clone)]
struct Kind {
    scheme: String,
    open: StoreFactory,
    care: Option<CareFactory>,
}

/// How one database is opened and looked after.
#[derive(Clone)]
pub(crate) struct Found {
    /// The URL in one form, without what is secret in it.
    pub(crate) name: String,
    rest: String,
    kind: Kind,
}

impl Found {
    pub(crate) fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        (self.kind.open)(&self.rest)
    }

    /// Returns what looks after it, if its kind has something.
    pub(crate) fn care(&self) -> Option<Arc<dyn StoreMaintenance>> {
        self.kind.care.as_ref().map(|care| care(&self.rest))
    }
}

impl Default for StoreFactories {
    /// Knows `sqlite:PATH`; a plain path means the same.
    fn default() -> Self {
        Self::builtin(&FaultPoints::default())
    }
}

fn open_sqlite(path: &Path, faults: &FaultPoints) -> Result<Arc<dyn Store>, StoreError> {
    let options = Options { faults: faults.clone(), ..Options::default() };
    Ok(Arc::new(SqliteStore::open_with(path, options)?))
}

impl StoreFactories {
    /// Knows those of [`default`](Self::default); `faults` are told of their steps.
    pub(crate) fn builtin(faults: &FaultPoints) -> Self {
        let faults = faults.clone();
        Self::empty()
            .with("sqlite", Arc::new(move |path| open_sqlite(Path::new(path), &faults)))
            .with_care("sqlite", Arc::new(|path| Arc::new(SqliteMaintenance::new(path))))
    }

    /// Knows none.
    pub const fn empty() -> Self {
        Self { kinds: Vec::new() }
    }

    /// Adds a store; one of the same scheme is replaced.
    #[must_use]
    pub fn with(mut self, scheme: &str, factory: StoreFactory) -> Self {
        self.kinds.retain(|kind| kind.scheme != scheme);
        self.kinds.push(Kind { scheme: scheme.to_owned(), open: factory, care: None });
        self
    }

    /// Says how the stores of a scheme that was added are looked after: examined, backed up and repaired.
    #[must_use]
    pub fn with_care(mut self, scheme: &str, factory: CareFactory) -> Self {
        if let Some(kind) = self.kinds.iter_mut().find(|kind| kind.scheme == scheme) {
            kind.care = Some(factory);
        }
        self
    }

    /// Opens the store that `url` names.
    pub fn open(&self, url: &str) -> Result<Arc<dyn Store>, OpenError> {
        Ok(self.find(url)?.open()?)
    }

    /// Finds what opens the store that `url` names, and opens nothing.
    pub(crate) fn find(&self, url: &str) -> Result<Found, OpenError> {
        let (scheme, rest) = match url.split_once(':') {
            Some((scheme, rest)) if !scheme.is_empty() && !scheme.contains('/') => (scheme, rest),
            Some(_) | None => ("sqlite", url),
        };
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        if let Some(kind) = self.kinds.iter().find(|kind| kind.scheme == scheme) {
            let name = format!("{scheme}:{}", name_of(scheme, rest));
            return Ok(Found { name, rest: rest.to_owned(), kind: kind.clone() });
        }
        let known: Vec<String> = self.kinds.iter().map(|kind| kind.scheme.clone()).collect();
        let similar = similar(scheme, known.iter().map(String::as_str));
        Err(OpenError::UnknownStore { url: url.to_owned(), similar, known })
    }
}

/// Returns the part of a URL by which a database is told from others: a path absolute, anything else without the user
/// and the password before `@`.
fn name_of(scheme: &str, rest: &str) -> String {
    if scheme == "sqlite" {
        return std::path::absolute(rest).map_or_else(|_| rest.to_owned(), |path| path.to_string_lossy().into_owned());
    }
    rest.rsplit_once('@').map_or(rest, |(_, place)| place).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: &str) {
        let factories =
            StoreFactories::default().with("postgres", Arc::new(|_| Err(StoreError::Busy { location: "x".into() })));
        assert_eq!(factories.find(url).unwrap().name, expected);
    }

    #[test]
    fn test_store_name_is_the_same_however_its_url_is_written_and_holds_no_secret() {
        check("/d/maqet.db", "sqlite:/d/maqet.db");
        check("sqlite:/d/maqet.db", "sqlite:/d/maqet.db");
        check("sqlite:///d/maqet.db", "sqlite:/d/maqet.db");
        check("postgres://me:p@ss@db/maqet", "postgres:db/maqet");
    }
}
