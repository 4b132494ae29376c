//! One connection to one monitor, from its greeting on.

use std::path::Path;
use std::time::Duration;

use maqet_domain::port::{QmpCommand, QmpError};
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};

use super::codec::{Decoder, Message, encode};
use super::wire::Wire;
use crate::limits::{GREETING_DEADLINE, QMP_LINE_BYTES, QMP_LOOKS_IN_A_ROW, QMP_READ_BYTES, in_millis};

const NEGOTIATION: &str = "qmp_capabilities";

/// A session with a monitor: it greeted, and takes commands one after the other.
///
/// A command that timed out leaves the session usable; its late answer is recognised by its number and dropped. Events
/// in between are passed over.
#[derive(Debug)]
pub struct QmpSession {
    wire: Wire,
    decoder: Decoder,
    /// The number of the next command.
    next: u64,
    line: Vec<u8>,
    /// Whether a command was written in part only, after which nothing can follow.
    torn: bool,
    /// How often was looked for a message.
    looks: u32,
}

/// Why the next message did not come.
enum NoMessage {
    Late,
    End,
    Garbled(String),
}

impl QmpSession {
    /// Connects to the monitor at `socket`, waits for its greeting and negotiates, at most `deadline`.
    ///
    /// Errors: `NoMonitor` when nobody listens, `NoGreeting` when another client has the monitor, `Blocked` when QEMU
    /// greets and then keeps silent, `Closed`, `Garbled`, `Refused`.
    pub async fn connect(socket: &Path, deadline: Duration) -> Result<Self, QmpError> {
        Self::connect_until(socket, Instant::now() + deadline, GREETING_DEADLINE).await
    }

    /// Does the same, with a limit of its own on the greeting.
    pub(super) async fn connect_until(socket: &Path, until: Instant, greeting: Duration) -> Result<Self, QmpError> {
        let started = Instant::now();
        let greeted_by = until.min(started + greeting);
        let no_greeting = || QmpError::NoGreeting { socket: socket.to_owned(), after: in_millis(started.elapsed()) };

        let wire = match timeout_at(greeted_by, Wire::connect(socket)).await {
            Ok(Ok(wire)) => wire,
            Ok(Err(why)) => return Err(QmpError::NoMonitor { socket: socket.to_owned(), source: why.into() }),
            // Nobody took us: as many wait as the socket lets.
            Err(_) => return Err(QmpError::QueueTimedOut { after: in_millis(started.elapsed()) }),
        };
        let decoder = Decoder::new(QMP_LINE_BYTES);
        let mut session = Self { wire, decoder, next: 0, line: Vec::with_capacity(256), torn: false, looks: 0 };
        match session.message(greeted_by).await {
            Ok(Message::Greeting) => {}
            Ok(other) => return Err(QmpError::Garbled { detail: format!("instead of a greeting: {other:?}") }),
            Err(NoMessage::Late) => return Err(no_greeting()),
            Err(other) => return Err(other.into_error(NEGOTIATION, started)),
        }

        match session.ask(NEGOTIATION, &Map::new(), until).await {
            Ok(_) => Ok(session),
            Err(QmpError::TimedOut { command, .. }) => {
                Err(QmpError::Blocked { command, after: in_millis(started.elapsed()) })
            }
            Err(other) => Err(other),
        }
    }

    /// Returns the process that listens at the monitor, as far as this one can see it.
    pub(crate) fn peer(&self) -> Option<u32> {
        self.wire.peer()
    }

    /// Runs a command, at most `deadline`.
    ///
    /// Errors: `TimedOut`, `Closed`, `Garbled`, `Refused`.
    pub async fn execute(&mut self, command: &QmpCommand, deadline: Duration) -> Result<Value, QmpError> {
        self.execute_until(command, Instant::now() + deadline).await
    }

    pub(super) async fn execute_until(&mut self, command: &QmpCommand, until: Instant) -> Result<Value, QmpError> {
        self.ask(&command.execute, &command.arguments, until).await
    }

    async fn ask(&mut self, execute: &str, arguments: &Map<String, Value>, until: Instant) -> Result<Value, QmpError> {
        let started = Instant::now();
        let closed = || QmpError::Closed { command: execute.to_owned() };
        if self.torn {
            return Err(closed());
        }
        let number = self.next;
        self.next += 1;
        encode(execute, arguments, number, &mut self.line);

        self.torn = true;
        match timeout_at(until, self.wire.send(&self.line)).await {
            Ok(Ok(())) => self.torn = false,
            Ok(Err(_)) => return Err(closed()),
            Err(_) => return Err(NoMessage::Late.into_error(execute, started)),
        }

        loop {
            match self.message(until).await.map_err(|why| why.into_error(execute, started))? {
                Message::Return { id: Some(id), value } if id == number => return Ok(value),
                // QEMU leaves the id out only where it could not read the command.
                Message::Error { id, class, description } if id.is_none_or(|id| id == number) => {
                    return Err(QmpError::Refused { command: execute.to_owned(), class, description });
                }
                Message::Greeting | Message::Event | Message::Return { .. } | Message::Error { .. } => {}
            }
            // A peer that never stops talking is always ready, and no timer would be looked at.
            if Instant::now() >= until {
                return Err(NoMessage::Late.into_error(execute, started));
            }
        }
    }

    async fn message(&mut self, until: Instant) -> Result<Message, NoMessage> {
        loop {
            self.looks = self.looks.wrapping_add(1);
            if self.looks.is_multiple_of(QMP_LOOKS_IN_A_ROW) {
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

impl NoMessage {
    fn into_error(self, command: &str, started: Instant) -> QmpError {
        match self {
            Self::Late => QmpError::TimedOut { command: command.to_owned(), after: in_millis(started.elapsed()) },
            Self::End => QmpError::Closed { command: command.to_owned() },
            Self::Garbled(detail) => QmpError::Garbled { detail },
        }
    }
}
