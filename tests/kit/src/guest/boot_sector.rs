//! A guest of 512 bytes, assembled by hand: it prints a marker on COM1, waits for a byte, and exits.

use std::path::{Path, PathBuf};

use super::config::quoted;
use crate::TestHome;

/// Where the BIOS loads a boot sector.
const ORIGIN: u16 = 0x7c00;

/// What the guest does after printing its marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterMarker {
    /// Waits, with the CPU halted, for a byte on COM1, then exits.
    WaitForByte,
    /// Waits for a byte on COM1, then powers off through ACPI, as an operating system does (only on `pc` boards).
    PowerOffOnByte,
    /// Exits at once.
    Leave,
    /// Prints lines for ever, as fast as it can.
    Flood,
    /// Sleeps for ever.
    Sleep,
}

/// A guest of 512 bytes; under TCG it prints after 0.3 to 1.0 s.
#[derive(Debug, Clone)]
pub struct BootSector {
    marker: String,
    after: AfterMarker,
    exit_value: u8,
    delay: u16,
}

impl BootSector {
    /// Returns a guest that prints `marker` and a line end; `marker` is ASCII and at most 300 characters.
    #[must_use]
    pub fn new(marker: &str, after: AfterMarker) -> Self {
        assert!(marker.is_ascii() && marker.len() <= 300, "the marker does not fit: {marker}");
        Self { marker: marker.to_owned(), after, exit_value: 0, delay: 0 }
    }

    /// Exits with `value`; QEMU's exit status is then [`status`](Self::status).
    #[must_use]
    pub fn leaving_with(self, value: u8) -> Self {
        assert!(value < 0x80, "the exit status of a process has eight bits");
        Self { exit_value: value, ..self }
    }

    /// Prints the marker `ticks` of the clock later, of 55 ms each: with QEMU's monitor up on a busy host, too.
    #[must_use]
    pub fn delayed_by(self, ticks: u16) -> Self {
        Self { delay: ticks, ..self }
    }

    /// Returns the exit status of QEMU when this guest exits: always odd, as `isa-debug-exit` makes it.
    #[must_use]
    pub fn status(&self) -> i32 {
        i32::from(self.exit_value) * 2 + 1
    }

    /// Returns the disk image: one sector.
    #[must_use]
    pub fn image(&self) -> Vec<u8> {
        let mut code = self.code();
        code.extend(self.marker.as_bytes());
        code.extend(b"\r\n\0");
        code.resize(510, 0);
        code.extend([0x55, 0xaa]);
        code
    }

    /// Writes the image into `home` and returns its path.
    #[must_use]
    pub fn write(&self, home: &TestHome) -> PathBuf {
        home.write("boot.img", self.image())
    }

    /// Returns the YAML of a VM that boots `image`; its serial line is whatever maqet makes it.
    #[must_use]
    pub fn yaml(name: &str, image: &Path) -> String {
        let image = quoted(image);
        format!(
            "name: {name}\naccel: tcg\nmemory: 16M\narguments:\n  \
             - {{drive: {{file: {image}, format: raw, if: ide}}}}\n  \
             - {{device: {{isa-debug-exit: null, iobase: \"0xf4\", iosize: \"0x04\"}}}}\n"
        )
    }

    fn code(&self) -> Vec<u8> {
        let mut code = vec![
            0x31, 0xc0, //       xor ax, ax
            0x8e, 0xd8, //       mov ds, ax
            0xfc, //             cld
            0xfb, //             sti              ; the clock has to end each `hlt`
            0xbe, 0x00, 0x00, // mov si, marker   ; filled in below
        ];
        if self.delay > 0 {
            let [low, high] = self.delay.to_le_bytes();
            code.extend([
                0xb9, low, high, // mov cx, ticks
                // tick:
                0xf4, //            hlt
                0xe2, 0xfd, //      loop tick
            ]);
        }
        code.extend([
            // next:
            0xac, //             lodsb
            0x84, 0xc0, //       test al, al
            0x74, 0x12, //       jz after
            0x88, 0xc4, //       mov ah, al
            0xba, 0xfd, 0x03, // mov dx, 0x3fd    ; COM1, line status
            // busy:
            0xec, //             in al, dx
            0xa8, 0x20, //       test al, 0x20    ; room for a byte to send?
            0x74, 0xfb, //       jz busy
            0x88, 0xe0, //       mov al, ah
            0xba, 0xf8, 0x03, // mov dx, 0x3f8    ; COM1, data
            0xee, //             out dx, al
            0xeb, 0xe9, //       jmp next
        ]);
        // after:
        if matches!(self.after, AfterMarker::WaitForByte | AfterMarker::PowerOffOnByte) {
            code.extend([
                0xba, 0xfd, 0x03, // mov dx, 0x3fd
                // poll:
                0xec, //             in al, dx
                0xa8, 0x01, //       test al, 1    ; a byte received?
                0x75, 0x03, //       jnz got
                0xf4, //             hlt           ; until the next tick
                0xeb, 0xf8, //       jmp poll
                // got:
                0xba, 0xf8, 0x03, // mov dx, 0x3f8
                0xec, //             in al, dx
            ]);
        }
        if self.after == AfterMarker::PowerOffOnByte {
            code.extend([
                0xba, 0x04, 0x06, // mov dx, 0x604    ; PM1a control of PIIX4, where SeaBIOS maps it
                0xb8, 0x00, 0x20, // mov ax, 0x2000   ; sleep enable, type 0: soft off
                0xef, //             out dx, ax
            ]);
        }
        if self.after == AfterMarker::Flood {
            code.extend([
                0xba, 0xf8, 0x03, // mov dx, 0x3f8
                // line:
                0xb0, 0x41, //       mov al, 'A'
                // letter:
                0xee, //             out dx, al
                0xfe, 0xc0, //       inc al
                0x3c, 0x5b, //       cmp al, 'Z' + 1
                0x75, 0xf9, //       jne letter
                0xb0, 0x0a, //       mov al, '\n'
                0xee, //             out dx, al
                0xeb, 0xf2, //       jmp line
            ]);
        }
        if self.after != AfterMarker::Sleep {
            code.extend([
                0xba, 0xf4, 0x00, //          mov dx, 0xf4   ; isa-debug-exit
                0xb0, self.exit_value, //     mov al, value
                0xee,            //                      out dx, al
            ]);
        }
        // sleep:
        code.extend([
            0xf4, //       hlt
            0xeb, 0xfd, // jmp sleep
        ]);

        let marker = ORIGIN + u16::try_from(code.len()).expect("the code is a few dozen bytes");
        code[7..9].copy_from_slice(&marker.to_le_bytes());
        code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_image_longest_marker_is_one_bootable_sector() {
        let image = BootSector::new(&"m".repeat(300), AfterMarker::WaitForByte).image();

        assert_eq!((image.len(), &image[510..]), (512, [0x55, 0xaa].as_slice()));
    }

    #[test]
    fn test_status_value_three_is_seven() {
        assert_eq!(BootSector::new("", AfterMarker::Leave).leaving_with(3).status(), 7);
    }
}
