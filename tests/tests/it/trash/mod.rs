//! The trash: disks of removed VMs, moved there and back by rename; and disks that no VM uses.

mod fixture;
mod killed;
mod moves;
mod orphaned;
