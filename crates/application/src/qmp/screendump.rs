//! A `screendump` over which QEMU would abort.

use maqet_domain::qmp::{DumpedDevice, QmpCommand, QmpError, children, consoles_before_text};
use serde_json::Value;

use super::CommandError;
use crate::Error;
use crate::device::session::PERIPHERAL;
use crate::vm::monitor::Monitored;

/// Refuses a `screendump` of a device that QEMU finds only behind a text console, or not at all: it asks each console for
/// its device, and a text console has none (10.0).
///
/// Errors: [`CommandError::ScreendumpRefused`], and those of the queries.
pub(crate) async fn refuse_abort(vm: &Monitored<'_>, command: &QmpCommand) -> Result<(), Error> {
    let Some(dumped) = DumpedDevice::of(command) else { return Ok(()) };
    let Some(consoles) = list(vm, "/backend").await?.and_then(|found| consoles_before_text(&found)) else {
        return Ok(());
    };
    for console in consoles {
        let device = property(vm, &console, "device").await?;
        let head = property(vm, &console, "head").await?;
        if device == dumped.path().as_str() && head.as_u64().unwrap_or_default() == dumped.head {
            return Ok(());
        }
    }
    // QEMU reports an unknown device before it asks the consoles.
    let devices = list(vm, PERIPHERAL).await?.unwrap_or_default();
    if devices.iter().any(|(id, _)| *id == dumped.device) {
        let error = CommandError::ScreendumpRefused { device: dumped.device };
        return Err(Error::command(&vm.entry.name, error));
    }
    Ok(())
}

async fn list(vm: &Monitored<'_>, path: &str) -> Result<Option<Vec<(String, String)>>, QmpError> {
    answer(vm, QmpCommand::new("qom-list").with("path", path)).await.map(|reply| reply.map(|reply| children(&reply)))
}

async fn property(vm: &Monitored<'_>, path: &str, name: &str) -> Result<Value, QmpError> {
    let query = QmpCommand::new("qom-get").with("path", path).with("property", name);
    answer(vm, query).await.map(Option::unwrap_or_default)
}

/// Returns the reply to a query, unless QEMU refuses it.
async fn answer(vm: &Monitored<'_>, query: QmpCommand) -> Result<Option<Value>, QmpError> {
    match vm.execute_watched(&query, vm.timeout).await {
        Ok(reply) => Ok(Some(reply)),
        Err(QmpError::Refused { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
