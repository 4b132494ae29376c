//! The streams of a command, on their way between the guest and the caller.

use maqet_domain::guest::GuestStream;

use super::streams::ExecStreams;

/// What is on its way.
pub(super) struct Passing<'a> {
    streams: &'a dyn ExecStreams,
    /// Standard output and standard error.
    outputs: [Output; 2],
    /// What the guest has not taken yet.
    input: Vec<u8>,
    is_input_open: bool,
}

/// One direction out of the guest.
#[derive(Debug)]
struct Output {
    stream: GuestStream,
    pending: Vec<u8>,
    /// Whether the caller still reads it.
    is_read: bool,
    bytes: u64,
}

impl<'a> Passing<'a> {
    pub(super) fn new(streams: &'a dyn ExecStreams) -> Self {
        let output = |stream| Output { stream, pending: Vec::new(), is_read: true, bytes: 0 };
        Self {
            streams,
            outputs: [GuestStream::Out, GuestStream::Err].map(output),
            input: Vec::new(),
            is_input_open: streams.has_input(),
        }
    }

    /// Returns how many bytes of standard output and standard error were passed on.
    pub(super) fn bytes(&self) -> [u64; 2] {
        [self.outputs[0].bytes, self.outputs[1].bytes]
    }

    /// Takes what the command has written.
    pub(super) fn received(&mut self, index: usize, bytes: Vec<u8>) {
        self.outputs[index].pending.extend(bytes);
    }

    /// Returns whether the caller does not have all yet of what was received.
    pub(super) fn has_pending(&self, index: usize) -> bool {
        !self.outputs[index].pending.is_empty()
    }

    /// Returns whether the caller has everything that was received.
    pub(super) fn is_passed_on(&self) -> bool {
        self.outputs.iter().all(|output| output.pending.is_empty())
    }

    /// Passes output on, unless it is not read any more; returns whether that is new, which ends a command with a pipe.
    pub(super) fn pass_on(&mut self, index: usize, is_read: bool) -> bool {
        let output = &mut self.outputs[index];
        let bytes = std::mem::take(&mut output.pending);
        let is_closed = output.is_read && !is_read;
        output.is_read &= is_read;
        output.bytes += bytes.len() as u64;
        if output.is_read {
            self.streams.write(output.stream, bytes);
        }
        is_closed
    }

    /// Returns whether more input is to be read.
    pub(super) const fn takes_input(&self) -> bool {
        self.is_input_open && self.input.is_empty()
    }

    /// Takes input of the user; returns whether it has ended.
    pub(super) fn typed(&mut self, bytes: Vec<u8>) -> bool {
        self.is_input_open &= !bytes.is_empty();
        self.input = bytes;
        !self.is_input_open
    }

    /// Returns the input that is to be sent.
    pub(super) fn input(&self) -> &[u8] {
        &self.input
    }

    /// Notes how much of it was sent.
    pub(super) fn sent(&mut self, length: usize) {
        if length == 0 {
            // Nothing reads it any more.
            (self.is_input_open, self.input) = (false, Vec::new());
        } else {
            self.input.drain(..length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::streams::CapturedStreams;

    #[test]
    fn test_passing_to_a_caller_that_does_not_read_goes_on() {
        let streams = CapturedStreams::new(None, None);
        let mut passing = Passing::new(&streams);

        let mut closed = Vec::new();
        for (bytes, is_read) in [("a", true), ("b", false), ("c", false)] {
            passing.received(0, bytes.into());
            closed.push(passing.pass_on(0, is_read));
        }

        assert_eq!(closed, [false, true, false]);
        assert_eq!((passing.bytes(), passing.is_passed_on()), ([3, 0], true));
        assert_eq!(streams.take().stdout, b"a");
    }

    #[test]
    fn test_passing_of_input_ends_with_it_or_with_its_reader() {
        let streams = CapturedStreams::new(Some(Vec::new()), None);
        let passing = || Passing::new(&streams);

        let (mut ended, mut closed) = (passing(), passing());
        let states = [ended.typed(b"ab".to_vec()), closed.typed(b"ab".to_vec())];
        ended.sent(1);
        let left = (ended.input().to_vec(), ended.takes_input());
        ended.sent(1);
        let takes_more = ended.takes_input();
        closed.sent(0);

        assert_eq!((states, left, takes_more), ([false, false], (b"b".to_vec(), false), true));
        assert!(ended.typed(Vec::new()) && !ended.takes_input());
        assert!(closed.input().is_empty() && !closed.takes_input());
    }
}
