//! A connection to a monitor, from its greeting on.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use maqet_adapters_linux::limits::round_to_millis;
use maqet_domain::port::{MainLoop, MonitorSession, PassedFor, SessionEvent};
use maqet_domain::qmp::{ErrorClass, QmpCommand, QmpError};
use maqet_domain::text::escaped;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout_at};

use super::codec::{Band, Decoder, Message, OOB, encode, too_large};
use super::events::EventQueue;
use super::monitor_lock::MonitorLock;
use super::wire::Wire;
use crate::limits::{
    GREETING_TIMEOUT, MAX_QMP_LINE_BYTES, MAX_QMP_POLLS_IN_A_ROW, MAX_QMP_UNANSWERED, MAX_QUOTED_CHARS, QMP_READ_BYTES,
};

const NEGOTIATION: &str = "qmp_capabilities";

/// The ID of the first command, which is the negotiation.
const NEGOTIATION_ID: u64 = 0;

/// A command without effect that QEMU executes out of band (5.2 and later; older versions refuse it out of band).
const PING_COMMAND: &str = "query-yank";

/// A command without effect that the main loop executes.
const MAIN_LOOP_PING: &str = "query-version";

/// A session with a monitor, which executes commands one after the other.
///
/// A command that timed out or was canceled leaves the session usable: the unsent rest of it is sent before the next
/// one, and its late reply is dropped. Out-of-band execution is enabled where QEMU offers it.
///
/// A reply has the `id` of its command, or none if the command had none. QEMU's main loop replies to each command once,
/// in order (`docs/interop/qmp-spec.txt`, QEMU 7.2), so a command is sent without one, which is faster, while no other is
/// unanswered.
#[derive(Debug)]
pub struct QmpSession {
    wire: Wire,
    decoder: Decoder,
    /// The ID of the next command.
    next: u64,
    /// What to send, and how much of it was sent.
    line: Vec<u8>,
    sent: usize,
    /// What is passed with the first byte of what is to be sent.
    file: Option<OwnedFd>,
    /// The IDs of the unanswered commands of the main loop; at most one has none.
    unanswered: Vec<Option<u64>>,
    has_oob: bool,
    /// The events, if they are kept.
    events: Option<EventQueue>,
    /// How often a message was polled for.
    polls: u32,
    /// Dropped last, so that the next caller finds the monitor free.
    _lock: Option<MonitorLock>,
}

/// Why there is no next message.
enum NoMessage {
    TimedOut,
    Closed,
    Invalid(String),
}

/// The error of a command.
struct Refusal {
    class: ErrorClass,
    description: String,
}

impl QmpSession {
    /// Connects to the monitor at `socket`, waits for its greeting and negotiates.
    ///
    /// Errors: `MonitorUnavailable` if there is no listener, `GreetingTimedOut` if another client is connected,
    /// `Unresponsive` if QEMU is silent after its greeting, `ConnectionClosed`, `InvalidResponse`, `Refused`.
    pub async fn connect(socket: &Path, timeout: Duration) -> Result<Self, QmpError> {
        Self::connect_until(socket, Instant::now() + timeout, GREETING_TIMEOUT).await
    }

    /// Does the same with a separate timeout for the greeting.
    pub(super) async fn connect_until(socket: &Path, deadline: Instant, greeting: Duration) -> Result<Self, QmpError> {
        let started = Instant::now();
        let greeted_by = deadline.min(started + greeting);
        let no_greeting =
            || QmpError::GreetingTimedOut { socket: socket.to_owned(), after: round_to_millis(started.elapsed()) };

        let wire = match timeout_at(greeted_by, Wire::connect(socket)).await {
            Ok(Ok(wire)) => wire,
            Ok(Err(why)) => return Err(QmpError::MonitorUnavailable { socket: socket.to_owned(), source: why.into() }),
            // The backlog of the socket is full.
            Err(_) => return Err(QmpError::QueueTimedOut { after: round_to_millis(started.elapsed()) }),
        };
        let mut session = Self::over(wire);
        match session.message(greeted_by).await {
            Ok(Message::Greeting { oob }) => session.has_oob = oob,
            Ok(other) => {
                return Err(QmpError::InvalidResponse {
                    detail: format!("instead of a greeting: {}", escaped(&format!("{other:?}"), MAX_QUOTED_CHARS)),
                });
            }
            Err(NoMessage::TimedOut) => return Err(no_greeting()),
            Err(other) => return Err(other.into_error(NEGOTIATION, started)),
        }

        let wanted = if session.has_oob { json!({ "enable": [OOB] }) } else { Value::Null };
        let wanted = if let Value::Object(wanted) = wanted { wanted } else { Map::new() };
        match session.run(NEGOTIATION, &wanted, None, deadline).await {
            Ok(_) => Ok(session),
            Err(QmpError::TimedOut { command, .. }) => {
                Err(QmpError::Unresponsive { command, after: round_to_millis(started.elapsed()) })
            }
            Err(other) => Err(other),
        }
    }

    fn over(wire: Wire) -> Self {
        Self {
            wire,
            decoder: Decoder::new(MAX_QMP_LINE_BYTES),
            next: NEGOTIATION_ID,
            line: Vec::with_capacity(256),
            sent: 0,
            file: None,
            unanswered: Vec::new(),
            has_oob: false,
            events: None,
            polls: 0,
            _lock: None,
        }
    }

    /// Keeps events from now on, for [`next_event`](MonitorSession::next_event).
    #[must_use]
    pub fn keeping_events(mut self) -> Self {
        self.decoder.keep_events();
        self.events = Some(EventQueue::default());
        self
    }

    /// Holds the lock of the monitor for as long as the session is open.
    pub(super) fn holding(self, lock: MonitorLock) -> Self {
        Self { _lock: Some(lock), ..self }
    }

    /// Returns the process that listens at the monitor, if it is visible.
    pub(crate) fn peer(&self) -> Option<u32> {
        self.wire.peer()
    }

    pub(super) async fn execute_until(&mut self, command: &QmpCommand, deadline: Instant) -> Result<Value, QmpError> {
        self.run(&command.execute, &command.arguments, None, deadline).await
    }

    async fn run(
        &mut self,
        execute: &str,
        arguments: &Map<String, Value>,
        file: Option<OwnedFd>,
        deadline: Instant,
    ) -> Result<Value, QmpError> {
        if let Some(reason) = too_large(execute, arguments) {
            return Err(QmpError::CommandTooLarge { command: execute.to_owned(), reason });
        }
        let started = Instant::now();
        let blocked =
            || QmpError::Unresponsive { command: execute.to_owned(), after: round_to_millis(started.elapsed()) };
        // The rest of an earlier command comes first.
        match self.flush(deadline).await {
            Ok(()) => {}
            Err(NoMessage::TimedOut) => return Err(blocked()),
            Err(other) => return Err(other.into_error(execute, started)),
        }
        while self.unanswered.len() >= MAX_QMP_UNANSWERED {
            match self.message(deadline).await {
                Ok(message) => drop(self.sort(message)),
                Err(NoMessage::TimedOut) => return Err(blocked()),
                Err(other) => return Err(other.into_error(execute, started)),
            }
        }

        let id = self.write(Band::In, execute, arguments);
        self.file = file;
        self.flush(deadline).await.map_err(|error| error.into_error(execute, started))?;
        loop {
            let message = self.message(deadline).await.map_err(|error| error.into_error(execute, started))?;
            if let Some((of, result)) = self.sort(message)
                && of == id
            {
                return result.map_err(|refusal| refusal.into_error(execute));
            }
            // A peer that sends without pause is always ready, and no timer would be polled.
            if Instant::now() >= deadline {
                return Err(NoMessage::TimedOut.into_error(execute, started));
            }
        }
    }

    /// Appends a command to what is sent, and returns its ID.
    fn write(&mut self, band: Band, execute: &str, arguments: &Map<String, Value>) -> Option<u64> {
        let id = self.needs_id(band).then_some(self.next);
        self.next += u64::from(id.is_some());
        encode(band, execute, arguments, id, &mut self.line);
        if band == Band::In {
            self.unanswered.push(id);
        }
        id
    }

    /// Returns whether a reply without an ID could be that of another command.
    fn needs_id(&self, band: Band) -> bool {
        // The reply to a command of the previous client may arrive here, but not after the negotiation.
        let negotiates = self.next == NEGOTIATION_ID;
        // Commands out of band are answered out of order.
        negotiates || band == Band::OutOf || !self.unanswered.is_empty()
    }

    /// Sends what is to be sent; after a timeout or cancellation, the next call sends the rest.
    async fn flush(&mut self, deadline: Instant) -> Result<(), NoMessage> {
        while self.sent < self.line.len() {
            let rest = &self.line[self.sent..];
            let sent = match &self.file {
                Some(file) => timeout_at(deadline, self.wire.send_some_with(rest, file)).await,
                None => timeout_at(deadline, self.wire.send_some(rest)).await,
            };
            match sent {
                Ok(Ok(sent)) => {
                    self.sent += sent;
                    self.file = None;
                }
                Ok(Err(_)) => return Err(NoMessage::Closed),
                Err(_) => return Err(NoMessage::TimedOut),
            }
        }
        self.line.clear();
        self.sent = 0;
        Ok(())
    }

    /// Keeps an event; returns a reply with its ID.
    fn sort(&mut self, message: Message) -> Option<(Option<u64>, Result<Value, Refusal>)> {
        let (id, result) = match message {
            Message::Greeting { .. } => return None,
            Message::Event { line } => {
                if let Some(events) = &mut self.events {
                    events.push(line);
                }
                return None;
            }
            Message::Return { id, value } => (id, Ok(value)),
            Message::Error { id, class, description } => {
                (id.or_else(|| self.unparsed()), Err(Refusal { class, description }))
            }
        };
        self.unanswered.retain(|waiting| *waiting != id);
        Some((id, result))
    }

    /// Returns the ID of an error without one, which QEMU sends for a command that it could not parse: the oldest
    /// command, since they are answered in order, but not the negotiation.
    fn unparsed(&self) -> Option<u64> {
        self.unanswered.first().copied().flatten().filter(|id| *id != NEGOTIATION_ID)
    }

    async fn message(&mut self, deadline: Instant) -> Result<Message, NoMessage> {
        loop {
            self.polls = self.polls.wrapping_add(1);
            if self.polls.is_multiple_of(MAX_QMP_POLLS_IN_A_ROW) {
                tokio::task::yield_now().await;
            }
            if let Some(message) = self.decoder.next().map_err(|error| NoMessage::Invalid(error.to_string()))? {
                return Ok(message);
            }
            if Instant::now() >= deadline {
                return Err(NoMessage::TimedOut);
            }
            let buffer = self.decoder.buffer(QMP_READ_BYTES);
            match timeout_at(deadline, self.wire.receive(buffer)).await {
                Ok(Ok(0) | Err(_)) => return Err(NoMessage::Closed),
                Ok(Ok(_)) => {}
                Err(_) => return Err(NoMessage::TimedOut),
            }
        }
    }
}

#[async_trait]
impl MonitorSession for QmpSession {
    async fn execute(&mut self, command: &QmpCommand, timeout: Duration) -> Result<Value, QmpError> {
        self.execute_until(command, Instant::now() + timeout).await.map_err(|error| error.of_timeout(timeout))
    }

    async fn execute_with_file(
        &mut self,
        command: &QmpCommand,
        file: &Path,
        purpose: PassedFor,
        timeout: Duration,
    ) -> Result<Value, QmpError> {
        let is_read = purpose == PassedFor::Reading;
        let opened = OpenOptions::new().read(is_read).write(!is_read).open(file);
        let opened = opened.map_err(|why| QmpError::FileUnavailable { path: file.to_owned(), source: why.into() })?;
        let deadline = Instant::now() + timeout;
        let reply = self.run(&command.execute, &command.arguments, Some(opened.into()), deadline).await;
        reply.map_err(|error| error.of_timeout(timeout))
    }

    /// Returns no event without [`keeping_events`](Self::keeping_events).
    async fn next_event(&mut self, timeout: Duration) -> Result<Option<SessionEvent>, QmpError> {
        let started = Instant::now();
        let deadline = started + timeout;
        loop {
            if let Some(event) = self.events.as_mut().and_then(EventQueue::take) {
                return Ok(Some(event));
            }
            match self.message(deadline).await {
                Ok(message) => drop(self.sort(message)),
                Err(NoMessage::TimedOut) => return Ok(None),
                Err(other) => return Err(other.into_error("(events)", started)),
            }
        }
    }

    /// Without out-of-band execution, a blocked main loop is [`MainLoop::Unresponsive`] as well.
    async fn main_loop(&mut self, timeout: Duration) -> MainLoop {
        let deadline = Instant::now() + timeout;
        let none = Map::new();
        // The rest of an earlier command comes first.
        if self.flush(deadline).await.is_err() {
            return MainLoop::Unresponsive;
        }
        let main = (self.unanswered.len() < MAX_QMP_UNANSWERED).then(|| self.write(Band::In, MAIN_LOOP_PING, &none));
        let oob = self.has_oob.then(|| self.write(Band::OutOf, PING_COMMAND, &none));
        let mut is_alive = false;
        if self.flush(deadline).await.is_err() {
            return MainLoop::Unresponsive;
        }
        loop {
            let waiting = self.unanswered.len();
            match self.message(deadline).await.map(|message| self.sort(message)) {
                Ok(Some((id, _))) if Some(id) == main => return MainLoop::Answers,
                Ok(Some((id, _))) if Some(id) == oob => is_alive = true,
                // A late reply to an earlier command proves that the main loop responds.
                Ok(Some(_)) if main.is_none() && self.unanswered.len() < waiting => return MainLoop::Answers,
                Ok(_) => {}
                Err(NoMessage::TimedOut) if is_alive => return MainLoop::Blocked,
                Err(_) => return MainLoop::Unresponsive,
            }
        }
    }
}

impl Refusal {
    fn into_error(self, command: &str) -> QmpError {
        QmpError::Refused { command: command.to_owned(), class: self.class, description: self.description }
    }
}

impl NoMessage {
    fn into_error(self, command: &str, started: Instant) -> QmpError {
        match self {
            Self::TimedOut => {
                QmpError::TimedOut { command: command.to_owned(), after: round_to_millis(started.elapsed()) }
            }
            Self::Closed => QmpError::ConnectionClosed { command: command.to_owned() },
            Self::Invalid(detail) => QmpError::InvalidResponse { detail },
        }
    }
}
