//! A guest that fills its memory, and then has a pulse of 10 ms, by which it is seen how long it stood still.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::bench::env::Env;
use crate::failure::Failure;

/// The code: it fills the memory from 16 MiB on with numbers that do not repeat, has the timer tick 100 times a second, and
/// prints a full stop with each tick.
const CODE: [u8; 126] = [
    0xfa, //                                     cli
    0x31, 0xc0, //                               xor ax, ax
    0x8e, 0xd8, //                               mov ds, ax
    0x8e, 0xc0, //                               mov es, ax
    0x8e, 0xd0, //                               mov ss, ax
    0xbc, 0x00, 0x7c, //                         mov sp, 0x7c00
    0xfc, //                                     cld
    0x66, 0x0f, 0x01, 0x16, 0x78, 0x7c, //       lgdt [gdtr]
    0x0f, 0x20, 0xc0, //                         mov eax, cr0
    0x0c, 0x01, //                               or al, 1
    0x0f, 0x22, 0xc0, //                         mov cr0, eax
    0xbb, 0x08, 0x00, //                         mov bx, 8      ; all of the memory
    0x8e, 0xc3, //                               mov es, bx
    0x24, 0xfe, //                               and al, 0xfe
    0x0f, 0x22, 0xc0, //                         mov cr0, eax
    0x31, 0xdb, //                               xor bx, bx
    0x8e, 0xc3, //                               mov es, bx
    0x66, 0xbf, 0x00, 0x00, 0x00, 0x01, //       mov edi, 16 MiB
    0x66, 0xba, 0x44, 0x33, 0x22, 0x11, //       mov edx, the end
    0x66, 0xb8, 0x78, 0x56, 0x34, 0x12, //       mov eax, 0x12345678
    0x66, 0x39, 0xd7, //                         fill: cmp edi, edx
    0x73, 0x12, //                               jae done
    0x67, 0x66, 0xab, //                         stosd
    0x66, 0x69, 0xc0, 0x0d, 0x66, 0x19, 0x00, // imul eax, eax, 1664525
    0x66, 0x05, 0x5f, 0xf3, 0x6e, 0x3c, //       add eax, 1013904223
    0xeb, 0xe9, //                               jmp fill
    0xb0, 0x34, //                               done: mov al, 0x34
    0xe6, 0x43, //                               out 0x43, al
    0xb0, 0x9c, //                               mov al, 0x9c
    0xe6, 0x40, //                               out 0x40, al
    0xb0, 0x2e, //                               mov al, 0x2e
    0xe6, 0x40, //                               out 0x40, al
    0xfb, //                                     sti
    0xf4, //                                     next: hlt
    0xb0, 0x2e, //                               mov al, '.'
    0xba, 0xf8, 0x03, //                         mov dx, 0x3f8
    0xee, //                                     out dx, al
    0xeb, 0xf7, //                               jmp next
    0, 0, 0, 0, 0, 0, 0, 0, //                   gdt: nothing
    0xff, 0xff, 0, 0, 0, 0x92, 0xcf, 0, //       data, from 0 to 4 GiB
    0x0f, 0x00, 0x68, 0x7c, 0, 0, //             gdtr
];

/// Where the end of the memory that is filled is in it.
const END: usize = 49;

/// The address from which it is filled.
const BEGIN: u32 = 16 << 20;

/// How long it may take.
const FILL_TIMEOUT: Duration = Duration::from_mins(3);

/// How often it is looked for the next pulse.
const INTERVAL: Duration = Duration::from_micros(500);

/// How many pulses show that all of the memory is filled.
const PULSES: u64 = 20;

/// A VM with such a guest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pulse {
    pub(super) memory_mib: u32,
    /// How much of it is filled.
    pub(super) filled_mib: u32,
    pub(super) disks: usize,
    /// Whether its memory is in a file that other processes can map.
    pub(super) has_file: bool,
}

impl Pulse {
    /// Returns the definition of the VM.
    pub(super) fn yaml(self, env: &Env<'_>, name: &str) -> String {
        let mut image = CODE.to_vec();
        let end = BEGIN + (self.filled_mib << 20);
        image[END..END + 4].copy_from_slice(&end.to_le_bytes());
        image.resize(510, 0);
        image.extend([0x55, 0xaa]);
        let image = env.home.write(format!("{name}.img"), image);
        let disks: Vec<String> = (0..self.disks).map(|disk| format!("  - {{name: disk{disk}, size: 1G}}\n")).collect();
        let storage = if self.disks == 0 { String::new() } else { format!("storage:\n{}", disks.concat()) };
        let memory = if self.has_file {
            let file = Path::new("/dev/shm").join(format!("maqet-bench-{}-{name}", std::process::id()));
            let backend =
                format!("memory-backend-file,id=ram,size={}M,mem-path={},share=on", self.memory_mib, file.display());
            format!("  - {{object: '{backend}'}}\n  - {{machine: memory-backend=ram}}\n")
        } else {
            String::new()
        };
        format!(
            "name: {name}\naccel: tcg\nmemory: {}M\nmachine: pc\nnetwork: {{mode: none}}\n{storage}arguments:\n  \
             - {{drive: {{file: '{}', format: raw, if: floppy, readonly: \"on\"}}}}\n{memory}",
            self.memory_mib,
            image.display(),
        )
    }
}

fn pulses(log: &Path) -> u64 {
    fs::metadata(log).map_or(0, |log| log.len())
}

/// Waits until a guest has filled its memory; `log` is that of its serial port.
pub(super) fn filled(log: &Path) -> Result<()> {
    let (began, before) = (Instant::now(), pulses(log));
    while pulses(log) < before + PULSES {
        if began.elapsed() > FILL_TIMEOUT {
            return Err(Failure::new("the guest has no pulse"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Returns what `work` does, and the longest time for which a guest had no pulse meanwhile.
pub(super) fn standstill<T>(log: &Path, work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (mut count, mut last, mut longest) = (pulses(log), Instant::now(), Duration::ZERO);
            loop {
                let ends = is_over.load(Ordering::Relaxed);
                let now = pulses(log);
                if now > count || ends {
                    longest = longest.max(last.elapsed());
                    (count, last) = (now, Instant::now());
                }
                if ends {
                    return longest;
                }
                thread::sleep(INTERVAL);
            }
        });
        let done = work();
        is_over.store(true, Ordering::Relaxed);
        let longest = watch.join().map_err(|_| Failure::new("the pulse was not watched"))?;
        Ok((done?, longest))
    })
}

/// Removes the files that memory was in.
pub(super) fn remove_files(names: &[&str]) {
    for name in names {
        let _not_there =
            fs::remove_file(Path::new("/dev/shm").join(format!("maqet-bench-{}-{name}", std::process::id())));
    }
}
