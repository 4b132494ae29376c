//! A command whose input and output the agent passes on, each as a whole.

use std::time::Duration;

use maqet_domain::guest::{CommandStatus, ExecFailure, ExecWay, GuestStream};
use maqet_domain::port::AgentError;
use tokio::time::Instant;

use super::agent::{Agent, HeldSession, ProcessState};
use super::control::{Answer, Control, Started, Tools};
use super::error::ExecError;
use super::pump::PumpEnd;
use super::request::{ExecRequest, WayError, at};
use super::streams::ExecStreams;
use super::watch::Watch;
use crate::vm::monitor::Monitored;
use crate::{App, Error, limits};

/// A command that has ended.
pub(crate) struct Ended {
    pub(crate) end: PumpEnd,
    /// Of standard output and standard error.
    pub(crate) bytes: [u64; 2],
    pub(crate) is_truncated: bool,
}

/// Runs a command.
pub(crate) async fn run(
    app: &App,
    vm: &Monitored<'_>,
    agent: Agent<'_>,
    request: &ExecRequest,
    streams: &dyn ExecStreams,
) -> Result<Ended, WayError> {
    run_with_input(app, vm, agent, request, streams).await.map_err(|error| match error {
        // What was read of the input is gone.
        WayError::NotReady(error) if streams.has_input() => error.into(),
        error => error,
    })
}

async fn run_with_input(
    app: &App,
    vm: &Monitored<'_>,
    agent: Agent<'_>,
    request: &ExecRequest,
    streams: &dyn ExecStreams,
) -> Result<Ended, WayError> {
    let name = &vm.entry.name;
    let input = match request.before_start(streams, whole_input(vm, streams)).await {
        Ok(input) => input?,
        Err(end) => return Ok(Ended::without_output(end)),
    };
    let session = match request.session(vm, agent, streams).await? {
        Ok(session) => session,
        Err(end) => return Ok(Ended::without_output(end)),
    };
    let watch = Watch::new(vm).of_resets(app).await;
    let start = request.command.start(&request.nonce, ExecWay::Agent, input.as_deref());
    let failed = |source| WayError::of_start(vm, source);
    let (pid, held) = HeldSession::start(session, &start).await.map_err(failed)?;
    let started = Started {
        tools: Tools::Agent(agent),
        pid,
        nonce: &request.nonce,
        set: None,
        has_terminal: false,
        reply_limit: limits::MAX_CAPTURED_REPLY_BYTES,
    };
    let mut control = Control::new(started, held, request);
    let status = match status_at_end(&mut control, streams, watch).await {
        Ok(status) => status,
        Err(end) => return Ok(Ended::without_output(end)),
    };
    if let Some(failure) = ExecFailure::from_stderr(&request.nonce, &status.stderr) {
        return Err(ExecError::of(failure, name, &request.command).into());
    }
    let bytes = [status.stdout.len() as u64, status.stderr.len() as u64];
    for (stream, output) in [(GuestStream::Out, status.stdout), (GuestStream::Err, status.stderr)] {
        if !output.is_empty() && streams.writable(stream).await {
            streams.write(stream, output);
        }
    }
    let lost = || status.exit.map_or(PumpEnd::Lost(None), PumpEnd::Exited);
    let end = control.end(status.exit).unwrap_or_else(lost);
    Ok(Ended { end, bytes, is_truncated: status.is_truncated })
}

/// Waits until the command has ended and nothing has its output open; returns what the agent says then, or why it does not.
async fn status_at_end(
    control: &mut Control<'_>,
    streams: &dyn ExecStreams,
    mut watch: Watch<'_>,
) -> Result<CommandStatus, PumpEnd> {
    let began = Instant::now();
    let mut interval = limits::MIN_CAPTURE_POLL;
    let (mut next, mut asked) = (Some(began + interval), began);
    loop {
        if control.has_given_up() {
            return Err(control.end(None).unwrap_or(PumpEnd::Lost(None)));
        }
        if next.is_some_and(|next| Instant::now() >= next) {
            control.ask_state();
            (next, asked) = (None, Instant::now());
        }
        control.start_next();
        watch.start_if_due();
        let due = [next, control.due_at(), watch.due_at()].into_iter().flatten().min();
        tokio::select! {
            signal = streams.signal() => control.signal(signal),
            () = at(due) => control.tick(false),
            end = watch.answer() => if let Some(end) = end { return Err(end) },
            answer = control.answer() => match answer {
                Answer::State(Ok(ProcessState::Known(status))) if status.exit.is_some() => return Ok(status),
                Answer::State(Ok(ProcessState::Known(_))) => {
                    interval = next_interval(interval, began.elapsed(), asked.elapsed());
                    next = Some(Instant::now() + interval);
                }
                Answer::State(Ok(ProcessState::Unknown)) => return Err(PumpEnd::Lost(None)),
                Answer::State(Err(AgentError::Closed | AgentError::NoChannel)) => return Err(PumpEnd::Closed),
                Answer::State(Err(error)) => return Err(PumpEnd::Lost(Some(error.to_string()))),
                Answer::HadExited | Answer::Done => {}
            },
        }
    }
}

/// Returns when to ask again after an interval, for a command that has run for so long, if the answer took so long: an agent
/// that has many to answer is asked less often.
fn next_interval(interval: Duration, elapsed: Duration, took: Duration) -> Duration {
    let usual = (interval * 2).min(limits::MAX_CAPTURE_POLL);
    usual.max(elapsed / limits::CAPTURE_POLL_SHARE).max(took * 2).min(limits::MAX_BUSY_CAPTURE_POLL)
}

impl Ended {
    pub(crate) fn without_output(end: PumpEnd) -> Self {
        Self { end, bytes: [0; 2], is_truncated: false }
    }
}

/// Reads the whole input, which the agent takes as one; `None` if the command has none.
async fn whole_input(vm: &Monitored<'_>, streams: &dyn ExecStreams) -> Result<Option<Vec<u8>>, Error> {
    if !streams.has_input() {
        return Ok(None);
    }
    let mut input = Vec::new();
    loop {
        let bytes = streams.read().await;
        if bytes.is_empty() {
            return Ok(Some(input));
        }
        input.extend(bytes);
        if input.len() > limits::MAX_CAPTURED_BYTES {
            return Err(ExecError::InputTooLarge { vm: vm.entry.name.clone() }.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_interval_grows_with_the_command_and_the_answers() {
        let next = |interval, elapsed, took| {
            let [interval, elapsed, took] = [interval, elapsed, took].map(Duration::from_millis);
            next_interval(interval, elapsed, took).as_millis()
        };

        assert_eq!(next(10, 12, 2), 20);
        assert_eq!(next(160, 400, 2), 250);
        assert_eq!(next(250, 4000, 2), 500);
        assert_eq!(next(10, 12, 120), 240);
        assert_eq!(next(250, 60_000, 5000), 1000);
    }
}
