//! The parts that the identities of a database have in moves: the column `moves` of the table `maqet`, as JSON, which the
//! first move adds.

use maqet_domain::port::{MoveMark, StoreError};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

use crate::identity::Identity;

/// The marks of a database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Moves(Vec<Move>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Move {
    host: String,
    owner: String,
    mark: MoveMark,
}

impl Move {
    fn is_of(&self, identity: &Identity) -> bool {
        self.host == identity.host && self.owner == identity.owner
    }
}

impl Moves {
    /// Returns the marks in a row with all columns of the table `maqet`.
    pub(crate) fn read(row: &Row, location: &str) -> Result<Self, StoreError> {
        // A database without a move has no such column.
        let Ok(Some(text)) = row.try_get::<_, Option<&str>>("moves") else { return Ok(Self::default()) };
        serde_json::from_str(text).map_err(|error| StoreError::ServerCorrupt {
            location: location.to_owned(),
            detail: format!("the marks of moves cannot be read: {error}"),
        })
    }

    /// Returns the mark of `identity`.
    pub(crate) fn of(&self, identity: &Identity) -> Option<&MoveMark> {
        self.0.iter().find(|one| one.is_of(identity)).map(|one| &one.mark)
    }

    /// Refuses a database that `identity` does not use because of a move.
    pub(crate) fn require_none(&self, identity: &Identity, location: &str) -> Result<(), StoreError> {
        self.of(identity).map_or(Ok(()), |mark| Err(mark.error(location)))
    }

    /// Sets or removes the mark of `identity`.
    pub(crate) fn set(&mut self, identity: &Identity, mark: Option<MoveMark>) {
        self.0.retain(|one| !one.is_of(identity));
        let Identity { host, owner } = identity.clone();
        self.0.extend(mark.map(|mark| Move { host, owner, mark }));
    }
}
