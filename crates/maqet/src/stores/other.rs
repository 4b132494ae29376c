//! Databases other than the one in use.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use maqet_adapters_sqlite::back_up_content;
use maqet_domain::port::{Databases, OtherDatabase, StoreContent, StoreError, StoreTransfer, VmCopies};

use super::{StoreContext, StoreFactories};
use crate::OpenError;

/// Finds databases with the factories of this instance.
pub(crate) struct OtherDatabases {
    pub(crate) factories: StoreFactories,
    pub(crate) context: StoreContext,
    /// The name of the database in use.
    pub(crate) name: String,
    /// The copies of its VMs.
    pub(crate) copies: Arc<dyn VmCopies>,
    /// What moves it, if its kind can be moved.
    pub(crate) transfer: Option<Arc<dyn StoreTransfer>>,
    /// Beside it are the backups in the data directory.
    pub(crate) default_file: PathBuf,
}

#[async_trait]
impl Databases for OtherDatabases {
    fn current(&self) -> Result<OtherDatabase, StoreError> {
        or_unsupported(self.name.clone(), self.transfer.clone())
    }

    async fn find(&self, url: &str) -> Result<OtherDatabase, StoreError> {
        let found = self.factories.find(url).map_err(|error| match error {
            OpenError::Store(error) => error,
            other => StoreError::InvalidUrl { reason: other.to_string() },
        })?;
        let name = found.name(&self.context)?;
        let setup = found.open(self.context.clone()).await?;
        or_unsupported(name, setup.transfer)
    }

    async fn back_up(&self, content: StoreContent, file: Option<PathBuf>) -> Result<PathBuf, StoreError> {
        // One of nothing, although there were VMs, takes the place of none that has them.
        let is_lost = content.vms.is_empty() && self.copies.count().await > 0;
        back_up_content(self.default_file.clone(), content, file, !is_lost).await
    }
}

fn or_unsupported(name: String, transfer: Option<Arc<dyn StoreTransfer>>) -> Result<OtherDatabase, StoreError> {
    match transfer {
        Some(transfer) => Ok(OtherDatabase { name, transfer }),
        None => Err(StoreError::MoveUnsupported { location: name }),
    }
}
