//! The plan for `device-del`, computed from QEMU's reports.

use super::{BootDevices, DeviceError, DeviceOrigin, PluggedDevice};
use crate::text::similar;
use crate::vm::VmName;

/// A step of `device-del`. The first one that removes anything is the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnplugStep {
    /// Unplugs the device with this id, and removes its backends.
    Unplug(String),
    /// Removes the backends of the device that had this id.
    RemoveBackends(String),
}

/// Decides what to remove for `name`, the id of a device, or a network card's name in the definition.
///
/// A device, or backends of one, with that id comes before a card with that name.
pub fn plan_device_del(
    vm: &VmName,
    name: &str,
    plugged: &[PluggedDevice],
    boot: &BootDevices,
) -> Result<Vec<UnplugStep>, DeviceError> {
    let mut steps = Vec::new();
    for id in [Some(name.to_owned()), boot.device_of_card(name)].into_iter().flatten() {
        if !plugged.iter().any(|device| device.id == id) {
            steps.push(UnplugStep::RemoveBackends(id));
            continue;
        }
        if let Some(reason) = boot.obstacle(&id) {
            let reason = reason.to_owned();
            return Err(DeviceError::UnplugUnsupported { vm: vm.clone(), id, reason, origin: DeviceOrigin::Maqet });
        }
        steps.push(UnplugStep::Unplug(id));
        break;
    }
    Ok(steps)
}

/// Returns the error of a name that no device has, with the names that exist.
pub fn device_not_found(vm: &VmName, name: &str, plugged: &[PluggedDevice], boot: &BootDevices) -> DeviceError {
    let ids = plugged.iter().map(|device| device.id.as_str());
    let mut ids: Vec<&str> = ids.filter(|id| boot.obstacle(id).is_none()).collect();
    // QEMU's order depends on how many devices there are.
    ids.sort_unstable();
    let known: Vec<String> = ids.iter().map(|id| boot.name_of(id).to_owned()).collect();
    let others = ids.iter().copied().filter(|id| !known.iter().any(|name| name == id));
    let similar = similar(name, known.iter().map(String::as_str).chain(others));
    DeviceError::NotFound { vm: vm.clone(), kind: "device", id: name.to_owned(), similar, known }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot() -> BootDevices {
        let line =
            "qemu -device pcie-root-port,id=hotplug-port0 -netdev user,id=lan -device e1000,netdev=lan,id=lan-card";
        BootDevices::from_args(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    fn plan(name: &str, plugged: &[&str]) -> Result<Vec<UnplugStep>, DeviceError> {
        let device = |id: &&str| PluggedDevice { id: (*id).to_owned(), driver: "e1000".to_owned() };
        plan_device_del(&"web".parse().unwrap(), name, &plugged.iter().map(device).collect::<Vec<_>>(), &boot())
    }

    #[test]
    fn test_plan_device_del_plugged_device_is_unplugged() {
        assert_eq!(plan("d1", &["d1"]).unwrap(), [UnplugStep::Unplug("d1".to_owned())]);
    }

    #[test]
    fn test_plan_device_del_channel_to_the_guest_is_refused() {
        let args = ["-device", r#"{"driver":"virtserialport","id":"maqet-agent","bus":"maqet-serial.0","nr":2}"#];
        let boot = BootDevices::from_args(&args.map(str::to_owned));
        let vm = "web".parse().unwrap();
        let plugged = [PluggedDevice { id: "maqet-agent".to_owned(), driver: "virtserialport".to_owned() }];

        let refused = plan_device_del(&vm, "maqet-agent", &plugged, &boot).unwrap_err();

        assert!(matches!(refused, DeviceError::UnplugUnsupported { .. }), "{refused:?}");
        let unknown = device_not_found(&vm, "maqet-agenda", &plugged, &boot);
        assert!(
            matches!(unknown, DeviceError::NotFound { known, similar, .. } if known.is_empty() && similar.is_empty())
        );
    }

    #[test]
    fn test_plan_device_del_missing_device_may_have_backends() {
        assert_eq!(plan("d1", &[]).unwrap(), [UnplugStep::RemoveBackends("d1".to_owned())]);
    }

    #[test]
    fn test_plan_device_del_card_name_means_its_device() {
        let (backends, unplug) = (UnplugStep::RemoveBackends("lan".to_owned()), "lan-card".to_owned());

        assert_eq!(plan("lan", &["lan-card"]).unwrap(), [backends, UnplugStep::Unplug(unplug)]);
    }

    #[test]
    fn test_plan_device_del_port_of_maqet_is_refused() {
        let refused = plan("hotplug-port0", &["hotplug-port0"]).unwrap_err();

        assert!(matches!(refused, DeviceError::UnplugUnsupported { origin: DeviceOrigin::Maqet, .. }), "{refused}");
    }

    #[test]
    fn test_device_not_found_suggests_names_of_definition() {
        let plugged = [PluggedDevice { id: "lan-card".to_owned(), driver: "e1000".to_owned() }];

        let error = device_not_found(&"web".parse().unwrap(), "lam", &plugged, &boot());

        assert!(matches!(&error, DeviceError::NotFound { similar, .. } if *similar == ["lan"]), "{error:?}");
    }
}
