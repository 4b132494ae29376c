//! The checksums of the pages of a memory.

use std::collections::BTreeMap;

use maqet_domain::checkpoint::PAGE_BYTES;

/// How many pages have their checksums together.
const GROUP_PAGES: usize = 512;
const GROUP_BYTES: u64 = (GROUP_PAGES * PAGE_BYTES) as u64;

/// The checksums of the pages that are not all zeros; of them, the checksum of a
/// [`MemoryFile`](maqet_domain::checkpoint::MemoryFile) is made.
///
/// They are kept until the end, as QEMU sends the pages in any order, and one that changed again.
#[derive(Debug, Default)]
pub(super) struct PageSums {
    groups: BTreeMap<u64, Vec<Option<u32>>>,
}

impl PageSums {
    /// Notes the content of the page at `offset`.
    pub(super) fn set(&mut self, offset: u64, content: &[u8]) {
        *self.page(offset) = Some(crc32fast::hash(content));
    }

    /// Notes that the page at `offset` is all zeros; returns whether it was not.
    pub(super) fn clear(&mut self, offset: u64) -> bool {
        let is_known = self.groups.contains_key(&(offset / GROUP_BYTES));
        is_known && self.page(offset).take().is_some()
    }

    /// Returns the checksum, and how many bytes are in pages that are not all zeros.
    pub(super) fn finish(&self) -> (u32, u64) {
        let mut hasher = crc32fast::Hasher::new();
        let mut used = 0;
        for (group, pages) in &self.groups {
            let offsets = (group * GROUP_BYTES..).step_by(PAGE_BYTES);
            for (offset, sum) in offsets.zip(pages) {
                let Some(sum) = sum else { continue };
                hasher.update(&offset.to_le_bytes());
                hasher.update(&sum.to_le_bytes());
                used += PAGE_BYTES as u64;
            }
        }
        (hasher.finalize(), used)
    }

    fn page(&mut self, offset: u64) -> &mut Option<u32> {
        let group = self.groups.entry(offset / GROUP_BYTES).or_insert_with(|| vec![None; GROUP_PAGES]);
        // Less than the pages of a group, which fits.
        &mut group[usize::try_from(offset % GROUP_BYTES).unwrap_or_default() / PAGE_BYTES]
    }
}

/// Returns whether a page is all zeros.
pub(super) fn is_zero(content: &[u8]) -> bool {
    const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
    content == &ZEROS[..content.len().min(PAGE_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_sums_do_not_depend_on_the_order() {
        let page = |fill| [fill; PAGE_BYTES];
        let mut ascending = PageSums::default();
        ascending.set(0, &page(1));
        ascending.set(GROUP_BYTES * 7 + 4096, &page(2));
        let mut other = PageSums::default();
        other.set(GROUP_BYTES * 7 + 4096, &page(3));
        other.set(8192, &page(9));
        other.set(GROUP_BYTES * 7 + 4096, &page(2));
        other.set(0, &page(1));

        assert_ne!(ascending.finish(), other.finish());
        assert!(other.clear(8192));
        assert!(!other.clear(8192) && !other.clear(1 << 40));
        assert_eq!(ascending.finish(), other.finish());
        assert_eq!(ascending.finish().1, 8192);
    }

    #[test]
    fn test_sum_is_that_of_the_documented_list() {
        let mut sums = PageSums::default();
        sums.set(4096, &[7; PAGE_BYTES]);
        let list = [&4096_u64.to_le_bytes()[..], &crc32fast::hash(&[7; PAGE_BYTES]).to_le_bytes()].concat();

        assert_eq!(sums.finish().0, crc32fast::hash(&list));
    }
}
