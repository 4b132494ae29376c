//! Behavior that involves several crates: the built CLI, real QEMU and real guests, seen from outside.
//!
//! One binary, because linking many takes longer than running them. Run a single module by its name:
//! `cargo test -p maqet-tests --test it -- hotplug::`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests, by panicking")]

mod backup_left_over;
mod backup_restore;
mod backups;
mod block_devices;
mod cli;
mod concurrency;
mod config;
mod conformance;
mod console;
mod damaged_disks;
mod devices;
mod disks;
mod e2e;
mod ended;
mod ending;
mod events;
mod firmware;
mod firmware_files;
mod full_disks;
mod guest;
mod hardware;
mod health;
mod hooks;
mod host_files;
mod hostile;
mod hotplug;
mod hotplug_network;
mod hotplug_removal;
mod inspect;
mod keyboard;
mod language;
mod lifecycle;
mod live_snapshot_faults;
mod live_snapshots;
mod log_limits;
mod logs;
mod long_work;
mod lost_images;
mod messages;
mod other_architectures;
mod output;
mod passt;
mod pid_namespaces;
mod postgres;
mod qemu_modules;
mod qmp;
mod qmp_run;
mod recovery;
mod recovery_frozen;
mod recovery_killed;
mod recovery_zombie;
mod scalars;
mod schema;
mod screen;
mod settings;
mod shell;
mod snapshot_drives;
mod snapshots;
mod start_failures;
mod stop;
mod storage;
mod stress;
mod switches;
mod text_output;
mod timeouts;
mod tpm;
mod trash;
mod trust;
mod upgrade;
mod versions;
mod wait;
