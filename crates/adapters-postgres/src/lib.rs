//! maqet's store on PostgreSQL: one database, shared by any number of hosts and users.
//!
//! [`PostgresStore`] implements the store ports of `maqet_domain::port`, [`PostgresMaintenance`] the maintenance of its
//! database. From the top down:
//!
//! | module | holds |
//! | --- | --- |
//! | `store` | the ports; each read is one round trip, each commit two |
//! | `transaction` | a commit: two batches of pipelined statements, and the outcome of one whose connection was lost |
//! | `transfer` | reads and writes all that the database holds of an identity, to move it |
//! | `maintenance` | checks a database, and creates it again from copies |
//! | `pool` | connections: opened at first use, opened again if the server closed them |
//! | `listener` | notifications of events |
//! | `schema` | tables, versions, migrations |
//! | `moves` | the part of each identity in moves |
//! | `read`, `write`, `column` | SQL, and domain values in columns |
//! | `url`, `uri`, `password`, `tls` | what libpq understands: URLs, password files, TLS modes |
//! | `identity` | to whom VMs belong |
//! | `error` | converts errors of the server into those of the port |
//! | `limits` | every constant, with its reason |
//!
//! A store belongs to an [`Identity`], a user of a host. It sees and changes the VMs of that identity only; history and
//! events are common to all. So no host acts on the VMs of another one, whatever their names are.

mod column;
mod error;
mod identity;
pub mod limits;
mod listener;
mod maintenance;
mod moves;
mod password;
mod pool;
mod read;
mod schema;
mod store;
mod tls;
mod transaction;
mod transfer;
mod uri;
mod url;
mod write;

pub use identity::Identity;
pub use limits::Timeouts;
pub use maintenance::PostgresMaintenance;
pub use store::PostgresStore;
pub use transfer::PostgresTransfer;
pub use url::{PostgresUrl, Variables};
