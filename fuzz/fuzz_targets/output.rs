//! The output of programs: `qemu-img info`, snapshot tables, `--version`, `info usernet`, screenshots.

#![no_main]

use libfuzzer_sys::fuzz_target;
use maqet::domain::network::{Forward, bound_ports, is_established};
use maqet::domain::picture::{Ppm, png_size};
use maqet::domain::qemu::QemuVersion;
use maqet::domain::snapshot::table::{LOCATION_BYTES, SnapshotTable};
use maqet_adapters_qemu::read_image_info;

fuzz_target!(|bytes: &[u8]| {
    match read_image_info(bytes) {
        Ok(info) => assert!(info.snapshots.iter().all(|snapshot| !snapshot.created_at.to_string().is_empty())),
        Err(why) => assert!(!why.is_empty()),
    }

    if let Ok(table) = SnapshotTable::locate(bytes)
        && let Ok(snapshots) = table.parse(&bytes[LOCATION_BYTES..])
    {
        assert!(snapshots.iter().all(|snapshot| !snapshot.created_at.to_string().is_empty()));
    }

    let _ = png_size(bytes);
    if let Some(Ppm { width, height, pixels }) = Ppm::parse(bytes) {
        assert_eq!(u64::from(width) * u64::from(height) * 3, pixels.len() as u64);
    }

    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(version) = QemuVersion::from_output(text) {
        assert_eq!(version.to_string().parse().as_ref(), Ok(&version));
    }
    let wanted = ["tcp:127.0.0.1:0:22", "udp:0.0.0.0:53:53"].map(|text| text.parse::<Forward>().expect("a forward"));
    let taken = bound_ports(&wanted, "net0", text);
    assert!(taken.iter().zip(&wanted).all(|(taken, wanted)| taken.guest_port == wanted.guest_port));
    let _ = is_established(2222, text);
});
