//! Stores by the scheme of their URL.

use std::path::Path;
use std::sync::Arc;

use maqet_adapters_sqlite::{Options, SqliteStore};
use maqet_domain::fault::FaultPoints;
use maqet_domain::near::near;
use maqet_domain::port::{Store, StoreError};

use crate::OpenError;

/// Opens a store; it is given what stands after the colon of the URL.
pub type StoreFactory = Arc<dyn Fn(&str) -> Result<Arc<dyn Store>, StoreError> + Send + Sync>;

/// The stores that can be opened, by the scheme of their URL.
#[derive(Clone)]
pub struct StoreFactories {
    factories: Vec<(String, StoreFactory)>,
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
        Self::empty().with("sqlite", Arc::new(move |path| open_sqlite(Path::new(path), &faults)))
    }

    /// Knows none.
    pub const fn empty() -> Self {
        Self { factories: Vec::new() }
    }

    /// Adds a store; one of the same scheme is replaced.
    #[must_use]
    pub fn with(mut self, scheme: &str, factory: StoreFactory) -> Self {
        self.factories.retain(|(known, _)| known != scheme);
        self.factories.push((scheme.to_owned(), factory));
        self
    }

    /// Opens the store that `url` names.
    pub fn open(&self, url: &str) -> Result<Arc<dyn Store>, OpenError> {
        let (scheme, rest) = match url.split_once(':') {
            Some((scheme, rest)) if !scheme.is_empty() && !scheme.contains('/') => (scheme, rest),
            Some(_) | None => ("sqlite", url),
        };
        let known: Vec<String> = self.factories.iter().map(|(known, _)| known.clone()).collect();
        match self.factories.iter().find(|(known, _)| known == scheme) {
            Some((_, factory)) => Ok(factory(rest.strip_prefix("//").unwrap_or(rest))?),
            None => Err(OpenError::UnknownStore {
                url: url.to_owned(),
                near: near(scheme, known.iter().map(String::as_str)),
                known,
            }),
        }
    }
}
