//! Guests of 512 bytes that do one thing after half a second and then halt: power off, reset, panic, and the like.

use std::path::PathBuf;

use crate::TestHome;

/// What the guest does half a second after it runs, so that its start is over; then its CPU is halted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestAct {
    /// Nothing.
    Halt,
    /// Powers off (ACPI S5, on the machine type `pc`).
    PowerOff,
    /// Suspends to RAM (ACPI S3, on the machine type `pc`); when woken, it does so again.
    Suspend,
    /// Resets through the keyboard controller.
    Reset,
    /// Causes a triple fault.
    TripleFault,
    /// Reports a panic to the device `pvpanic`.
    Panic,
    /// Starts the device `ib700`, which expires in less than a second, and never feeds it.
    LeaveWatchdog,
    /// Leaves through the device `isa-debug-exit`.
    DebugExit,
    /// Writes 4 MiB to the second disk of the BIOS, 32 KiB at a time.
    WriteDisk,
}

impl GuestAct {
    /// Returns the disk image: one sector.
    #[must_use]
    pub fn image(self) -> Vec<u8> {
        let mut code = vec![0xeb, 0x7e]; // jmp wait
        code.extend(self.code());
        code.extend([
            0xf4, //       halt: hlt
            0xeb, 0xfd, // jmp halt
        ]);
        code.resize(0x80, 0);
        code.extend([
            0xb4, 0x86, //       wait: mov ah, 0x86
            0xb9, 0x07, 0x00, // mov cx, 7
            0xba, 0x20, 0xa1, // mov dx, 0xa120    ; 500,000 µs
            0xcd, 0x15, //       int 0x15
            0xe9, 0x75, 0xff, // jmp the code
        ]);
        code.resize(510, 0);
        code.extend([0x55, 0xaa]);
        code
    }

    /// Writes the image into `home` and returns its path; `name` is that of the file, without its extension.
    #[must_use]
    pub fn write(self, home: &TestHome, name: &str) -> PathBuf {
        home.write(format!("{name}.img"), self.image())
    }

    /// The BIOS of `pc` has the power management registers at 0x600, and `PM1a_CNT` at 0x604.
    const fn code(self) -> &'static [u8] {
        match self {
            Self::Halt => &[0xfa], // cli
            Self::PowerOff => &[
                0xba, 0x04, 0x06, // mov dx, 0x604
                0xb8, 0x00, 0x20, // mov ax, 0x2000     ; SLP_EN, SLP_TYP 0
                0xef, //             out dx, ax
            ],
            Self::Suspend => &[
                0xba, 0x04, 0x06, // mov dx, 0x604
                0xb8, 0x00, 0x24, // mov ax, 0x2400     ; SLP_EN, SLP_TYP 1
                0xef, //             out dx, ax
            ],
            Self::Reset => &[
                0xb0, 0xfe, // mov al, 0xfe
                0xe6, 0x64, // out 0x64, al
            ],
            // The word at 0x7c22 is 0: a table of no interrupt vectors.
            Self::TripleFault => &[
                0x0f, 0x01, 0x1e, 0x22, 0x7c, // lidt [0x7c22]
                0xcc, //                         int3
            ],
            Self::Panic => &[
                0xba, 0x05, 0x05, // mov dx, 0x505
                0xb0, 0x01, //       mov al, 1
                0xee, //             out dx, al
            ],
            Self::LeaveWatchdog => &[
                0xfa, //             cli
                0xba, 0x43, 0x04, // mov dx, 0x443
                0xb0, 0x0f, //       mov al, 15         ; 0 s
                0xee, //             out dx, al
            ],
            Self::DebugExit => &[
                0xba, 0xf4, 0x00, // mov dx, 0xf4
                0xb0, 0x03, //       mov al, 3
                0xee, //             out dx, al
            ],
            Self::WriteDisk => &[
                0x31, 0xc0, //                                     xor ax, ax
                0x8e, 0xd8, //                                     mov ds, ax
                // next:
                0xb4, 0x43, //                                     mov ah, 0x43  ; extended write
                0xb0, 0x00, //                                     mov al, 0
                0xb2, 0x81, //                                     mov dl, 0x81
                0xbe, 0x26, 0x7c, //                               mov si, packet
                0xcd, 0x13, //                                     int 0x13
                0x66, 0x83, 0x06, 0x2e, 0x7c, 0x40, //             add dword [packet + 8], 64
                0x81, 0x3e, 0x2e, 0x7c, 0x00, 0x20, //             cmp word [packet + 8], 0x2000
                0x72, 0xe7, //                                     jb next
                0xf4, 0xeb, 0xfd, 0x90, 0x90, 0x90, 0x90, //       hlt; jmp; pad
                // packet, at 0x7c26: its size, 64 sectors, from 0000:8000, to block 0
                0x10, 0x00, 0x40, 0x00, 0x00, 0x80, 0x00, 0x00, 0, 0, 0, 0, 0, 0, 0, 0,
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_image_of_every_act_is_one_bootable_sector() {
        for act in [GuestAct::Halt, GuestAct::PowerOff, GuestAct::Suspend, GuestAct::TripleFault, GuestAct::WriteDisk] {
            let image = act.image();

            assert_eq!((image.len(), &image[510..]), (512, [0x55, 0xaa].as_slice()), "{act:?}");
        }
        assert_eq!(GuestAct::TripleFault.image()[0x22..0x28], [0; 6]);
        assert_eq!(GuestAct::WriteDisk.image()[0x26..0x2a], [0x10, 0, 0x40, 0]);
    }
}
