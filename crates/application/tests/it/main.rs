//! Operations with an in-memory store and a mocked world.

#![expect(clippy::unwrap_used, reason = "what helps a test fails it by panicking, too")]

mod cleanup;
mod console;
mod copying;
mod disks;
mod ended;
mod fast_guests;
mod follow;
mod frozen;
mod full_disk;
mod hotplug;
mod inspect;
mod jobs;
mod keyboard;
mod killed;
mod logs;
mod ls;
mod operations;
mod power;
mod qmp_run;
mod signs_of_life;
mod stop;
mod timeouts;
mod undo_laws;
mod world;
