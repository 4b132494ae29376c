//! What a guest is set up with at its boot: a seed for cloud-init, and credentials for its services.
//!
//! A [`Seed`] is what the definition says. [`Seed::render`] makes the files of cloud-init's data source `NoCloud` from it, and
//! [`SeedFiles::image`] the image of a CD with them, which QEMU gives to the guest as a read-only disk.

mod credentials;
mod iso9660;
mod public_key;
mod seed;
mod ssh;
mod user_data;

pub use self::credentials::{CredentialWay, Credentials, MAX_CREDENTIALS, PassedCredential};
pub use self::public_key::{InvalidPublicKey, PublicKey};
pub use self::seed::{
    HostFiles, InvalidSeed, NetworkConfig, Seed, SeedFiles, SeedOwner, SeedSource, TextSource, is_host_name,
};
pub use self::ssh::SshAccess;
pub use self::user_data::{CloudConfig, GuestFile, GuestUser, RunCommand};
