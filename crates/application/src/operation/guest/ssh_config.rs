//! `ssh-config`: how to log in to a running VM, for the configuration of ssh(1).

use maqet_domain::guest::SshLogin;
use serde::{Deserialize, Serialize};

use super::login::login;
use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::vm::monitor::Monitored;
use crate::{App, Error};

/// Show the configuration of ssh for a running VM
///
/// The VM needs a forwarded port 22. User and key are those of `ssh` in its definition; without a key there or in its seed,
/// the key is one that was made for the VM. Its host key is not checked, as the connection does not leave this host and each
/// new guest has another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SshConfig {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
}

/// How to log in to a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SshConfigured {
    /// The ID of the VM.
    pub id: String,
    /// The name of the VM.
    pub name: String,
    /// The address of the forwarded port.
    pub host: String,
    /// The forwarded port.
    pub port: u16,
    /// The user.
    pub user: String,
    /// The file with the private key, if the definition has one, or one was made for the VM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl SshConfig {
    /// Shows that for the VM `vm`.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into() }
    }
}

impl Operation for SshConfig {
    const NAME: &'static str = "ssh-config";
    const EFFECT: Effect = Effect::Reads;
    type Output = SshConfigured;

    async fn run(&self, app: &App) -> Result<Done<SshConfigured>, Error> {
        let vm = Monitored::find_unchecked(app, &self.vm).await?;
        let SshLogin { address, port, user, key } = login(app, &vm).await?;
        let configured = SshConfigured {
            id: vm.entry.id.to_string(),
            name: vm.entry.name.to_string(),
            host: address.to_string(),
            port,
            user,
            key: key.as_deref().map(shown),
        };
        Ok(Done::reading(configured).about(vm.entry.id))
    }
}
