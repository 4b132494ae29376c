//! maqet's store on SQLite: one file, shared by any number of processes.
//!
//! [`SqliteStore`] implements the store ports of `maqet_domain::port`, [`SqliteMaintenance`] the maintenance of its file.
//! From the top down:
//!
//! | module | holds |
//! | --- | --- |
//! | `store` | the ports; each method is a task of the worker |
//! | `worker` | the thread that works on the connection, its queue, and the short reads that bypass it |
//! | `maintenance` | checks, backs up and repairs a database as a whole |
//! | `transfer` | reads and writes all that a database holds, to move it |
//! | `database` | one open database: opened at its first use, reading where nothing can be written |
//! | `retry` | waiting for other processes; only on the thread of the worker and of maintenance |
//! | `create`, `backup` | new databases and copies, as complete and private files |
//! | `schema` | tables, versions, migrations |
//! | `read`, `write`, `column` | SQL, and domain values in columns |
//! | `path` | the path of a database, and the state of the file before SQLite opens it |
//! | `error` | converts errors of SQLite into those of the port |
//! | `limits` | every constant, with its reason |
//!
//! It refuses a database of another program, an empty file, a symbolic link, and a newer schema. It opens the database
//! file through SQLite only: closing any other descriptor of it would drop the locks of this process (fcntl(2)).

mod backup;
mod column;
mod create;
mod database;
mod durability;
mod error;
pub mod limits;
mod maintenance;
mod path;
mod read;
mod retry;
mod schema;
mod store;
mod transfer;
mod worker;
mod write;

pub use database::Options;
pub use maintenance::SqliteMaintenance;
pub use store::SqliteStore;
pub use transfer::{SqliteTransfer, back_up_content};
