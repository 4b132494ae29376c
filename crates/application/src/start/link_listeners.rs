//! Links at which QEMU listens: it starts, and goes on without them, if it cannot (7.2, 10.0).

use maqet_domain::error::{Explanation, Fault};
use maqet_domain::hotplug::failed_backends;
use maqet_domain::machine::Machine;
use maqet_domain::qemu::{OptionString, switch_values};
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
    let netdevs = listening_streams(arguments);
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
    let is_listening = |name: &str| netdevs.iter().any(|id| id == name);
    let mut failed = failed_backends(reply.as_str().unwrap_or_default()).into_iter();
    let Some((name, reason)) = failed.find(|(name, _)| is_listening(name)) else { return Ok(()) };
    let reason = reason.map(|reason| format!(": {}", reason.escape_debug())).unwrap_or_default();
    let cause = format!("network card `{name}` cannot listen{reason}");
    let explanation = Explanation::new("host.listen-failed", Fault::Host)
        .hint("choose an address and a port of this host that are free, or a path in a directory that exists");
    Err(Error::StartFailure(Box::new(StartFailure { vm: vm.clone(), cause, explanation, source: None })))
}

/// Returns the IDs of the streams at which QEMU listens.
fn listening_streams(arguments: &[String]) -> Vec<String> {
    let netdevs = switch_values(arguments).filter(|(name, _)| *name == "netdev");
    let options = netdevs.map(|(name, argument)| OptionString::parse(name, argument));
    let streams = options.filter(|options| options.head() == "stream" && options.is_on("server") == Some(true));
    streams.filter_map(|options| options.get("id").map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_listening_streams_are_those_with_a_server_in_any_form() {
        let ids = |argument: &str| listening_streams(&["-netdev".to_owned(), argument.to_owned()]);

        for argument in [
            "stream,id=n,server=on,addr.type=unix,addr.path=/s",
            "stream,server=yes,id=n",
            "type=stream,id=n,server=true",
            "id=n,addr.path=/a,,b,server=on,type=stream",
            r#"{"type": "stream", "id": "n", "server": true, "addr": {"type": "unix", "path": "/s"}}"#,
        ] {
            assert_eq!(ids(argument), ["n"], "{argument}");
        }
        for argument in [
            "stream,id=n,server=off",
            "stream,id=n,addr.path=/a,,server=on",
            "socket,id=n,listen=:1",
            "dgram,id=n,server=on",
            r#"{"type": "stream", "id": "n"}"#,
        ] {
            assert_eq!(ids(argument), [""; 0], "{argument}");
        }
        assert_eq!(listening_streams(&["-append".to_owned(), "stream,id=n,server=on".to_owned()]), [""; 0]);
    }
}
