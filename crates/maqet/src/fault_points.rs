//! Kills or stops the process at the fault point that a variable names, for the tests of recovery.

use maqet_fault_points::FaultPoints;

use crate::Environment;

/// Returns fault points that do nothing.
#[cfg(not(feature = "fault-points"))]
pub(crate) fn from_environment(_: &Environment) -> FaultPoints {
    FaultPoints::default()
}

/// Returns fault points that kill this process when the point that the variable names is reached: `POINT`, or
/// `POINT:COUNT` for the time it is reached. With `:stop` at the end it is stopped instead, as by SIGSTOP.
#[cfg(feature = "fault-points")]
pub(crate) fn from_environment(environment: &Environment) -> FaultPoints {
    use std::sync::atomic::{AtomicU32, Ordering};

    let value = environment.get(maqet_fault_points::VARIABLE).map(|value| value.to_string_lossy().into_owned());
    let (value, signal) = match value.as_deref().and_then(|value| value.strip_suffix(":stop")) {
        Some(point) => (Some(point.to_owned()), rustix::process::Signal::STOP),
        None => (value, rustix::process::Signal::KILL),
    };
    let (name, count) = match value.as_deref().and_then(|value| value.split_once(':')) {
        Some((name, count)) => (Some(name.to_owned()), count.parse().unwrap_or(0)),
        None => (value, 1),
    };
    let reached = AtomicU32::new(0);
    FaultPoints::with_listener(move |point| {
        tracing::trace!(%point, "fault point");
        if name.as_ref().is_some_and(|name| *name == point.to_string())
            && reached.fetch_add(1, Ordering::Relaxed) + 1 == count
        {
            let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
        }
    })
}
