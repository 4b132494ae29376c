//! A guest of 512 bytes that counts: it writes each number to its disks and prints it.

use std::path::{Path, PathBuf};

use super::config::quoted;
use crate::TestHome;

/// The code; its counter is at 0x8000, in a buffer of one sector.
const CODE: [u8; 109] = [
    0x31, 0xc0, //             xor ax, ax
    0x8e, 0xd8, //             mov ds, ax
    0x8e, 0xc0, //             mov es, ax
    0x8e, 0xd0, //             mov ss, ax
    0xbc, 0x00, 0x7c, //       mov sp, 0x7c00
    0xbf, 0x00, 0x80, //       mov di, 0x8000
    0xb9, 0x00, 0x01, //       mov cx, 0x100
    0xfc, //                   cld
    0xf3, 0xab, //             rep stosw
    0xfb, //                   sti
    0xff, 0x06, 0x00, 0x80, // next: inc word [0x8000]
    0xb2, 0x80, //             mov dl, 0x80
    0xe8, 0x32, 0x00, //       call write
    0xb2, 0x81, //             mov dl, 0x81
    0xe8, 0x2d, 0x00, //       call write
    0xb0, b'n', //             mov al, 'n'
    0xe8, 0x36, 0x00, //       call put
    0xb0, b'=', //             mov al, '='
    0xe8, 0x31, 0x00, //       call put
    0x8b, 0x1e, 0x00, 0x80, // mov bx, [0x8000]
    0xb9, 0x04, 0x00, //       mov cx, 4
    0xc1, 0xc3, 0x04, //       digit: rol bx, 4
    0x88, 0xd8, //             mov al, bl
    0x24, 0x0f, //             and al, 15
    0x3c, 0x0a, //             cmp al, 10
    0x72, 0x02, //             jb decimal
    0x04, 0x27, //             add al, 'a' - '0' - 10
    0x04, 0x30, //             decimal: add al, '0'
    0xe8, 0x18, 0x00, //       call put
    0xe2, 0xec, //             loop digit
    0xb0, 0x0a, //             mov al, 10
    0xe8, 0x11, 0x00, //       call put
    0xf4, //                   hlt              ; until the next tick of the clock, after 55 ms
    0xeb, 0xc5, //             jmp next
    0xb8, 0x01, 0x03, //       write: mov ax, 0x301
    0xbb, 0x00, 0x80, //       mov bx, 0x8000
    0xb9, 0x01, 0x00, //       mov cx, 1        ; the first sector
    0x30, 0xf6, //             xor dh, dh
    0xcd, 0x13, //             int 0x13
    0xc3, //                   ret
    0x50, //                   put: push ax
    0xba, 0xfd, 0x03, //       mov dx, 0x3fd
    0xec, //                   busy: in al, dx
    0xa8, 0x20, //             test al, 0x20
    0x74, 0xfb, //             jz busy
    0x58, //                   pop ax
    0xba, 0xf8, 0x03, //       mov dx, 0x3f8
    0xee, //                   out dx, al
    0xc3, //                   ret
];

/// A guest that counts from 1, about 18 times a second: it writes each number, two bytes, to the start of its first two
/// disks, and then prints it on COM1, as in `n=00ff`.
#[derive(Debug, Clone, Copy)]
pub struct CountSector;

impl CountSector {
    /// Returns the image of its floppy disk.
    #[must_use]
    pub fn image() -> Vec<u8> {
        let mut image = CODE.to_vec();
        image.resize(510, 0);
        image.extend([0x55, 0xaa]);
        image
    }

    /// Writes the image into `home` and returns its path.
    #[must_use]
    pub fn write(home: &TestHome) -> PathBuf {
        home.write("count.img", Self::image())
    }

    /// Returns the YAML of a VM that boots `image` and has the qcow2 drives `drives`.
    #[must_use]
    pub fn yaml(name: &str, image: &Path, drives: &[&str]) -> String {
        let drives: Vec<String> = drives.iter().map(|drive| format!("  - {{name: {drive}, size: 16M}}\n")).collect();
        format!(
            "name: {name}\naccel: tcg\nmemory: 16M\nnetwork: {{mode: none}}\nstorage:\n{}arguments:\n  \
             - {{drive: {{file: {}, format: raw, if: floppy, readonly: \"on\"}}}}\n",
            drives.concat(),
            quoted(image),
        )
    }

    /// Returns the numbers that it printed; the last line may be incomplete.
    #[must_use]
    pub fn numbers(serial: &str) -> Vec<u16> {
        let complete = serial.lines().filter_map(|line| line.trim().strip_prefix("n="));
        complete.filter(|number| number.len() == 4).filter_map(|number| u16::from_str_radix(number, 16).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_count_sector_is_one_bootable_sector() {
        let image = CountSector::image();

        assert_eq!((image.len(), &image[510..]), (512, &[0x55, 0xaa][..]));
        assert_eq!(CountSector::numbers("n=0001\nSeaBIOS\nn=00ff\nn=01"), [1, 255]);
    }
}
