//! The process kills itself at a step that a variable names: for the tests of what is left then.

use maqet_fault_points::FaultPoints;

use crate::Environment;

/// Returns what is told of steps: nobody.
#[cfg(not(feature = "fault-points"))]
pub(crate) fn points(_: &Environment) -> FaultPoints {
    FaultPoints::default()
}

/// Returns what kills this process at the step, and at the time it comes there, that the variable names.
#[cfg(feature = "fault-points")]
pub(crate) fn points(environment: &Environment) -> FaultPoints {
    use std::sync::atomic::{AtomicU32, Ordering};

    let wanted = environment.get(maqet_fault_points::VARIABLE).map(|wanted| wanted.to_string_lossy().into_owned());
    let (wanted, time) = match wanted.as_deref().and_then(|wanted| wanted.split_once(':')) {
        Some((name, time)) => (Some(name.to_owned()), time.parse().unwrap_or(0)),
        None => (wanted, 1),
    };
    let times = AtomicU32::new(0);
    FaultPoints::heard_by(move |point| {
        tracing::trace!(%point, "step");
        if wanted.as_ref().is_some_and(|wanted| *wanted == point.to_string())
            && times.fetch_add(1, Ordering::Relaxed) + 1 == time
        {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    })
}
