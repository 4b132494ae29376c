//! The variables of UEFI, as EDK II stores them in flash.
//!
//! Secure Boot is active if there is a platform key. The format (`MdeModulePkg/Include/Guid/VariableFormat.h`) is that of
//! OVMF and of the firmware for Arm and RISC-V: a firmware volume that begins with a store of variables.

/// As much of a flash image as has variables: stores of EDK II's firmware for QEMU have 256 KiB at most.
pub const MAX_VARIABLES_BYTES: usize = 1 << 20;

/// The signature of a firmware volume, and where it is.
const VOLUME: (usize, &[u8]) = (40, b"_FVH");

/// Identifies a store whose variables have the fields of authenticated ones, in the order of its bytes.
const AUTHENTICATED: [u8; 16] =
    [0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92];

/// The vendor of the variables that UEFI defines (`EFI_GLOBAL_VARIABLE`).
const GLOBAL: [u8; 16] =
    [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c];

/// `PK`, the platform key, in UTF-16 with its end.
const PLATFORM_KEY: &[u8] = b"P\0K\0\0\0";

const STORE_HEADER: usize = 28;
const VARIABLE_HEADER: usize = 60;
const VARIABLE_START: u16 = 0x55aa;
const ALIGNMENT: usize = 4;

/// Bits that are cleared once a variable is complete, and once it is deleted.
const ADDED: u8 = !0x40;
const DELETED: u8 = !0x02;

/// Returns whether the variables have a platform key; `None` if they are not in a format that is known.
pub fn has_platform_key(flash: &[u8]) -> Option<bool> {
    if flash.get(VOLUME.0..VOLUME.0 + VOLUME.1.len())? != VOLUME.1 {
        return None;
    }
    let store = flash.get(usize::from(u16::from_le_bytes(array(flash, 48)?))..)?;
    if store.get(..AUTHENTICATED.len())? != AUTHENTICATED {
        return None;
    }
    let size = usize::try_from(u32::from_le_bytes(array(store, 16)?)).ok()?;
    let store = store.get(..size)?;
    let mut at = STORE_HEADER;
    while array(store, at).map(u16::from_le_bytes) == Some(VARIABLE_START) {
        let length = |field: usize| usize::try_from(u32::from_le_bytes(array(store, at + field)?)).ok();
        let (name_length, data_length) = (length(36)?, length(40)?);
        let name_at = at + VARIABLE_HEADER;
        let name = store.get(name_at..name_at.checked_add(name_length)?)?;
        let end = (name_at + name_length).checked_add(data_length)?;
        store.get(..end)?;
        let is_platform_key = name == PLATFORM_KEY && array(store, at + 44) == Some(GLOBAL);
        if is_platform_key && is_valid(store[at + 2]) && data_length > 0 {
            return Some(true);
        }
        at = end.next_multiple_of(ALIGNMENT);
    }
    Some(false)
}

/// Returns whether a variable is complete, and not deleted; one that is being replaced is.
const fn is_valid(state: u8) -> bool {
    state | ADDED == ADDED && state & !DELETED != 0
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A variable: its state, name, vendor and data.
    type Variable = (u8, &'static [u8], [u8; 16], &'static [u8]);

    fn flash(variables: &[Variable]) -> Vec<u8> {
        let mut store = [&AUTHENTICATED[..], &4096_u32.to_le_bytes(), &[0x5a, 0xfe, 0, 0, 0, 0, 0, 0]].concat();
        for (state, name, vendor, data) in variables {
            store.extend([0xaa, 0x55, *state, 0]);
            store.extend([0; 32]);
            for length in [name.len(), data.len()] {
                store.extend(u32::try_from(length).unwrap().to_le_bytes());
            }
            store.extend([vendor, *name, *data].concat());
            store.resize(store.len().next_multiple_of(ALIGNMENT), 0xff);
        }
        store.resize(4096, 0xff);
        let mut volume = vec![0; 72];
        volume[40..44].copy_from_slice(b"_FVH");
        volume[48] = 72;
        [volume, store].concat()
    }

    #[track_caller]
    fn check(variables: &[Variable], expected: bool) {
        assert_eq!(has_platform_key(&flash(variables)), Some(expected));
    }

    #[test]
    fn test_platform_key_is_found_behind_others() {
        let other: Variable = (0x3f, b"B\0\0\0", GLOBAL, b"odd");

        check(&[], false);
        check(&[other], false);
        check(&[other, (0x3f, PLATFORM_KEY, GLOBAL, b"key")], true);
        check(&[(0x3e, PLATFORM_KEY, GLOBAL, b"being replaced")], true);
    }

    #[test]
    fn test_platform_key_deleted_or_of_another_vendor_is_none() {
        check(&[(0x3d, PLATFORM_KEY, GLOBAL, b"key")], false);
        check(&[(0x3c, PLATFORM_KEY, GLOBAL, b"key")], false);
        check(&[(0x7f, PLATFORM_KEY, GLOBAL, b"only the header was written")], false);
        check(&[(0xff, PLATFORM_KEY, GLOBAL, b"key")], false);
        check(&[(0x3f, PLATFORM_KEY, [0; 16], b"of another vendor")], false);
        check(&[(0x3f, PLATFORM_KEY, GLOBAL, b"")], false);
    }

    #[test]
    fn test_platform_key_of_unknown_format_is_unknown() {
        let mut other = flash(&[]);
        other[72] = 0;

        for content in [Vec::new(), vec![0; 1 << 16], other, flash(&[])[..100].to_vec()] {
            assert_eq!(has_platform_key(&content), None);
        }
    }

    proptest! {
        #[test]
        fn test_platform_key_any_bytes_do_not_panic(at in 0_usize..400, bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut content = flash(&[(0x3f, PLATFORM_KEY, [0; 16], b"key"), (0x3f, b"A\0\0\0", GLOBAL, b"a")]);
            content[at..at + bytes.len()].copy_from_slice(&bytes);
            let _may_be_any = has_platform_key(&content);
        }
    }
}
