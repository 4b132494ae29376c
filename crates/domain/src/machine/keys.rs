//! The configuration keys that come with maqet.

mod arguments;
mod hardware;
mod hooks;
mod network;
mod plain;
mod ports;
mod storage;
mod word;

use std::sync::Arc;

pub use self::arguments::SINGLE_ARGUMENTS;

use crate::machine::ConfigHandler;
use crate::registry::{DuplicateName, Registry};
use crate::storage::StorageDriver;

/// Returns a registry with the keys that come with maqet; `storage` knows the given types.
pub fn builtin_handlers(drivers: &Registry<dyn StorageDriver>) -> Result<Registry<dyn ConfigHandler>, DuplicateName> {
    let mut registry: Registry<dyn ConfigHandler> = Registry::new("configuration key");
    registry.register(Arc::new(plain::Name))?;
    registry.register(Arc::new(plain::Binary))?;
    registry.register(Arc::new(plain::Accel))?;
    registry.register(Arc::new(hardware::Arch))?;
    registry.register(Arc::new(hardware::MachineType))?;
    registry.register(Arc::new(ports::HotplugPorts))?;
    registry.register(Arc::new(plain::Memory))?;
    registry.register(Arc::new(plain::Cpu))?;
    registry.register(Arc::new(hardware::CpuModel))?;
    registry.register(Arc::new(hardware::FirmwareKey))?;
    registry.register(Arc::new(hardware::Boot))?;
    registry.register(Arc::new(plain::Display))?;
    registry.register(Arc::new(plain::Vga))?;
    registry.register(Arc::new(storage::Storage { drivers: drivers.clone() }))?;
    registry.register(Arc::new(network::Network))?;
    registry.register(Arc::new(hardware::SerialPort))?;
    registry.register(Arc::new(hardware::Sandbox))?;
    registry.register(Arc::new(hardware::Labels))?;
    registry.register(Arc::new(hooks::Hooks))?;
    registry.register(Arc::new(arguments::Arguments))?;
    registry.register(Arc::new(arguments::Args))?;
    Ok(registry)
}
