//! Boot orders as other programs write them.

use super::{Refusal, UserSwitch};

/// The boot devices of libvirt and other programs, with QEMU's letters for them.
const WORDS: [(&str, char); 11] = [
    ("hd", 'c'),
    ("disk", 'c'),
    ("hdd", 'c'),
    ("harddisk", 'c'),
    ("cdrom", 'd'),
    ("dvd", 'd'),
    ("network", 'n'),
    ("net", 'n'),
    ("pxe", 'n'),
    ("fd", 'a'),
    ("floppy", 'a'),
];

/// Returns QEMU's letters for boot devices, each a word or some letters, if all are known.
pub(in crate::machine) fn boot_letters(words: &[&str]) -> Option<String> {
    let letters = words.iter().map(|word| match WORDS.iter().find(|(known, _)| known == word) {
        Some((_, letter)) => Some(letter.to_string()),
        None => Some((*word).to_owned()).filter(|_| is_letters(word)),
    });
    letters.collect()
}

fn is_letters(word: &str) -> bool {
    word.chars().all(|letter| ('a'..='p').contains(&letter))
}

/// Options of `-boot` that are no devices.
const OPTIONS: [&str; 4] = ["menu", "reboot-timeout", "splash-time", "strict"];

/// QEMU reads the letters of a word as so many devices, and refuses most of them without naming the right one.
///
/// Devices between commas or spaces are none of its forms either: each is a letter from `a` to `p`, in one word.
pub(super) fn boot_order(switch: &UserSwitch<'_>) -> Option<Refusal> {
    if switch.name != "boot" {
        return None;
    }
    let more = switch.options.iter().filter(|option| option.is_flag && !OPTIONS.contains(&option.key.as_str()));
    let more = more.map(|option| if option.value == "off" { format!("no{}", option.key) } else { option.key.clone() });
    let more: Vec<String> = more.collect();
    let orders = ["order", "once"].into_iter().filter_map(|key| switch.option(key));
    orders.take(2).find_map(|order| {
        let words = order.split_whitespace().chain(more.iter().map(String::as_str));
        let words: Vec<&str> = words.flat_map(|word| word.split(',')).filter(|word| !word.is_empty()).collect();
        let is_word = |word: &&str| WORDS.iter().any(|(known, _)| known == word);
        if words.len() < 2 && words.iter().all(|word| !is_word(word) && is_letters(word)) {
            return None;
        }
        let help = match boot_letters(&words) {
            Some(letters) => format!("write `{letters}`: a letter for each device, in one word"),
            None => {
                "write `c` for a disk, `d` for a CD, `n` for the network, `a` for a floppy; or set `bootindex` for the \
                 device"
                    .to_owned()
            }
        };
        Some(Refusal { message: format!("{} is not a boot order of QEMU", switch.shown(&words.join(","))), help })
    })
}
