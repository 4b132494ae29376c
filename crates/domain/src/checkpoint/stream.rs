//! Takes the memory out of a migration stream of QEMU, and keeps the rest a valid stream.
//!
//! A stream has a header, the name of the machine type, the pages of all RAM blocks in the parts of one section `ram`,
//! and the state of each device in a full section. The pages of one block, the memory of the guest, are taken out:
//! QEMU maps them from a file. Everything else is kept as it is, byte by byte: the list of the blocks, by which QEMU
//! checks the size of the mapped block; the pages of all other blocks, such as the video memory; and everything from the
//! first full section on, whose format only the devices know. A stream ends with a description of these sections.
//!
//! What is not known is refused (ADR 74): another version of the stream or of the section, capabilities that
//! change its format, compressed pages, other sections that come in parts. A stream is complete only if it has every
//! page of every block, and a description that ends where the stream does and names devices that are there, in that
//! order. Nothing can tell that the content of a page changed: that is what checksums are for.
//!
//! The format is that of QEMU 2.4 and later (`migration/savevm.c`, `migration/ram.c`); read here are streams of 7.2 and
//! 10.0.

mod blocks;
mod description;
mod input;

use self::blocks::Blocks;
use self::input::Input;
use crate::error::{Explain, Explanation, Fault};

/// The size of a page of the guest, in bytes; that of x86.
pub const PAGE_BYTES: usize = 4096;

/// The longest name, of a machine type here.
const MAX_NAME_BYTES: usize = 255;

/// The largest state of devices that is read; without the memory of graphics cards it has less than 1 MiB.
pub const MAX_DEVICE_STATE_BYTES: usize = 256 << 20;

const MAGIC: &[u8] = b"QEVM";
const VERSION: u32 = 3;
const RAM: &[u8] = b"ram";
const RAM_VERSION: u32 = 4;

/// What the next record is (`QEMU_VM_…`).
const SECTION_START: u8 = 1;
const SECTION_PART: u8 = 2;
const SECTION_END: u8 = 3;
const SECTION_FULL: u8 = 4;
const CONFIGURATION: u8 = 7;
const COMMAND: u8 = 8;
const FOOTER: u8 = 0x7e;

/// The command that precedes the last part of a migration (`MIG_CMD_SWITCHOVER_START`, 10.0); it has no data.
const SWITCHOVER_START: u16 = 11;

/// The flags of a record of the section `ram` (`RAM_SAVE_FLAG_…`), in the low bits of an address.
const ZERO: u64 = 0x02;
const BLOCK_LIST: u64 = 0x04;
const PAGE: u64 = 0x08;
const END_OF_SECTION: u64 = 0x10;
const SAME_BLOCK: u64 = 0x20;
const FLAGS: u64 = PAGE_BYTES as u64 - 1;

/// Why a stream cannot be taken apart; `at` is the offset of the record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum StreamError {
    /// It has something that this maqet does not know.
    #[error("the saved state has {what} (at byte {at})")]
    Unsupported { at: u64, what: String },
    /// No QEMU writes it.
    #[error("the saved state is damaged at byte {at}: {what}")]
    Corrupt { at: u64, what: String },
    /// It ends too early, or lacks pages.
    #[error("the saved state is incomplete: {what}")]
    Incomplete { what: String },
}

impl Explain for StreamError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Unsupported { .. } => Explanation::new("checkpoint.stream-unsupported", Fault::Failed)
                .hint("report it: maqet does not know this format of QEMU"),
            Self::Corrupt { .. } | Self::Incomplete { .. } => {
                Explanation::new("checkpoint.stream-corrupt", Fault::Failed).hint("take the checkpoint again")
            }
        }
    }
}

/// A part of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'i> {
    /// It stays in the stream.
    State(&'i [u8]),
    /// A page of the memory.
    Page {
        /// Where, in the memory; a multiple of [`PAGE_BYTES`].
        offset: u64,
        /// Its content, of [`PAGE_BYTES`].
        content: &'i [u8],
    },
    /// A page of the memory that is all zeros.
    ZeroPage {
        /// Where, in the memory.
        offset: u64,
    },
}

/// A RAM block of a machine, as QEMU names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RamBlock {
    /// Its name, as in `pc.ram`.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// What a complete stream says about its machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamFacts {
    /// The machine type, with its version.
    pub machine_type: String,
    /// The block whose pages were taken out.
    pub memory: RamBlock,
}

/// Reads a stream from its beginning, as it comes.
#[derive(Debug)]
pub struct StreamReader {
    state: State,
    /// The offset of the next record.
    at: u64,
    machine_type: String,
    /// The number of the section `ram`, once it began.
    ram: Option<u32>,
    blocks: Blocks,
    /// Everything from the first full section on.
    devices: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Configuration,
    Record,
    /// In the list of blocks, of which these bytes are still to come.
    BlockList {
        remaining: u64,
    },
    Ram {
        is_first: bool,
    },
    Footer,
    Devices,
}

impl StreamReader {
    /// Reads a stream of which the pages of the block `memory` are taken out.
    pub fn new(memory: &str) -> Self {
        Self {
            state: State::Header,
            at: 0,
            machine_type: String::new(),
            ram: None,
            blocks: Blocks::new(memory),
            devices: Vec::new(),
        }
    }

    /// Takes the next piece from `input`, which follows what was taken before, and returns it with its length; `None` if
    /// `input` ends before the piece does, which has at most some 4.5 KiB.
    ///
    /// After an error, nothing more can be read.
    pub fn take<'i>(&mut self, input: &'i [u8]) -> Result<Option<(Piece<'i>, usize)>, StreamError> {
        if input.is_empty() {
            return Ok(None);
        }
        let mut record = Input::new(input);
        let page = match self.state {
            State::Header => self.header(&mut record)?.map(|()| None),
            State::Configuration => self.configuration(&mut record)?.map(|()| None),
            State::Record => self.record(&mut record)?.map(|()| None),
            State::BlockList { remaining } => self.block(&mut record, remaining)?.map(|()| None),
            State::Ram { is_first: true } => self.list_head(&mut record)?.map(|()| None),
            State::Ram { is_first: false } => self.page(&mut record)?.map(Some),
            State::Footer => self.footer(&mut record)?.map(|()| None),
            State::Devices => self.device_state(&mut record)?.map(|()| None),
        };
        let taken = record.taken();
        Ok(page.map(|page| {
            self.at += taken.len() as u64;
            (page.unwrap_or(Piece::State(taken)), taken.len())
        }))
    }

    /// Checks that the stream is complete, once everything was taken.
    pub fn finish(self) -> Result<StreamFacts, StreamError> {
        if self.state != State::Devices {
            return Err(incomplete("it ends in the middle"));
        }
        description::check(&self.devices)?;
        let memory = self.blocks.complete()?;
        Ok(StreamFacts { machine_type: self.machine_type, memory })
    }

    fn header(&mut self, record: &mut Input<'_>) -> Result<Option<()>, StreamError> {
        let (Some(magic), Some(version)) = (record.bytes(MAGIC.len()), record.u32()) else { return Ok(None) };
        if magic != MAGIC {
            return Err(self.corrupt("it does not begin as a migration stream"));
        }
        if version != VERSION {
            return Err(self.unsupported(format!("version {version} of the format")));
        }
        self.state = State::Configuration;
        Ok(Some(()))
    }

    fn configuration(&mut self, record: &mut Input<'_>) -> Result<Option<()>, StreamError> {
        let (Some(kind), Some(length)) = (record.u8(), record.u32()) else { return Ok(None) };
        if kind != CONFIGURATION {
            return Err(self.unsupported("no machine type"));
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > MAX_NAME_BYTES {
            return Err(self.corrupt("the name of the machine type is too long"));
        }
        let Some(name) = record.bytes(length) else { return Ok(None) };
        self.machine_type = self.text(name)?;
        self.state = State::Record;
        Ok(Some(()))
    }

    /// Reads the beginning of a section, or a command.
    fn record(&mut self, record: &mut Input<'_>) -> Result<Option<()>, StreamError> {
        let Some(kind) = record.u8() else { return Ok(None) };
        match kind {
            SECTION_START => self.section_start(record),
            SECTION_PART | SECTION_END => {
                let Some(section) = record.u32() else { return Ok(None) };
                if self.ram != Some(section) {
                    return Err(self.corrupt(&format!("section {section} goes on, and did not begin")));
                }
                self.state = State::Ram { is_first: false };
                Ok(Some(()))
            }
            SECTION_FULL => {
                // Nothing can tell where the section ends, and pages that follow it would not be found.
                if !self.blocks.are_complete() {
                    return Err(self.unsupported("devices before the last page of memory"));
                }
                record.untake();
                self.state = State::Devices;
                self.device_state(record)
            }
            COMMAND => {
                let (Some(command), Some(length)) = (record.u16(), record.u16()) else { return Ok(None) };
                if (command, length) != (SWITCHOVER_START, 0) {
                    return Err(self.unsupported(format!("command {command} with {length} bytes")));
                }
                Ok(Some(()))
            }
            other => Err(self.unsupported(format!("a record of kind {other}"))),
        }
    }

    fn section_start(&mut self, record: &mut Input<'_>) -> Result<Option<()>, StreamError> {
        let (Some(section), Some(name)) = (record.u32(), record.name()) else { return Ok(None) };
        let (Some(instance), Some(version)) = (record.u32(), record.u32()) else { return Ok(None) };
        if name != RAM {
            return Err(self.unsupported(format!("section `{}`", String::from_utf8_lossy(name).escape_debug())));
        }
        if (instance, version) != (0, RAM_VERSION) {
            return Err(self.unsupported(format!("version {version} of section `ram`")));
        }
        if self.ram.replace(section).is_some() {
            return Err(self.corrupt("section `ram` begins twice"));
        }
        self.state = State::Ram { is_first: true };
        Ok(Some(()))
    }

    /// Reads what the first record of the section `ram` begins with.
    fn list_head(&mut self, record: &mut Input<'_>) -> Result<Option<()>, StreamError> {
        let Some(word) = record.u64() else { return Ok(None) };
        if word & FLAGS != BLOCK_LIST {
            return Err(self.corrupt("section `ram` begins without the list of its blocks"));
        }
        self.state = State::BlockList { remaining: word & !FLAGS };
        Ok(Some(()))
    }

    /// Reads another record of the section `ram`.
    fn page<'i>(&mut self, record: &mut Input<'i>) -> Result<Option<Piece<'i>>, StreamError> {
        let Some(word) = record.u64() else { return Ok(None) };
        let (offset, flags) = (word & !FLAGS, word & FLAGS);
        match flags & !SAME_BLOCK {
            END_OF_SECTION if word == END_OF_SECTION => {
                self.state = State::Footer;
                return Ok(Some(Piece::State(record.taken())));
            }
            ZERO | PAGE => {}
            _ => return Err(self.unsupported(format!("pages of kind {flags:#x}"))),
        }
        if flags & SAME_BLOCK == 0 {
            let Some(name) = record.name() else { return Ok(None) };
            self.blocks.select(name).map_err(|what| self.corrupt(&what))?;
        }
        let content = if flags & PAGE == 0 {
            let Some(fill) = record.u8() else { return Ok(None) };
            if fill != 0 {
                return Err(self.unsupported(format!("a page filled with {fill:#x}")));
            }
            None
        } else {
            let Some(content) = record.bytes(PAGE_BYTES) else { return Ok(None) };
            Some(content)
        };
        let is_memory = self.blocks.seen(offset).map_err(|what| self.corrupt(&what))?;
        Ok(Some(match content {
            _ if !is_memory => Piece::State(record.taken()),
            Some(content) => Piece::Page { offset, content },
            None => Piece::ZeroPage { offset },
        }))
    }

    fn block(&mut self, record: &mut Input<'_>, remaining: u64) -> Result<Option<()>, StreamError> {
        if remaining == 0 {
            let Some(word) = record.u64() else { return Ok(None) };
            if word != END_OF_SECTION {
                return Err(self.unsupported("an unknown field in the list of RAM blocks"));
            }
            self.blocks.end_of_list().map_err(|what| StreamError::Unsupported { at: self.at, what })?;
            self.state = State::Footer;
            return Ok(Some(()));
        }
        let (Some(name), Some(bytes)) = (record.name(), record.u64()) else { return Ok(None) };
        let left =
            remaining.checked_sub(bytes).ok_or_else(|| self.corrupt("a RAM block is larger than all of them"))?;
        let name = self.text(name)?;
        self.blocks.add(RamBlock { name, bytes }).map_err(|what| self.corrupt(&what))?;
        self.state = State::BlockList { remaining: left };
        Ok(Some(()))
    }

    fn footer(&mut self, record: &mut Input<'_>) -> Result<Option<()>, StreamError> {
        let (Some(kind), Some(section)) = (record.u8(), record.u32()) else { return Ok(None) };
        if kind != FOOTER || Some(section) != self.ram {
            return Err(self.unsupported("no footer after a section"));
        }
        self.state = State::Record;
        Ok(Some(()))
    }

    fn device_state(&mut self, record: &mut Input<'_>) -> Result<Option<()>, StreamError> {
        let rest = record.rest();
        if self.devices.len().saturating_add(rest.len()) > MAX_DEVICE_STATE_BYTES {
            let mib = MAX_DEVICE_STATE_BYTES >> 20;
            return Err(self.unsupported(format!("more than {mib} MiB of state of its devices")));
        }
        self.devices.extend_from_slice(rest);
        Ok(Some(()))
    }

    fn text(&self, bytes: &[u8]) -> Result<String, StreamError> {
        let text = std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty() && !text.contains('\0'));
        text.map(str::to_owned).ok_or_else(|| self.corrupt("a name is not text"))
    }

    fn unsupported(&self, what: impl Into<String>) -> StreamError {
        StreamError::Unsupported { at: self.at, what: what.into() }
    }

    fn corrupt(&self, what: &str) -> StreamError {
        StreamError::Corrupt { at: self.at, what: what.to_owned() }
    }
}

fn incomplete(what: impl Into<String>) -> StreamError {
    StreamError::Incomplete { what: what.into() }
}

#[cfg(test)]
mod tests;
