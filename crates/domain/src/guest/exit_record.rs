//! How a command that is run by ssh(1) exited, as the shell says that waited for it.
//!
//! ssh(1) exits with 255 for a command that does, and for a connection that is lost; and with the exit code of the command if
//! the connection is lost while output is on its way. So the shell ends both streams with a record, which nothing precedes
//! on the way that was written later: with both, everything of the command has come.

use super::command::Nonce;

/// The first byte of a record: `EM`, end of medium.
const FIRST: u8 = 0x19;

/// The longest exit code.
const CODE_DIGITS: usize = 3;

/// Takes the record out of a stream of a command.
#[derive(Debug)]
pub struct ExitRecord {
    /// The record up to the exit code.
    head: Vec<u8>,
    /// What may be the beginning of the record.
    held: Vec<u8>,
    /// How much of that was passed on all the same.
    released: usize,
    code: Option<u8>,
}

/// What bytes that begin as a record are.
enum Match {
    /// A record of so many bytes.
    Record(usize, u8),
    /// The beginning of one.
    Beginning,
    /// None.
    Other,
}

impl ExitRecord {
    /// Returns that of the command with this nonce.
    pub fn new(nonce: &Nonce) -> Self {
        let head = [&[FIRST], nonce.to_string().as_bytes(), b" "].concat();
        Self { head, held: Vec::new(), released: 0, code: None }
    }

    /// Returns the lines of the script that write the record of a command that has exited with the code in `$code`.
    pub(super) fn script(nonce: &Nonce) -> String {
        let print = format!("printf '\\0{FIRST:02o}%s %s\\n' {nonce} \"$code\"");
        format!("{print}\n{print} >&2\n")
    }

    /// Returns whether a line is a record.
    pub fn is_record(line: &str) -> bool {
        line.as_bytes().first() == Some(&FIRST)
    }

    /// Returns the exit code, once the record was there.
    pub const fn code(&self) -> Option<u8> {
        self.code
    }

    /// Returns whether bytes are held back that may be the beginning of the record.
    pub fn is_holding(&self) -> bool {
        self.held.len() > self.released
    }

    /// Returns what of the next bytes the command has written.
    pub fn push(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        if self.code.is_some() || (self.held.is_empty() && !bytes.contains(&FIRST)) {
            return bytes;
        }
        self.held.extend(bytes);
        let mut start = 0;
        while let Some(at) = self.held[start..].iter().position(|byte| *byte == FIRST) {
            start += at;
            match self.examine(&self.held[start..]) {
                Match::Record(length, code) => {
                    self.code = Some(code);
                    self.held.drain(start..start + length);
                    // Those that were released are of the record itself if it is the first.
                    let released = std::mem::take(&mut self.released).min(start);
                    return std::mem::take(&mut self.held).split_off(released);
                }
                Match::Beginning if start == 0 => return Vec::new(),
                Match::Beginning => {
                    let beginning = self.held.split_off(start);
                    let before = std::mem::replace(&mut self.held, beginning);
                    return { before }.split_off(std::mem::take(&mut self.released));
                }
                Match::Other => start += 1,
            }
        }
        std::mem::take(&mut self.held).split_off(std::mem::take(&mut self.released))
    }

    /// Returns what is held back: nothing has followed for a while. It is a record all the same if the rest comes later.
    pub fn release(&mut self) -> Vec<u8> {
        let released = self.held[self.released..].to_vec();
        self.released = self.held.len();
        released
    }

    fn examine(&self, bytes: &[u8]) -> Match {
        let Some(rest) = bytes.strip_prefix(&self.head[..]) else {
            return if self.head.starts_with(bytes) { Match::Beginning } else { Match::Other };
        };
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits > CODE_DIGITS {
            return Match::Other;
        }
        if digits == rest.len() {
            return Match::Beginning;
        }
        let code = std::str::from_utf8(&rest[..digits]).ok().and_then(|digits| digits.parse().ok());
        match code {
            Some(code) if rest.get(digits) == Some(&b'\n') => Match::Record(self.head.len() + digits + 1, code),
            _ => Match::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonce() -> Nonce {
        Nonce::new([0xab; 16])
    }

    fn record(code: &str) -> Vec<u8> {
        [b"\x19", nonce().to_string().as_bytes(), b" ", code.as_bytes(), b"\n"].concat()
    }

    /// Returns what is passed on of a stream in pieces of this size, and the exit code.
    fn passed(stream: &[u8], size: usize) -> (Vec<u8>, Option<u8>) {
        let mut found = ExitRecord::new(&nonce());
        let mut passed: Vec<u8> = stream.chunks(size).flat_map(|piece| found.push(piece.to_vec())).collect();
        passed.extend(found.release());
        (passed, found.code())
    }

    #[test]
    fn test_exit_record_is_taken_out_in_any_pieces() {
        let stream = [b"a\x19b\x19\x19".to_vec(), record("255"), b"of a child".to_vec()].concat();

        for size in 1..stream.len() {
            assert_eq!(passed(&stream, size), (b"a\x19b\x19\x19of a child".to_vec(), Some(255)), "{size}");
        }
    }

    #[test]
    fn test_exit_record_that_is_none_is_passed_on() {
        let other = [b"\x19".to_vec(), Nonce::new([1; 16]).to_string().into_bytes(), b" 0\n".to_vec()].concat();
        let cut = &record("25")[..35];
        let streams = [record("256"), record(""), record("1x"), record("0007"), other, cut.to_vec(), b"\x19".to_vec()];

        for stream in streams {
            for size in 1..=stream.len() {
                assert_eq!(passed(&stream, size), (stream.clone(), None), "{size} {stream:?}");
            }
        }
    }

    /// The rest of a record may be late; what was passed on is not passed on again.
    #[test]
    fn test_exit_record_that_was_released_is_known_still() {
        let stream = [b"out".to_vec(), record("7"), b"more".to_vec()].concat();

        for cut in 1..stream.len() {
            let mut found = ExitRecord::new(&nonce());
            let mut passed = found.push(stream[..cut].to_vec());
            passed.extend(found.release());
            assert!(!found.is_holding());
            passed.extend(found.push(stream[cut..].to_vec()));

            let in_record = (3..3 + record("7").len()).contains(&cut);
            let leaked = if in_record { cut - 3 } else { 0 };
            let expected = [b"out", &record("7")[..leaked], b"more"].concat();
            assert_eq!((passed, found.code()), (expected, Some(7)), "{cut}");
        }
    }

    #[test]
    fn test_exit_record_that_was_released_and_is_none_comes_once() {
        let mut found = ExitRecord::new(&nonce());

        let mut passed = found.push(b"a\x19ab".to_vec());
        passed.extend(found.release());
        passed.extend(found.push(b"c\x19".to_vec()));
        passed.extend(found.push(b"d".to_vec()));

        assert_eq!(passed, b"a\x19abc\x19d");
    }
}
