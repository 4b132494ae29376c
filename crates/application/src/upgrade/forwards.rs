//! The forwarded ports, of which one QEMU at a time can have each.

use maqet_domain::machine::Machine;
use maqet_domain::network::{Forward, NetworkMode, forwards_of};
use maqet_domain::port::MonitorSession;
use maqet_domain::qmp::{QmpCommand, QmpError};

use crate::limits;

/// A forwarded port, with its network card.
pub(super) type CardForward = (String, Forward);

/// Returns the ports that a QEMU forwards to cards of a machine.
pub(super) async fn forwarded(
    session: &mut dyn MonitorSession,
    machine: &Machine,
) -> Result<Vec<CardForward>, QmpError> {
    let cards = machine.network.iter().filter(|card| card.mode == NetworkMode::User);
    let names: Vec<&str> = cards.map(|card| card.name.as_str()).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let usernet = usernet(session).await?;
    let of_card = |name: &str| {
        forwards_of(name, &usernet).into_iter().map(|forward| (name.to_owned(), forward)).collect::<Vec<_>>()
    };
    Ok(names.into_iter().flat_map(of_card).collect())
}

async fn usernet(session: &mut dyn MonitorSession) -> Result<String, QmpError> {
    let reply = session.execute(&QmpCommand::human_monitor("info usernet"), limits::QUERY_TIMEOUT).await?;
    Ok(reply.as_str().unwrap_or_default().to_owned())
}

/// Returns the ports in the order in which they were recorded before; QEMU has another one.
pub(super) fn in_order(forwards: &[CardForward], recorded: &[Forward]) -> Vec<Forward> {
    let mut all: Vec<Forward> = forwards.iter().map(|(_, forward)| *forward).collect();
    all.sort_by_key(|forward| recorded.iter().position(|known| known == forward).unwrap_or(usize::MAX));
    all
}

/// Has a QEMU give its forwarded ports up; one that has given them up already is left alone.
pub(super) async fn give_up(session: &mut dyn MonitorSession, forwards: &[CardForward]) -> Result<(), QmpError> {
    for (card, Forward { protocol, host_address, host_port, .. }) in forwards {
        execute(session, "hostfwd_remove", &format!("{card} {protocol}:{host_address}:{host_port}")).await?;
    }
    Ok(())
}

/// Has a QEMU forward the ports that it does not forward yet; returns those that it cannot, with its reason.
pub(super) async fn add_missing(
    session: &mut dyn MonitorSession,
    forwards: &[CardForward],
) -> Result<Vec<String>, QmpError> {
    if forwards.is_empty() {
        return Ok(Vec::new());
    }
    let usernet = usernet(session).await?;
    let mut failed = Vec::new();
    for (card, forward) in forwards {
        if forwards_of(card, &usernet).contains(forward) {
            continue;
        }
        let complaint = execute(session, "hostfwd_add", &format!("{card} {}", forward.hostfwd())).await?;
        if !complaint.trim().is_empty() {
            failed.push(format!("port {forward} is not forwarded any more: {}", complaint.trim().escape_debug()));
        }
    }
    Ok(failed)
}

/// Runs a command of the human monitor, and returns what it says: nothing if `hostfwd_add` succeeded.
async fn execute(session: &mut dyn MonitorSession, command: &str, arguments: &str) -> Result<String, QmpError> {
    let line = format!("{command} {arguments}");
    let reply = session.execute(&QmpCommand::human_monitor(&line), limits::QUERY_TIMEOUT).await?;
    Ok(reply.as_str().unwrap_or_default().to_owned())
}
