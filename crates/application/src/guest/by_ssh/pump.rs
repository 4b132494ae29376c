//! Passes the streams of a command on that ssh(1) runs.
//!
//! The command has ended once ssh(1) has, which waits until nothing in the guest has its output open.

use maqet_domain::guest::{ExitStatus, GuestStream, ProcessSignal};
use maqet_domain::port::{SshClient, SshEnd, SshError};
use maqet_domain::text::escaped;

use crate::guest::control::Control;
use crate::guest::pump::PumpEnd;
use crate::guest::request::at;
use crate::guest::streams::ExecStreams;
use crate::limits;

/// The exit code of ssh(1) if the connection has failed.
const FAILED: u8 = 255;

/// One direction out of the guest.
#[derive(Debug)]
struct Passing {
    stream: GuestStream,
    /// On its way to the caller.
    pending: Vec<u8>,
    /// Whether more may come.
    is_open: bool,
    /// Whether the caller still reads it.
    is_read: bool,
    bytes: u64,
}

/// The state of a command that has begun.
pub(super) struct Pump<'a> {
    client: &'a dyn SshClient,
    streams: &'a dyn ExecStreams,
    control: Control<'a>,
    outputs: [Passing; 2],
    /// On its way to the guest.
    input: Vec<u8>,
    is_input_open: bool,
}

impl<'a> Pump<'a> {
    /// `first` is what has come of each stream already.
    pub(super) fn new(
        client: &'a dyn SshClient,
        streams: &'a dyn ExecStreams,
        control: Control<'a>,
        [out, err]: [Vec<u8>; 2],
    ) -> Self {
        let passing = |stream, pending| Passing { stream, pending, is_open: true, is_read: true, bytes: 0 };
        Self {
            client,
            control,
            outputs: [passing(GuestStream::Out, out), passing(GuestStream::Err, err)],
            input: Vec::new(),
            is_input_open: streams.has_input(),
            streams,
        }
    }

    /// Returns how many bytes of standard output and standard error were passed on.
    pub(super) fn bytes(&self) -> [u64; 2] {
        [self.outputs[0].bytes, self.outputs[1].bytes]
    }

    /// Passes bytes on until the command has ended.
    pub(super) async fn run(&mut self) -> Result<PumpEnd, SshError> {
        let (client, streams) = (self.client, self.streams);
        loop {
            if self.control.has_given_up() {
                return Ok(self.control.end(None).unwrap_or(PumpEnd::Lost(None)));
            }
            let has_output = self.outputs.iter().any(|output| output.is_open || !output.pending.is_empty());
            self.control.start_next();
            let [reads_out, reads_err] = [0, 1].map(|index| self.outputs[index].takes());
            let [writes_out, writes_err] = [0, 1].map(|index| !self.outputs[index].pending.is_empty());
            let reads_input = self.is_input_open && self.input.is_empty();
            let due = self.control.due_at();
            tokio::select! {
                bytes = client.read(GuestStream::Out), if reads_out => self.outputs[0].received(bytes?),
                bytes = client.read(GuestStream::Err), if reads_err => self.outputs[1].received(bytes?),
                is_read = streams.writable(GuestStream::Out), if writes_out => self.pass_on(0, is_read),
                is_read = streams.writable(GuestStream::Err), if writes_err => self.pass_on(1, is_read),
                bytes = streams.read(), if reads_input => self.typed(bytes),
                sent = client.write(&self.input), if !self.input.is_empty() => self.sent(sent?),
                signal = streams.signal() => self.control.signal(signal),
                size = streams.resized() => self.control.resize(size),
                _ = self.control.answer() => {}
                end = client.end(), if !has_output => return Ok(self.ended(end?)),
                () = at(due) => self.control.tick(false),
            }
        }
    }

    fn pass_on(&mut self, index: usize, is_read: bool) {
        let output = &mut self.outputs[index];
        let bytes = std::mem::take(&mut output.pending);
        if output.is_read && !is_read {
            // As a pipe does.
            self.control.send(ProcessSignal::Pipe);
        }
        output.is_read &= is_read;
        output.bytes += bytes.len() as u64;
        if output.is_read {
            self.streams.write(output.stream, bytes);
        }
    }

    /// Takes input of the user.
    fn typed(&mut self, bytes: Vec<u8>) {
        if bytes.is_empty() {
            self.is_input_open = false;
            self.client.end_input();
        }
        self.input = bytes;
    }

    fn sent(&mut self, length: usize) {
        if length == 0 {
            // Nothing reads it any more.
            (self.is_input_open, self.input) = (false, Vec::new());
        } else {
            self.input.drain(..length);
        }
    }

    fn ended(&self, SshEnd { code, message }: SshEnd) -> PumpEnd {
        let exit = code.filter(|code| *code != FAILED || message.is_empty()).map(ExitStatus::Code);
        let reason = || format!("the connection has ended: {}", escaped(&message, limits::MAX_REASON_CHARS));
        let lost = || PumpEnd::Lost((!message.is_empty()).then(reason));
        self.control.end(exit).unwrap_or_else(|| exit.map_or_else(lost, PumpEnd::Exited))
    }
}

impl Passing {
    /// Returns whether more is read.
    const fn takes(&self) -> bool {
        self.is_open && self.pending.is_empty()
    }

    fn received(&mut self, bytes: Vec<u8>) {
        self.is_open = !bytes.is_empty();
        self.pending = bytes;
    }
}
