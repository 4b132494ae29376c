//! Devices of running VMs: adding and removing them, media, and hardware controls.

mod device_add;
mod device_del;
mod hardware;
mod medium;

pub use self::device_add::{DeviceAdded, QmpDeviceAdd};
pub use self::device_del::{DeviceDeleted, QmpDeviceDel};
pub use self::hardware::{Balloon, Link, LinkSet, NmiSent, QmpBalloon, QmpNmi, QmpSetLink};
pub use self::medium::{MediumChanged, QmpEject, QmpInsert};
