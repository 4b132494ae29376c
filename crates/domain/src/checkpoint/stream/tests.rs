use proptest::prelude::*;

use super::*;

/// Writes a stream as QEMU does.
struct Writer(Vec<u8>);

const BLOCKS: [(&str, u64); 3] = [("pc.ram", 4), ("vga.vram", 2), ("/rom@x", 1)];

impl Writer {
    fn new() -> Self {
        let machine = "pc-i440fx-7.2";
        let mut head = Self(Vec::new()).bytes(b"QEVM").u32(3).bytes(&[CONFIGURATION]).u32(13);
        head = head.bytes(machine.as_bytes());
        head
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u32(self, number: u32) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    fn u64(self, number: u64) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    fn name(self, name: &str) -> Self {
        self.bytes(&[u8::try_from(name.len()).unwrap()]).bytes(name.as_bytes())
    }

    fn footer(self) -> Self {
        self.u64(END_OF_SECTION).bytes(&[FOOTER]).u32(2)
    }

    /// Begins the section `ram` with the list of blocks.
    fn list(self, blocks: &[(&str, u64)]) -> Self {
        let total: u64 = blocks.iter().map(|(_, pages)| pages * 4096).sum();
        let start = self.bytes(&[SECTION_START]).u32(2).name("ram").u32(0).u32(4).u64(total | BLOCK_LIST);
        blocks.iter().fold(start, |stream, (name, pages)| stream.name(name).u64(pages * 4096)).footer()
    }

    fn part(self) -> Self {
        self.bytes(&[SECTION_PART]).u32(2)
    }

    fn page(self, block: Option<&str>, page: u64, fill: u8) -> Self {
        let kind = if fill == 0 { ZERO } else { PAGE };
        let named = match block {
            Some(name) => self.u64((page * 4096) | kind).name(name),
            None => self.u64((page * 4096) | kind | SAME_BLOCK),
        };
        if fill == 0 { named.bytes(&[0]) } else { named.bytes(&[fill; PAGE_BYTES]) }
    }

    /// Ends the stream with two devices.
    fn devices(self) -> Self {
        let device = |stream: Self, number: u32, name: &str| {
            let start = stream.bytes(&[SECTION_FULL]).u32(number).name(name).u32(0).u32(1);
            start.bytes(b"state\0\x06").bytes(&[FOOTER]).u32(number)
        };
        let description = r#"{"devices": [{"name": "cpu", "instance_id": 0}, {"name": "vga", "instance_id": 0}]}"#;
        let devices = device(device(self, 3, "cpu"), 4, "vga").bytes(&[0, 6]);
        devices.u32(u32::try_from(description.len()).unwrap()).bytes(description.as_bytes())
    }
}

/// Writes a stream with two parts, in which block and page differ.
fn stream() -> Vec<u8> {
    let first = Writer::new().list(&BLOCKS).part();
    let first = first.page(Some("pc.ram"), 0, 1).page(None, 1, 0).page(Some("vga.vram"), 0, 7).footer();
    let second = first.part().page(None, 1, 0).page(Some("/rom@x"), 0, 8);
    second.page(Some("pc.ram"), 3, 4).page(None, 2, 3).footer().devices().0
}

/// What came out of a stream: its rest, and the pages with their first byte.
#[derive(Debug, Default, PartialEq)]
struct Taken {
    rest: Vec<u8>,
    pages: Vec<(u64, u8)>,
}

/// Takes a stream apart that comes in chunks.
fn take_apart(stream: &[u8], chunk: usize) -> Result<(Taken, StreamFacts), StreamError> {
    let mut reader = StreamReader::new("pc.ram");
    let mut taken = Taken::default();
    let (mut start, mut end) = (0, 0);
    loop {
        match reader.take(&stream[start..end])? {
            Some((piece, length)) => {
                start += length;
                match piece {
                    Piece::State(bytes) => taken.rest.extend_from_slice(bytes),
                    Piece::Page { offset, content } => taken.pages.push((offset / 4096, content[0])),
                    Piece::ZeroPage { offset } => taken.pages.push((offset / 4096, 0)),
                }
            }
            None if end == stream.len() => break,
            None => end = stream.len().min(end + chunk),
        }
    }
    Ok((taken, reader.finish()?))
}

fn error_of(stream: &[u8]) -> StreamError {
    take_apart(stream, 4096).unwrap_err()
}

#[test]
fn test_memory_is_taken_out_and_the_rest_stays() {
    let (taken, facts) = take_apart(&stream(), usize::MAX).unwrap();

    assert_eq!(taken.pages, [(0, 1), (1, 0), (3, 4), (2, 3)]);
    assert_eq!(facts.machine_type, "pc-i440fx-7.2");
    assert_eq!(facts.memory, RamBlock { name: "pc.ram".to_owned(), bytes: 4 * 4096 });
    let rest = Writer::new().list(&BLOCKS).part().page(Some("vga.vram"), 0, 7).footer();
    let rest = rest.part().page(None, 1, 0).page(Some("/rom@x"), 0, 8).footer().devices();
    assert_eq!(taken.rest, rest.0);
}

#[test]
fn test_stream_of_precopy_sends_pages_twice_and_a_command() {
    let first = Writer::new().list(&[("pc.ram", 2)]).part().page(Some("pc.ram"), 0, 1).page(None, 1, 2).footer();
    let last = first.bytes(&[COMMAND, 0, 11, 0, 0, SECTION_END]).u32(2).page(Some("pc.ram"), 0, 0);

    let (taken, _) = take_apart(&last.footer().devices().0, 1 << 20).unwrap();

    assert_eq!(taken.pages, [(0, 1), (1, 2), (0, 0)]);
}

#[test]
fn test_unknown_content_is_refused() {
    let ram = || Writer::new().list(&[("pc.ram", 1)]).part();
    let start = |name: &str, version| Writer::new().bytes(&[SECTION_START]).u32(2).name(name).u32(0).u32(version);
    let streams = [
        Writer(Vec::new()).bytes(b"QEVM").u32(2),
        Writer(Vec::new()).bytes(b"QEVM").u32(3).bytes(&[SECTION_START, 0, 0, 0, 0]),
        // Capabilities, after the machine type.
        Writer::new().bytes(&[5]),
        start("dirty-bitmap", 4),
        start("ram", 5),
        ram().u64(0x100),
        ram().u64(0x200),
        ram().u64(PAGE | ZERO).name("pc.ram").bytes(&[0; PAGE_BYTES]),
        ram().u64(ZERO).name("pc.ram").bytes(&[0xff]),
        Writer::new().list(&[("mem", 1)]),
        Writer::new().bytes(&[COMMAND, 0, 8, 0, 0]),
        Writer::new().bytes(&[COMMAND, 0, 11, 0, 1]),
        // Pages of memory may follow.
        Writer::new().list(&[("pc.ram", 1)]).devices(),
        ram().u64(END_OF_SECTION).bytes(&[SECTION_PART]).u32(2),
    ];

    for Writer(bytes) in streams {
        let error = error_of(&bytes);
        assert_eq!(error.code(), "checkpoint.stream-unsupported", "{error}: {bytes:?}");
    }
}

#[test]
fn test_damaged_stream_is_refused() {
    let ram = || Writer::new().list(&[("pc.ram", 1)]).part();
    let one = |size: u64| {
        let start = Writer::new().bytes(&[SECTION_START]).u32(2).name("ram").u32(0).u32(4);
        start.u64(4096 | BLOCK_LIST).name("pc.ram").u64(size)
    };
    let streams = [
        Writer(b"QFI\xfb....".to_vec()),
        Writer(b"QEVM".to_vec()).u32(3).bytes(&[CONFIGURATION]).u32(1 << 30),
        one(8192),
        one(4095),
        one(0),
        Writer::new().list(&[("pc.ram", 1), ("pc.ram", 1)]),
        Writer::new().list(&[("\0", 1)]),
        Writer::new().part(),
        Writer::new().list(&[("pc.ram", 1)]).list(&[("pc.ram", 1)]),
        ram().page(None, 0, 1),
        ram().page(Some("vga"), 0, 1),
        ram().page(Some("pc.ram"), 1, 1),
        ram().u64(END_OF_SECTION).bytes(&[FOOTER]).u32(2).bytes(&[SECTION_PART]).u32(3),
    ];

    for Writer(bytes) in streams {
        let error = error_of(&bytes);
        assert!(matches!(error, StreamError::Corrupt { .. }), "{error}: {bytes:?}");
    }
}

#[test]
fn test_stream_without_every_page_and_device_is_incomplete() {
    let whole = || Writer::new().list(&[("pc.ram", 1)]).part().page(Some("pc.ram"), 0, 1).footer();
    let device = |stream: Writer, name: &str| stream.bytes(&[SECTION_FULL]).u32(3).name(name).u32(0).u32(1);
    let description = br#"{"devices": [{"name": "cpu", "instance_id": 0}, {"name": "vga", "instance_id": 0}]}"#;
    let described =
        |stream: Writer| stream.bytes(&[0, 6]).u32(u32::try_from(description.len()).unwrap()).bytes(description).0;

    assert!(take_apart(&described(device(device(whole(), "cpu"), "vga")), 99).is_ok());
    for bytes in [
        whole().0,
        device(whole(), "cpu").0,
        described(device(whole(), "cpu")),
        described(device(device(whole(), "vga"), "cpu")),
        [whole().devices().0, vec![0]].concat(),
        device(whole(), "cpu").bytes(&[0, 6]).u32(2).bytes(b"{}").0,
    ] {
        assert!(matches!(error_of(&bytes), StreamError::Incomplete { .. }), "{bytes:?}");
    }
}

#[test]
fn test_truncated_stream_is_never_complete() {
    let stream = stream();

    for length in 0..stream.len() {
        assert!(matches!(error_of(&stream[..length]), StreamError::Incomplete { .. }), "{length}");
    }
}

proptest! {
    #[test]
    fn test_chunks_make_no_difference(chunk in 1_usize..9000) {
        prop_assert_eq!(take_apart(&stream(), chunk), take_apart(&stream(), usize::MAX));
    }

    /// A changed byte is refused, or it is in the content of a page or of a device, or in an order that does not matter:
    /// nothing is lost, and no page is outside of the memory.
    #[test]
    fn test_flipped_bit_loses_no_byte(at in 0..stream().len(), bit in 0..8_u8) {
        let mut stream = stream();
        let length = stream.len();
        stream[at] ^= 1 << bit;

        if let Ok((taken, facts)) = take_apart(&stream, 4096) {
            let record = |(_, first): &(u64, u8)| if *first == 0 { 1 } else { PAGE_BYTES };
            let pages: usize = taken.pages.iter().map(record).sum();
            prop_assert!(taken.rest.len() + pages < length);
            prop_assert!(taken.pages.iter().all(|(page, _)| page * 4096 < facts.memory.bytes));
            prop_assert_eq!(&facts.memory.name, "pc.ram");
        }
    }

    #[test]
    fn test_cut_out_bytes_lose_no_page(cut in 1_usize..64, at in 0..stream().len() - 64) {
        let whole = stream();
        let devices = whole.len() - Writer(Vec::new()).devices().0.len();
        let mut stream = whole.clone();
        stream.drain(at..at + cut);

        if let Ok((taken, _)) = take_apart(&stream, 4096) {
            let (expected, _) = take_apart(&whole, 4096).unwrap();
            prop_assert!(at + cut > devices || taken.pages == expected.pages);
        }
    }

    #[test]
    fn test_swapped_parts_lose_no_page(first in 0..stream().len(), second in 0..stream().len(), third in 0..stream().len()) {
        let whole = stream();
        let mut cuts = [first, second, third];
        cuts.sort_unstable();
        let [one, two, three] = cuts;
        let swapped = [&whole[..one], &whole[two..three], &whole[one..two], &whole[three..]].concat();

        if let Ok((taken, facts)) = take_apart(&swapped, 4096) {
            let pages: std::collections::BTreeSet<u64> = taken.pages.iter().map(|(page, _)| *page).collect();
            prop_assert_eq!(pages.len() as u64 * 4096, facts.memory.bytes);
        }
    }

    #[test]
    fn test_any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = take_apart(&bytes, 100);
        let _ = take_apart(&[&stream()[..60], &bytes[..]].concat(), 100);
    }
}
