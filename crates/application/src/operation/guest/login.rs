//! How a guest is logged in to by SSH.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use maqet_domain::guest::SshLogin;
use maqet_domain::network::Forward;

use crate::guest::error::ExecError;
use crate::guest::request::WayError;
use crate::vm::monitor::Monitored;
use crate::wait::error::WaitError;
use crate::wait::watcher::ssh_forward;
use crate::{App, Error};

/// Returns how a command logs in; the way is not ready where no port is forwarded.
pub(super) async fn ssh_login(app: &App, vm: &Monitored<'_>) -> Result<SshLogin, WayError> {
    match login(app, vm).await {
        Err(Error::Wait(WaitError::NoForward { vm, .. })) => Err(WayError::NotReady(ExecError::NoSshForward { vm })),
        login => Ok(login?),
    }
}

/// Returns how ssh(1) logs in.
///
/// Errors: no port is forwarded.
pub(super) async fn login(app: &App, monitored: &Monitored<'_>) -> Result<SshLogin, Error> {
    let vm = app.vms().find(&monitored.entry.id.to_string()).await?;
    let machine = app.machine(&vm)?;
    let Forward { host_address, host_port, .. } = ssh_forward(&monitored.entry, &monitored.run)?;
    // That of all addresses is that of this host, too.
    let address = match host_address {
        address if !address.is_unspecified() => *address,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let access = app.preflight().ssh_access(&monitored.entry, &machine).await;
    let user = access.user(machine.seed.as_ref()).to_owned();
    Ok(SshLogin { address, port: *host_port, user, key: access.key })
}
