//! Links and sockets of QEMU: it starts, and goes on without a link that cannot listen or connect, and takes the path of
//! a socket from a process that listens there (7.2, 10.0).

use std::path::Path;

use maqet_domain::error::{Explanation, Fault};
use maqet_domain::hotplug::{failed_backends, pending_backends};
use maqet_domain::machine::Machine;
use maqet_domain::network::NetworkSpec;
use maqet_domain::port::{PathKind, PortObstacle};
use maqet_domain::qemu::OptionString;
use maqet_domain::qmp::QmpCommand;
use maqet_domain::qmp::wording::{Endpoint, ListeningSocket, StreamBackend, Transport};
use maqet_domain::text::quote;
use maqet_domain::vm::{RunPaths, VmName};

use tokio::time::Instant;

use super::failure::{StartFailure, port_obstacle, user_and_cure};
use super::link_sockets::REPLACED;
use crate::{App, Error, limits};

/// Refuses a card whose port another process has, also one of the user's switches; only an address in numbers is tried.
pub(crate) async fn require_free_ports(app: &App, vm: &VmName, machine: &Machine) -> Result<(), Error> {
    let of_card = |card: &NetworkSpec| {
        let (host, port) = card.listening_port()?;
        let endpoint = Endpoint { transport: Transport::Tcp, address: host.parse().ok()?, port };
        Some((format!("network card `{}`", card.name), endpoint))
    };
    let of_switches = machine.user_switches().filter_map(|(name, argument)| stream_port(name, argument?));
    for (what, endpoint) in machine.network.iter().filter_map(of_card).chain(of_switches) {
        if let Some(obstacle) = app.ports.host.port_obstacle(&endpoint) {
            let (cause, explanation) = port_obstacle(app, &endpoint, obstacle).await;
            let cause = format!("{what} cannot listen: {cause}");
            return Err(failure(vm, cause, explanation));
        }
    }
    Ok(())
}

/// Returns the port of a stream of the user's switches that listens, with its name.
fn stream_port(switch: &str, argument: &str) -> Option<(String, Endpoint)> {
    let options = OptionString::parse(switch, argument);
    let is_listening = options.head() == "stream" && options.is_on("server") == Some(true);
    if !is_listening || !matches!(switch, "netdev" | "nic" | "net") {
        return None;
    }
    let endpoint = Endpoint::of_switch(&format!("-{switch} {argument}")).into_iter().next()?;
    let name = options.get("id").map_or_else(|| format!("`-{switch} {argument}`"), |id| format!("network card `{id}`"));
    Some((name, endpoint))
}

/// Refuses sockets at whose paths others listen, and files: QEMU would remove them. `own` is the directory of the run.
///
/// Also refuses a stream to a path where nothing is, which QEMU would try only once.
pub(crate) async fn require_free_sockets(app: &App, vm: &VmName, args: &[String], own: &Path) -> Result<(), Error> {
    for socket in ListeningSocket::of_args(args) {
        // QEMU runs in `/`.
        let path = Path::new("/").join(&socket.path);
        if path.starts_with(own) {
            continue;
        }
        let kind = app.ports.paths.kind(&path).await;
        if kind == PathKind::File {
            return Err(Error::PathRefused { path, reason: REPLACED.to_owned() });
        }
        if kind == PathKind::Other
            && let Some(PortObstacle::InUse(user)) = app.ports.host.socket_obstacle(&path)
        {
            let quoted = quote(&socket.path);
            let (by, cure) = user_and_cure(app, user, &format!("sudo ss -lxp src {quoted}")).await;
            let what =
                socket.netdev.map_or_else(|| format!("`{}`", socket.switch), |id| format!("network card `{id}`"));
            let cause = format!("{what} cannot listen: `{}` is in use by {by}", socket.path);
            let explanation =
                Explanation::new("host.socket-in-use", Fault::Busy).hint(cure).hint("choose another path");
            return Err(failure(vm, cause, explanation));
        }
    }
    for stream in StreamBackend::of_args(args).into_iter().filter(|stream| is_tried_once(stream) && !stream.listens) {
        let Some(path) = &stream.path else { continue };
        let at = Path::new("/").join(path);
        // That of passt is created later.
        if !at.starts_with(own) && app.ports.paths.kind(&at).await == PathKind::NotFound {
            let cause = format!("network card `{}` cannot connect: `{path}` does not exist", stream.id);
            return Err(failure(vm, cause, no_peer()));
        }
    }
    Ok(())
}

/// Refuses a QEMU that cannot listen for a stream, or that could not connect one and does not try again; without such
/// streams, it is not asked.
///
/// What it could not find out yet, as by a slow name server, is not known here.
pub(crate) async fn require_links(app: &App, vm: &VmName, paths: &RunPaths, args: &[String]) -> Result<(), Error> {
    let is_own =
        |stream: &StreamBackend| stream.path.as_ref().is_some_and(|path| Path::new(path).starts_with(&paths.sockets));
    let streams = StreamBackend::of_args(args).into_iter().filter(|stream| is_tried_once(stream) && !is_own(stream));
    let streams: Vec<StreamBackend> = streams.collect();
    if streams.is_empty() {
        return Ok(());
    }
    let is_ours = |name: &&str| streams.iter().any(|stream| stream.id == **name);
    let deadline = Instant::now() + limits::LINK_TIMEOUT;
    let info = loop {
        let Some(info) = info_network(app, paths).await else { return Ok(()) };
        if pending_backends(&info).iter().any(is_ours) && Instant::now() < deadline {
            tokio::time::sleep(limits::LINK_INTERVAL).await;
            continue;
        }
        break info;
    };
    for (name, reason) in failed_backends(&info) {
        let Some(stream) = streams.iter().find(|stream| stream.id == name) else { continue };
        let reason = reason.map(|reason| format!(": {}", reason.escape_debug())).unwrap_or_default();
        return Err(if stream.listens {
            let explanation = Explanation::new("host.listen-failed", Fault::Host)
                .hint("choose an address and a port of this host that are free, or a path in a directory that exists");
            failure(vm, format!("network card `{name}` cannot listen{reason}"), explanation)
        } else {
            failure(vm, format!("network card `{name}` cannot connect{reason}"), no_peer())
        });
    }
    Ok(())
}

async fn info_network(app: &App, paths: &RunPaths) -> Option<String> {
    let command = QmpCommand::human_monitor("info network");
    match app.ports.monitors.execute(paths, &command, limits::QUERY_TIMEOUT).await {
        Ok(reply) => Some(reply.as_str().unwrap_or_default().to_owned()),
        Err(error) => {
            tracing::warn!(%error, "`info network` failed");
            None
        }
    }
}

/// Returns whether what QEMU could not do at once it does not try again.
const fn is_tried_once(stream: &StreamBackend) -> bool {
    stream.listens || !stream.reconnects
}

fn no_peer() -> Explanation {
    Explanation::new("network.peer-not-found", Fault::NotFound)
        .hint("start the VM or the program at the other end first: this QEMU tries to connect only once")
}

fn failure(vm: &VmName, cause: String, explanation: Explanation) -> Error {
    Error::StartFailure(Box::new(StartFailure { vm: vm.clone(), cause, explanation, source: None }))
}
