//! The end of a stream: the state of the devices, and the description of it.

use serde::Deserialize;

use super::{SECTION_FULL, StreamError, incomplete};

/// What precedes the description: the end of the sections, and its kind (`QEMU_VM_EOF`, `QEMU_VM_VMDESCRIPTION`).
const MARKS: [u8; 2] = [0, 6];

/// These and the length.
const HEAD_BYTES: usize = 6;

/// The description; the fields of the devices do not matter.
#[derive(Debug, Deserialize)]
struct Description {
    devices: Vec<Device>,
}

#[derive(Debug, Deserialize)]
struct Device {
    name: String,
    instance_id: u32,
}

/// Checks that `devices`, everything from the first full section on, ends with a description of its sections.
pub(super) fn check(devices: &[u8]) -> Result<(), StreamError> {
    let (sections, description) = split(devices).ok_or_else(|| incomplete("it ends in the state of the devices"))?;
    let mut rest = sections;
    for device in description.devices {
        let name = device.name;
        let beginning = find_section(rest, &name, device.instance_id)
            .ok_or_else(|| incomplete(format!("the state of device `{}` is missing", name.escape_debug())))?;
        rest = &rest[beginning..];
    }
    Ok(())
}

/// Splits off the description, which ends where the input does.
fn split(devices: &[u8]) -> Option<(&[u8], Description)> {
    let mut starts = devices.windows(HEAD_BYTES).enumerate().filter(|(_, head)| head.starts_with(&MARKS));
    starts.find_map(|(start, head)| {
        let length = head[MARKS.len()..].try_into().ok().map(u32::from_be_bytes)?;
        let text = &devices[start + HEAD_BYTES..];
        let is_whole = usize::try_from(length) == Ok(text.len());
        let description = is_whole.then(|| serde_json::from_slice(text).ok()).flatten()?;
        Some((&devices[..start], description))
    })
}

/// Returns the end of the beginning of a full section: its kind, its number, the name and the instance.
fn find_section(sections: &[u8], name: &str, instance: u32) -> Option<usize> {
    let length = u8::try_from(name.len()).ok()?;
    let named: Vec<u8> = [&[length], name.as_bytes(), &instance.to_be_bytes()].concat();
    let number = 4;
    let at = sections.windows(named.len()).enumerate().position(|(at, window)| {
        window == named && at.checked_sub(number + 1).is_some_and(|kind| sections[kind] == SECTION_FULL)
    })?;
    Some(at + named.len())
}
