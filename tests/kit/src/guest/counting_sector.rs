//! A guest of 512 bytes that writes to two disks for as long as it runs, and what its disks have at any moment.

use std::path::PathBuf;

use crate::TestHome;

/// How many places of a disk the guest writes to, one after the other.
const PLACES: u32 = 2048;

/// How far apart they are: four in each cluster of 64 KiB.
const STRIDE_BYTES: usize = 16 << 10;

const SECTOR_BYTES: usize = 512;

/// A guest that counts: it writes each number to its place on the second disk of the BIOS, and then on the third.
///
/// It waits for each write. So a copy of a disk as it was at one moment has exactly the numbers up to one, and of two disks
/// at the same moment, the second has the same number or the one before.
#[derive(Debug, Clone, Copy)]
pub struct CountingGuest;

impl CountingGuest {
    /// The size that its disks have at least.
    pub const DISK_BYTES: usize = PLACES as usize * STRIDE_BYTES;

    /// Writes the boot disk into `home`, and returns its path.
    #[must_use]
    pub fn write(home: &TestHome) -> PathBuf {
        let mut image = CODE.to_vec();
        image.resize(510, 0);
        image.extend([0x55, 0xaa]);
        home.write("counting.img", image)
    }

    /// Returns the content of a disk of `bytes` once the guest wrote the numbers up to `last`.
    #[must_use]
    pub fn disk_after(last: u32, bytes: usize) -> Vec<u8> {
        let mut disk = vec![0; bytes];
        for number in last.saturating_sub(PLACES - 1).max(1)..=last {
            let at = (number % PLACES) as usize * STRIDE_BYTES;
            disk[at..at + SECTOR_BYTES].copy_from_slice(&number.to_le_bytes().repeat(SECTOR_BYTES / 4));
        }
        disk
    }

    /// Returns the largest number on a disk.
    #[must_use]
    pub fn last_number(disk: &[u8]) -> u32 {
        let number = |sector: &[u8]| sector.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        disk.chunks(STRIDE_BYTES).map(number).max().unwrap_or_default()
    }
}

const CODE: [u8; 0x50] = [
    0x31, 0xc0, //                               xor ax, ax
    0x8e, 0xd8, //                               mov ds, ax
    0x8e, 0xc0, //                               mov es, ax
    0xfc, //                                     cld
    // next, at 0x7c07:
    0x66, 0xff, 0x06, 0x4c, 0x7c, //             inc dword [number]
    0x66, 0xa1, 0x4c, 0x7c, //                   mov eax, [number]
    0xbf, 0x00, 0x80, //                         mov di, 0x8000
    0xb9, 0x80, 0x00, //                         mov cx, 128
    0xf3, 0x66, 0xab, //                         rep stosd
    0x66, 0x25, 0xff, 0x07, 0x00, 0x00, //       and eax, 2047
    0x66, 0xc1, 0xe0, 0x05, //                   shl eax, 5
    0x66, 0xa3, 0x44, 0x7c, //                   mov [packet + 8], eax
    0xb2, 0x81, //                               mov dl, 0x81
    0xe8, 0x07, 0x00, //                         call write
    0xb2, 0x82, //                               mov dl, 0x82
    0xe8, 0x02, 0x00, //                         call write
    0xeb, 0xd4, //                               jmp next
    // write, at 0x7c33:
    0xbe, 0x3c, 0x7c, //                         mov si, packet
    0xb8, 0x00, 0x43, //                         mov ax, 0x4300   ; extended write
    0xcd, 0x13, //                               int 0x13
    0xc3, //                                     ret
    // packet, at 0x7c3c: its size, one sector, from 0000:8000, to a block
    0x10, 0x00, 0x01, 0x00, 0x00, 0x80, 0x00, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, //
    // number, at 0x7c4c:
    0, 0, 0, 0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_disk_after_has_the_newest_number_of_each_place() {
        let disk = CountingGuest::disk_after(PLACES + 1, CountingGuest::DISK_BYTES);

        assert_eq!(CountingGuest::last_number(&disk), PLACES + 1);
        assert_eq!(disk[STRIDE_BYTES..][..4], (PLACES + 1).to_le_bytes());
        assert_eq!(disk[2 * STRIDE_BYTES..][..4], 2_u32.to_le_bytes());
        assert_eq!(disk[2 * STRIDE_BYTES + SECTOR_BYTES..][..4], [0; 4]);
    }
}
