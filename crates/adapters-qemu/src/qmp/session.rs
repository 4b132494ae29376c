//! One connection to one monitor, from its greeting on.

use std::path::Path;
use std::time::Duration;

use maqet_adapters_linux::limits::round_to_millis;
use maqet_domain::port::{MainLoop, SessionEvent};
use maqet_domain::qmp::{QmpCommand, QmpError};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout_at};

use super::codec::{Band, Decoder, Message, OOB, encode, quoted, too_much};
use super::events::EventQueue;
use super::wire::Wire;
use crate::limits::{GREETING_TIMEOUT, MAX_QMP_LINE_BYTES, MAX_QMP_POLLS_IN_A_ROW, MAX_QMP_UNANSWERED, QMP_READ_BYTES};

const NEGOTIATION: &str = "qmp_capabilities";

/// The id of the first command, which is the negotiation.
const NEGOTIATION_ID: u64 = 0;

/// What QEMU answers out of band and without doing anything (5.2 and later; older ones refuse it out of band as well).
const PING_COMMAND: &str = "query-yank";

/// What the main loop answers without doing anything.
const MAIN_LOOP_PING: &str = "query-version";

/// A session with a monitor: it greeted, and takes commands one after the other.
///
/// A command that timed out, or that nobody waits for any more, leaves the session usable: what was not sent of it yet
/// is sent before the next one, and its late answer is dropped. Out-of-band execution is enabled where QEMU offers it.
///
/// An answer is known by the `id` of its command, or by having none if the command had none. QEMU's main loop answers
/// every command once and in the order they came in (`docs/interop/qmp-spec.txt`, QEMU 7.2), so a command goes without
/// one while no other is unanswered, which takes QEMU less time.
#[derive(Debug)]
pub struct QmpSession {
    wire: Wire,
    decoder: Decoder,
    /// The next id.
    next: u64,
    /// What is to be sent still, and how much of it was.
    line: Vec<u8>,
    sent: usize,
    /// The ids of the commands for the main loop that were not answered yet; at most one of them has none.
    unanswered: Vec<Option<u64>>,
    takes_oob: bool,
    /// The events, for those who keep them.
    events: Option<EventQueue>,
    /// How often was looked for a message.
    looks: u32,
}

/// Why the next message did not come.
enum NoMessage {
    Late,
    End,
    Garbled(String),
}

/// Why QEMU did not do what it was told.
struct Refusal {
    class: String,
    description: String,
}

impl QmpSession {
    /// Connects to the monitor at `socket`, waits for its greeting and negotiates, at most `deadline`.
    ///
    /// Errors: `NoMonitor` when nobody listens, `NoGreeting` when another client has the monitor, `Blocked` when QEMU
    /// greets and then keeps silent, `Closed`, `Garbled`, `Refused`.
    pub async fn connect(socket: &Path, deadline: Duration) -> Result<Self, QmpError> {
        Self::connect_until(socket, Instant::now() + deadline, GREETING_TIMEOUT).await
    }

    /// Does the same, with a limit of its own on the greeting.
    pub(super) async fn connect_until(socket: &Path, until: Instant, greeting: Duration) -> Result<Self, QmpError> {
        let started = Instant::now();
        let greeted_by = until.min(started + greeting);
        let no_greeting =
            || QmpError::GreetingTimedOut { socket: socket.to_owned(), after: round_to_millis(started.elapsed()) };

        let wire = match timeout_at(greeted_by, Wire::connect(socket)).await {
            Ok(Ok(wire)) => wire,
            Ok(Err(why)) => return Err(QmpError::MonitorUnavailable { socket: socket.to_owned(), source: why.into() }),
            // Nobody took us: as many wait as the socket lets.
            Err(_) => return Err(QmpError::QueueTimedOut { after: round_to_millis(started.elapsed()) }),
        };
        let mut session = Self::over(wire);
        match session.message(greeted_by).await {
            Ok(Message::Greeting { oob }) => session.takes_oob = oob,
            Ok(other) => {
                return Err(QmpError::InvalidResponse {
                    detail: format!("instead of a greeting: {}", quoted(&format!("{other:?}"))),
                });
            }
            Err(NoMessage::Late) => return Err(no_greeting()),
            Err(other) => return Err(other.into_error(NEGOTIATION, started)),
        }

        let wanted = if session.takes_oob { json!({ "enable": [OOB] }) } else { Value::Null };
        let wanted = if let Value::Object(wanted) = wanted { wanted } else { Map::new() };
        match session.ask(NEGOTIATION, &wanted, until).await {
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
            unanswered: Vec::new(),
            takes_oob: false,
            events: None,
            looks: 0,
        }
    }

    /// Keeps the events that come from now on, for [`next_event`](Self::next_event).
    #[must_use]
    pub fn keeping_events(mut self) -> Self {
        self.decoder.keep_events();
        self.events = Some(EventQueue::default());
        self
    }

    /// Returns the process that listens at the monitor, as far as this one can see it.
    pub(crate) fn peer(&self) -> Option<u32> {
        self.wire.peer()
    }

    /// Runs a command, at most `deadline`.
    ///
    /// Errors: `TimedOut`, `Blocked` when too many commands before it are unanswered, `TooMuch`, `Closed`, `Garbled`,
    /// `Refused`.
    pub async fn execute(&mut self, command: &QmpCommand, deadline: Duration) -> Result<Value, QmpError> {
        self.execute_until(command, Instant::now() + deadline).await
    }

    pub(super) async fn execute_until(&mut self, command: &QmpCommand, until: Instant) -> Result<Value, QmpError> {
        self.ask(&command.execute, &command.arguments, until).await
    }

    /// Returns the next event, waiting at most `timeout` for one; nothing without
    /// [`keeping_events`](Self::keeping_events).
    ///
    /// Errors: `Closed`, `Garbled`.
    pub async fn next_event(&mut self, timeout: Duration) -> Result<Option<SessionEvent>, QmpError> {
        let (started, until) = (Instant::now(), Instant::now() + timeout);
        loop {
            if let Some(event) = self.events.as_mut().and_then(EventQueue::take) {
                return Ok(Some(event));
            }
            match self.message(until).await {
                Ok(message) => drop(self.sort(message)),
                Err(NoMessage::Late) => return Ok(None),
                Err(other) => return Err(other.into_error("(events)", started)),
            }
        }
    }

    /// Tells a main loop that is at work from a QEMU that is dead, within `patience`.
    ///
    /// Where QEMU takes no commands out of band, one that does not answer counts as [`MainLoop::Silent`].
    pub async fn main_loop(&mut self, patience: Duration) -> MainLoop {
        let (until, none) = (Instant::now() + patience, Map::new());
        // Nothing is added to a line that nobody reads.
        if self.flush(until).await.is_err() {
            return MainLoop::Silent;
        }
        let main = (self.unanswered.len() < MAX_QMP_UNANSWERED).then(|| self.write(Band::In, MAIN_LOOP_PING, &none));
        let own = self.takes_oob.then(|| self.write(Band::OutOf, PING_COMMAND, &none));
        let mut lives = false;
        if self.flush(until).await.is_err() {
            return MainLoop::Silent;
        }
        loop {
            let waiting = self.unanswered.len();
            match self.message(until).await.map(|message| self.sort(message)) {
                Ok(Some((id, _))) if Some(id) == main => return MainLoop::Answers,
                Ok(Some((id, _))) if Some(id) == own => lives = true,
                // A late answer of the main loop to a command of before is an answer, too.
                Ok(Some(_)) if main.is_none() && self.unanswered.len() < waiting => return MainLoop::Answers,
                Ok(_) => {}
                Err(NoMessage::Late) if lives => return MainLoop::Blocked,
                Err(_) => return MainLoop::Silent,
            }
        }
    }

    async fn ask(&mut self, execute: &str, arguments: &Map<String, Value>, until: Instant) -> Result<Value, QmpError> {
        if let Some(reason) = too_much(execute, arguments) {
            return Err(QmpError::CommandTooLarge { command: execute.to_owned(), reason });
        }
        let started = Instant::now();
        let blocked =
            || QmpError::Unresponsive { command: execute.to_owned(), after: round_to_millis(started.elapsed()) };
        // What was left of others is sent first, and nothing is added to a line that nobody reads.
        match self.flush(until).await {
            Ok(()) => {}
            Err(NoMessage::Late) => return Err(blocked()),
            Err(other) => return Err(other.into_error(execute, started)),
        }
        while self.unanswered.len() >= MAX_QMP_UNANSWERED {
            match self.message(until).await {
                Ok(message) => drop(self.sort(message)),
                Err(NoMessage::Late) => return Err(blocked()),
                Err(other) => return Err(other.into_error(execute, started)),
            }
        }

        let own = self.write(Band::In, execute, arguments);
        self.flush(until).await.map_err(|why| why.into_error(execute, started))?;
        loop {
            let message = self.message(until).await.map_err(|why| why.into_error(execute, started))?;
            if let Some((id, outcome)) = self.sort(message)
                && id == own
            {
                return outcome.map_err(|why| why.into_error(execute));
            }
            // A peer that never stops talking is always ready, and no timer would be looked at.
            if Instant::now() >= until {
                return Err(NoMessage::Late.into_error(execute, started));
            }
        }
    }

    /// Adds a command to what is to be sent, and returns its id.
    fn write(&mut self, band: Band, execute: &str, arguments: &Map<String, Value>) -> Option<u64> {
        let id = self.needs_id(band).then_some(self.next);
        self.next += u64::from(id.is_some());
        encode(band, execute, arguments, id, &mut self.line);
        if band == Band::In {
            self.unanswered.push(id);
        }
        id
    }

    /// Tells whether an answer without an id could be that of another command.
    fn needs_id(&self, band: Band) -> bool {
        // What the client before us asked may be answered to us, but never after the first command, the negotiation.
        let negotiates = self.next == NEGOTIATION_ID;
        // Out of band is answered out of order.
        negotiates || band == Band::OutOf || !self.unanswered.is_empty()
    }

    /// Sends what is to be sent; what is left of it when this is given up is sent the next time.
    async fn flush(&mut self, until: Instant) -> Result<(), NoMessage> {
        while self.sent < self.line.len() {
            match timeout_at(until, self.wire.send_some(&self.line[self.sent..])).await {
                Ok(Ok(sent)) => self.sent += sent,
                Ok(Err(_)) => return Err(NoMessage::End),
                Err(_) => return Err(NoMessage::Late),
            }
        }
        self.line.clear();
        self.sent = 0;
        Ok(())
    }

    /// Puts an event where it belongs, and returns what is an answer: its id, and the result or the refusal.
    fn sort(&mut self, message: Message) -> Option<(Option<u64>, Result<Value, Refusal>)> {
        let (id, outcome) = match message {
            Message::Greeting { .. } => return None,
            Message::Event { line } => {
                if let Some(events) = &mut self.events {
                    events.push(line);
                }
                return None;
            }
            Message::Return { id, value } => (id, Ok(value)),
            Message::Error { id, class, description } => {
                (id.or_else(|| self.unread()), Err(Refusal { class, description }))
            }
        };
        self.unanswered.retain(|waiting| *waiting != id);
        Some((id, outcome))
    }

    /// Returns the id of a command that was refused without it, which QEMU does where it could not read the command: the
    /// oldest, as it answers them in order; never the negotiation, which it can read.
    fn unread(&self) -> Option<u64> {
        self.unanswered.first().copied().flatten().filter(|id| *id != NEGOTIATION_ID)
    }

    async fn message(&mut self, until: Instant) -> Result<Message, NoMessage> {
        loop {
            self.looks = self.looks.wrapping_add(1);
            if self.looks.is_multiple_of(MAX_QMP_POLLS_IN_A_ROW) {
                tokio::task::yield_now().await;
            }
            if let Some(message) = self.decoder.next().map_err(|why| NoMessage::Garbled(why.to_string()))? {
                return Ok(message);
            }
            if Instant::now() >= until {
                return Err(NoMessage::Late);
            }
            let buffer = self.decoder.buffer(QMP_READ_BYTES);
            match timeout_at(until, self.wire.receive(buffer)).await {
                Ok(Ok(0) | Err(_)) => return Err(NoMessage::End),
                Ok(Ok(_)) => {}
                Err(_) => return Err(NoMessage::Late),
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
            Self::Late => QmpError::TimedOut { command: command.to_owned(), after: round_to_millis(started.elapsed()) },
            Self::End => QmpError::ConnectionClosed { command: command.to_owned() },
            Self::Garbled(detail) => QmpError::InvalidResponse { detail },
        }
    }
}
