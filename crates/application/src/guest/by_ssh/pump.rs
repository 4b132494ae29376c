//! Passes the streams of a command on that ssh(1) runs.
//!
//! The command has ended once ssh(1) has, which waits until nothing in the guest has its output open. How it exited is at the
//! end of both streams: without that, the connection was lost.

use maqet_domain::guest::{ExitRecord, ExitStatus, GuestStream, Nonce, ProcessSignal};
use maqet_domain::port::{SshClient, SshEnd, SshError};
use maqet_domain::text::escaped;
use tokio::time::Instant;

use crate::guest::control::Control;
use crate::guest::passing::Passing;
use crate::guest::pump::PumpEnd;
use crate::guest::request::at;
use crate::guest::streams::ExecStreams;
use crate::guest::watch::Watch;
use crate::limits;

/// One direction out of the guest.
#[derive(Debug)]
struct Output {
    record: ExitRecord,
    /// Whether more may come.
    is_open: bool,
    /// When what may be the beginning of the record is passed on.
    release_at: Option<Instant>,
}

/// What the pump works with.
pub(super) struct PumpSetup<'a> {
    pub(super) client: &'a dyn SshClient,
    pub(super) streams: &'a dyn ExecStreams,
    pub(super) nonce: &'a Nonce,
    pub(super) watch: Watch<'a>,
}

/// The state of a command that has begun.
pub(super) struct Pump<'a> {
    setup: PumpSetup<'a>,
    control: Control<'a>,
    passing: Passing<'a>,
    outputs: [Output; 2],
}

impl<'a> Pump<'a> {
    /// `first` is what has come of each stream already.
    pub(super) fn new(setup: PumpSetup<'a>, control: Control<'a>, first: [Vec<u8>; 2]) -> Self {
        let output = || Output { record: ExitRecord::new(setup.nonce), is_open: true, release_at: None };
        let (passing, outputs) = (Passing::new(setup.streams), [output(), output()]);
        let mut pump = Self { setup, control, passing, outputs };
        for (index, bytes) in first.into_iter().enumerate().filter(|(_, bytes)| !bytes.is_empty()) {
            pump.received(index, bytes);
        }
        pump
    }

    /// Returns how many bytes of standard output and standard error were passed on.
    pub(super) fn bytes(&self) -> [u64; 2] {
        self.passing.bytes()
    }

    /// Passes bytes on until the command has ended.
    pub(super) async fn run(&mut self) -> Result<PumpEnd, SshError> {
        let PumpSetup { client, streams, .. } = self.setup;
        loop {
            if self.control.has_given_up() {
                return Ok(self.exited().unwrap_or(PumpEnd::Lost(None)));
            }
            self.control.start_next();
            self.setup.watch.start_if_due();
            let [writes_out, writes_err] = [0, 1].map(|index| self.passing.has_pending(index));
            let [reads_out, reads_err] = [0, 1].map(|index| self.takes(index));
            let has_output = !self.passing.is_passed_on() || self.outputs.iter().any(|output| output.is_open);
            let due = self.due_at();
            tokio::select! {
                bytes = client.read(GuestStream::Out), if reads_out => self.received(0, bytes?),
                bytes = client.read(GuestStream::Err), if reads_err => self.received(1, bytes?),
                is_read = streams.writable(GuestStream::Out), if writes_out => self.pass_on(0, is_read),
                is_read = streams.writable(GuestStream::Err), if writes_err => self.pass_on(1, is_read),
                bytes = streams.read(), if self.passing.takes_input() => self.typed(bytes),
                sent = client.write(self.passing.input()), if !self.passing.input().is_empty() => self.passing.sent(sent?),
                signal = streams.signal() => self.control.signal(signal),
                size = streams.resized() => self.control.resize(size),
                _ = self.control.answer() => {}
                end = self.setup.watch.answer() => if let Some(end) = end { return Ok(self.exited().unwrap_or(end)) },
                end = client.end(), if !has_output => return Ok(self.ended(&end?)),
                () = at(due) => self.tick(),
            }
        }
    }

    /// Returns whether more of a stream is read.
    fn takes(&self, index: usize) -> bool {
        self.outputs[index].is_open && !self.passing.has_pending(index)
    }

    /// Returns when something is to be done next.
    fn due_at(&self) -> Option<Instant> {
        let [out, err] = [0, 1].map(|index| self.outputs[index].release_at.filter(|_| self.takes(index)));
        [out, err, self.control.due_at(), self.setup.watch.due_at()].into_iter().flatten().min()
    }

    fn tick(&mut self) {
        self.control.tick(self.exit().is_some());
        let now = Instant::now();
        for index in [0, 1] {
            if self.takes(index) && self.outputs[index].release_at.take_if(|at| now >= *at).is_some() {
                self.passing.received(index, self.outputs[index].record.release());
            }
        }
    }

    /// Takes output of the guest; none is its end.
    fn received(&mut self, index: usize, bytes: Vec<u8>) {
        let output = &mut self.outputs[index];
        output.is_open = !bytes.is_empty();
        let bytes = if output.is_open { output.record.push(bytes) } else { output.record.release() };
        output.release_at = output.record.is_holding().then(|| Instant::now() + limits::RECORD_DELAY);
        self.passing.received(index, bytes);
    }

    fn pass_on(&mut self, index: usize, is_read: bool) {
        if self.passing.pass_on(index, is_read) {
            self.control.send(ProcessSignal::Pipe);
        }
    }

    fn typed(&mut self, bytes: Vec<u8>) {
        if self.passing.typed(bytes) {
            self.setup.client.end_input();
        }
    }

    /// Returns how the command has exited, once all that it wrote has come.
    fn exit(&self) -> Option<ExitStatus> {
        let [out, err] = [0, 1].map(|index| self.outputs[index].record.code());
        out.and(err).map(ExitStatus::Code)
    }

    /// Returns how the command has ended, if it has or was made to.
    fn exited(&self) -> Option<PumpEnd> {
        let exit = self.exit();
        self.control.end(exit).or(exit.map(PumpEnd::Exited))
    }

    fn ended(&self, end: &SshEnd) -> PumpEnd {
        self.exited().unwrap_or_else(|| {
            let said = if end.message.is_empty() { "" } else { ": " };
            let message = escaped(&end.message, limits::MAX_REASON_CHARS);
            PumpEnd::Lost(Some(format!("the connection was lost{said}{message}")))
        })
    }
}
