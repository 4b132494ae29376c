//! Firmware of 64 KiB that ends QEMU with its first instructions, before QEMU's monitors respond.

use std::path::PathBuf;

use crate::TestHome;

/// Where the processor begins, from the start of the image.
const RESET_VECTOR: usize = 0xfff0;

/// Where that jumps to.
const CODE: usize = 0xff00;

/// What the firmware does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rom {
    /// It causes an interrupt without a table of interrupts: QEMU exits on that with `-no-reboot`.
    TripleFault,
    /// It writes to the device `isa-debug-exit` at 0xf4.
    DebugExit,
}

impl Rom {
    /// Writes the image into `home` and returns its path.
    #[must_use]
    pub fn write(self, home: &TestHome) -> PathBuf {
        let code: &[u8] = match self {
            // lidt cs:[0xff40]; int3
            Self::TripleFault => &[0x2e, 0x0f, 0x01, 0x1e, 0x40, 0xff, 0xcc],
            // mov al, 1; out 0xf4, al; hlt
            Self::DebugExit => &[0xb0, 0x01, 0xe6, 0xf4, 0xf4],
        };
        let mut image = vec![0; 1 << 16];
        image[CODE..CODE + code.len()].copy_from_slice(code);
        // jmp 0xff00
        image[RESET_VECTOR..RESET_VECTOR + 3].copy_from_slice(&[0xe9, 0x0d, 0xff]);
        home.write("end.rom", image)
    }
}
