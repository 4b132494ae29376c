//! The RAM blocks of a stream, and which of their pages it has.

use std::collections::BTreeMap;

use super::{PAGE_BYTES, RamBlock, StreamError, incomplete};

/// More RAM blocks than a machine has: each memory device and each ROM is one.
const MAX_BLOCKS: usize = 4096;

/// The largest block, as large as the memory of x86 guests can be (`phys_bits` of 52).
const MAX_BLOCK_BYTES: u64 = 1 << 52;

/// How many pages have their bits together: those of 128 MiB, in 4 KiB.
const GROUP_PAGES: u64 = GROUP_WORDS as u64 * 64;
const GROUP_WORDS: usize = 512;

#[derive(Debug)]
pub(super) struct Blocks {
    /// The name of the block whose pages are taken out.
    memory: String,
    list: Vec<Block>,
    /// The block of the last record.
    current: Option<usize>,
    /// How many pages of all blocks are still to come.
    missing: u64,
    is_listed: bool,
}

#[derive(Debug)]
struct Block {
    ram: RamBlock,
    is_memory: bool,
    /// One bit for each page that was seen, in groups.
    seen: BTreeMap<u64, Vec<u64>>,
    missing: u64,
}

impl Blocks {
    pub(super) fn new(memory: &str) -> Self {
        Self { memory: memory.to_owned(), list: Vec::new(), current: None, missing: 0, is_listed: false }
    }

    /// Adds a block of the list; an error says what is wrong.
    pub(super) fn add(&mut self, ram: RamBlock) -> Result<(), String> {
        if ram.bytes == 0 || !ram.bytes.is_multiple_of(PAGE_BYTES as u64) || ram.bytes > MAX_BLOCK_BYTES {
            return Err(format!("RAM block `{}` has {} bytes", ram.name.escape_debug(), ram.bytes));
        }
        if self.list.len() >= MAX_BLOCKS {
            return Err("it has too many RAM blocks".to_owned());
        }
        if self.list.iter().any(|block| block.ram.name == ram.name) {
            return Err(format!("RAM block `{}` is listed twice", ram.name.escape_debug()));
        }
        let missing = ram.bytes / PAGE_BYTES as u64;
        // All of them together have at most 2^64 bytes, as the list says.
        self.missing += missing;
        let is_memory = ram.name == self.memory;
        self.list.push(Block { ram, is_memory, seen: BTreeMap::new(), missing });
        Ok(())
    }

    /// Ends the list; an error says what it has instead of the memory.
    pub(super) fn end_of_list(&mut self) -> Result<(), String> {
        self.is_listed = true;
        if self.list.iter().any(|block| block.is_memory) {
            return Ok(());
        }
        let names: Vec<String> = self.list.iter().map(|block| format!("`{}`", block.ram.name.escape_debug())).collect();
        Err(format!("no RAM block `{}`, but {}", self.memory, names.join(", ")))
    }

    /// Makes the block of this name the one of the next records; an error says what is wrong.
    pub(super) fn select(&mut self, name: &[u8]) -> Result<(), String> {
        self.current = self.list.iter().position(|block| block.ram.name.as_bytes() == name);
        match self.current {
            Some(_) => Ok(()),
            None => Err(format!("a page is of unknown RAM block `{}`", String::from_utf8_lossy(name).escape_debug())),
        }
    }

    /// Notes a page of the current block; returns whether it is one of the memory. An error says what is wrong.
    pub(super) fn seen(&mut self, offset: u64) -> Result<bool, String> {
        let current = self.current.and_then(|index| self.list.get_mut(index));
        let block = current.ok_or("a page is of no RAM block")?;
        if offset >= block.ram.bytes {
            return Err(format!("a page is outside of RAM block `{}`", block.ram.name.escape_debug()));
        }
        if block.note(offset / PAGE_BYTES as u64) {
            self.missing -= 1;
        }
        Ok(block.is_memory)
    }

    /// Returns whether every page of every block was seen.
    pub(super) const fn are_complete(&self) -> bool {
        self.is_listed && self.missing == 0
    }

    /// Returns the memory, if every page of every block was seen.
    pub(super) fn complete(self) -> Result<RamBlock, StreamError> {
        if let Some(block) = self.list.iter().find(|block| block.missing > 0) {
            let name = block.ram.name.escape_debug();
            return Err(incomplete(format!("{} pages of RAM block `{name}` are missing", block.missing)));
        }
        let memory = self.list.into_iter().find(|block| block.is_memory);
        memory.map(|block| block.ram).ok_or_else(|| incomplete("it has no memory"))
    }
}

impl Block {
    /// Notes a page; returns whether it is new.
    fn note(&mut self, page: u64) -> bool {
        let (word, bit) = (page % GROUP_PAGES / 64, page % 64);
        let words = self.seen.entry(page / GROUP_PAGES).or_insert_with(|| vec![0; GROUP_WORDS]);
        let Some(word) = usize::try_from(word).ok().and_then(|word| words.get_mut(word)) else { return false };
        let is_new = *word & (1 << bit) == 0;
        *word |= 1 << bit;
        self.missing -= u64::from(is_new);
        is_new
    }
}
