//! The bytes of a stream that were read so far.

/// What follows what was taken; each method returns `None` if the input ends before.
#[derive(Debug)]
pub(super) struct Input<'i> {
    bytes: &'i [u8],
    taken: usize,
}

impl<'i> Input<'i> {
    pub(super) const fn new(bytes: &'i [u8]) -> Self {
        Self { bytes, taken: 0 }
    }

    pub(super) fn bytes(&mut self, length: usize) -> Option<&'i [u8]> {
        let bytes = self.bytes.get(self.taken..self.taken.checked_add(length)?)?;
        self.taken += length;
        Some(bytes)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// Takes a name, which follows its length in one byte.
    pub(super) fn name(&mut self) -> Option<&'i [u8]> {
        let length = self.u8()?;
        self.bytes(length.into())
    }

    pub(super) fn rest(&mut self) -> &'i [u8] {
        let rest = &self.bytes[self.taken..];
        self.taken = self.bytes.len();
        rest
    }

    /// Puts back what was taken.
    pub(super) const fn untake(&mut self) {
        self.taken = 0;
    }

    /// Returns what was taken.
    pub(super) fn taken(&self) -> &'i [u8] {
        &self.bytes[..self.taken]
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }
}
