//! maqet's store on SQLite: one file, any number of processes.
//!
//! [`SqliteStore`] implements the store ports of `maqet_domain::port`. How it is put together:
//!
//! | module | holds |
//! | --- | --- |
//! | `store` | the ports, each method one job for the owner |
//! | `owner` | the thread that works on the connection, its queue, and the reads that do not wait for it |
//! | `database` | one open database: retries, and how it is read where it cannot be written |
//! | `place` | what lies at the path before SQLite sees it |
//! | `birth` | a new database, which comes into being whole and private |
//! | `care` | a whole database examined, backed up, and built anew from what is left of it |
//! | `schema` | tables, versions, migrations |
//! | `read`, `write`, `column` | SQL, and domain values in columns |
//! | `error` | which error of SQLite is which of the port's |
//! | `limits` | every constant, with its reason |
//!
//! It refuses to adopt a database that is not ours, to fill a file that lost its content, to follow a symbolic link,
//! and to go back behind a newer schema. It never opens the database file but through SQLite: closing any other
//! descriptor of it would drop the locks of this whole process (fcntl(2)).

mod birth;
mod care;
mod column;
mod database;
mod error;
pub mod limits;
mod owner;
mod place;
mod read;
mod schema;
mod store;
mod write;

pub use care::SqliteCare;
pub use store::{Options, SqliteStore};
