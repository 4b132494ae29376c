//! Links at which QEMU listens: it starts, and goes on without them, if it cannot (7.2, 10.0).

use maqet_domain::error::{Explanation, Fault};
use maqet_domain::hotplug::failed_backends;
use maqet_domain::machine::Machine;
use maqet_domain::qmp::QmpCommand;
use maqet_domain::qmp::wording::{Endpoint, Transport};
use maqet_domain::vm::{RunPaths, VmName};

use super::failure::{StartFailure, port_obstacle};
use crate::{App, Error, limits};

/// Refuses a card whose port another process has; only an address in numbers is tried.
pub(crate) async fn require_free_ports(app: &App, vm: &VmName, machine: &Machine) -> Result<(), Error> {
    for card in &machine.network {
        let Some((host, port)) = card.listening_port() else { continue };
        let Ok(address) = host.parse() else { continue };
        let endpoint = Endpoint { transport: Transport::Tcp, address, port };
        if let Some(obstacle) = app.ports.host.port_obstacle(&endpoint) {
            let (cause, explanation) = port_obstacle(app, &endpoint, obstacle).await;
            let cause = format!("network card `{}` cannot listen: {cause}", card.name);
            return Err(Error::StartFailure(Box::new(StartFailure {
                vm: vm.clone(),
                cause,
                explanation,
                source: None,
            })));
        }
    }
    Ok(())
}

/// Refuses a QEMU that cannot listen for a stream; without one, it is not asked.
///
/// What it could not find out yet, as by a slow name server, is not known here.
pub(crate) async fn require_listening(
    app: &App,
    vm: &VmName,
    paths: &RunPaths,
    arguments: &[String],
) -> Result<(), Error> {
    let listening = |argument: &&String| {
        argument.starts_with("stream,") && (argument.contains(",server=on") || argument.contains(",server=true"))
    };
    let netdevs: Vec<&String> = arguments.iter().filter(listening).collect();
    if netdevs.is_empty() {
        return Ok(());
    }
    let command = QmpCommand::human_monitor("info network");
    let reply = match app.ports.monitors.execute(paths, &command, limits::QUERY_TIMEOUT).await {
        Ok(reply) => reply,
        Err(error) => {
            tracing::warn!(%error, "`info network` failed");
            return Ok(());
        }
    };
    let is_listening = |name: &str| netdevs.iter().any(|netdev| has_id(netdev, name));
    let mut failed = failed_backends(reply.as_str().unwrap_or_default()).into_iter();
    let Some((name, reason)) = failed.find(|(name, _)| is_listening(name)) else { return Ok(()) };
    let reason = reason.map(|reason| format!(": {}", reason.escape_debug())).unwrap_or_default();
    let cause = format!("network card `{name}` cannot listen{reason}");
    let explanation = Explanation::new("host.listen-failed", Fault::Host)
        .hint("choose an address and a port of this host that are free, or a path in a directory that exists");
    Err(Error::StartFailure(Box::new(StartFailure { vm: vm.clone(), cause, explanation, source: None })))
}

fn has_id(netdev: &str, id: &str) -> bool {
    netdev.split(',').any(|option| option.strip_prefix("id=") == Some(id))
}
