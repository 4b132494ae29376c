//! Suggestions for mistyped names.

use super::quoted_list;

/// How many names to suggest.
const MAX_SHOWN: usize = 3;

/// The least similarity of a suggestion (Jaro-Winkler, 0 to 1), unless a single letter differs.
const MIN_SIMILARITY: f64 = 0.8;

/// Longer texts get no suggestions: comparing takes time that grows with both lengths.
const MAX_LEN: usize = 64;

/// Returns up to three of `known` that resemble `name`, the most similar first.
///
/// ```
/// assert_eq!(maqet_domain::text::similar("memry", ["memory", "cpu"]), ["memory"]);
/// assert!(maqet_domain::text::similar("x", ["memory", "cpu"]).is_empty());
/// ```
pub fn similar<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    similar_among(name, &mut known.into_iter())
}

/// Without the type of the iterator, so that the program holds it once.
fn similar_among(name: &str, known: &mut dyn Iterator<Item = &str>) -> Vec<String> {
    if name.len() > MAX_LEN {
        return Vec::new();
    }
    let name = name.to_lowercase();
    let mut scored: Vec<(f64, &str)> = known
        .map(|known| (similarity(&name, &known.to_lowercase()), known))
        .filter(|(score, _)| *score >= MIN_SIMILARITY)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.into_iter().take(MAX_SHOWN).map(|(_, name)| name.to_owned()).collect()
}

/// Returns the known name for what other programs call `name`, else the similar ones.
pub fn similar_or_foreign(name: &str, known: &[&str]) -> Vec<String> {
    let plain = name.to_lowercase().replace(['-', '_'], "");
    let ours = FOREIGN.iter().filter(|(foreign, _)| *foreign == plain).map(|(_, ours)| *ours);
    let ours: Vec<String> = ours.filter(|ours| known.contains(ours)).map(str::to_owned).collect();
    if ours.is_empty() { similar(name, known.iter().copied()) } else { ours }
}

/// What libvirt, quickemu, Lima, packer, Proxmox, Vagrant and QEMU itself call what maqet calls otherwise, without hyphens
/// and underscores.
const FOREIGN: &[(&str, &str)] = &[
    ("9p", "virtfs"),
    ("audio", "sound"),
    ("backing", "backing_file"),
    ("backingstore", "backing_file"),
    ("bios", "firmware"),
    ("bootorder", "bootindex"),
    ("bridgename", "bridge"),
    ("bus", "interface"),
    ("capacity", "size"),
    ("cd", "iso"),
    ("cdrom", "iso"),
    ("cores", "cpu"),
    ("cpus", "cpu"),
    ("diskbus", "interface"),
    ("disks", "storage"),
    ("disksize", "size"),
    ("drives", "storage"),
    ("dvd", "iso"),
    ("emulator", "binary"),
    ("extraargs", "args"),
    ("format", "type"),
    ("graphics", "display"),
    ("hostdevs", "usb"),
    ("hostfwd", "forward"),
    ("img", "raw"),
    ("interfaces", "network"),
    ("io", "aio"),
    ("loader", "firmware"),
    ("macaddr", "mac"),
    ("macaddress", "mac"),
    ("mem", "memory"),
    ("memballoon", "balloon"),
    ("net", "network"),
    ("networks", "network"),
    ("nic", "network"),
    ("nics", "network"),
    ("order", "bootindex"),
    ("path", "file"),
    ("portforwards", "forward"),
    ("ports", "forward"),
    ("qemuargs", "args"),
    ("ram", "memory"),
    ("smp", "cpu"),
    ("source", "file"),
    ("target", "name"),
    ("uefi", "firmware"),
    ("vcpu", "cpu"),
    ("vcpus", "cpu"),
    ("vhd", "vpc"),
    ("video", "vga"),
];

/// Returns a similarity from 0 to 1; one letter added, removed, changed or swapped is similar enough.
fn similarity(name: &str, known: &str) -> f64 {
    let edits = strsim::osa_distance(name, known);
    let floor = if edits <= 1 && name.len() > 1 { MIN_SIMILARITY } else { 0.0 };
    strsim::jaro_winkler(name, known).max(floor)
}

/// Returns a hint such as ``did you mean `memory`?``, or `None` if there is no suggestion.
pub fn did_you_mean(similar: &[String]) -> Option<String> {
    match similar {
        [] => None,
        [one] => Some(format!("did you mean `{one}`?")),
        [first @ .., last] => Some(format!("did you mean {} or `{last}`?", quoted_list(first))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_similar_finds_transposed_letters() {
        assert_eq!(similar("wbe", ["web", "db"]), ["web"]);
    }

    #[test]
    fn test_similar_ignores_case() {
        assert_eq!(similar("WEB", ["web", "db"]), ["web"]);
    }

    #[test]
    fn test_similar_is_empty_for_a_long_text() {
        let longest = "x".repeat(MAX_LEN);

        assert_eq!(similar(&longest, [longest.as_str()]), [longest.as_str()]);
        assert!(similar(&format!("{longest}x"), [longest.as_str()]).is_empty());
    }

    #[test]
    fn test_did_you_mean_two_names_joins_with_or() {
        let names = ["a".to_owned(), "b".to_owned()];

        assert_eq!(did_you_mean(&names).as_deref(), Some("did you mean `a` or `b`?"));
    }
    #[test]
    fn test_foreign_names_are_those_of_known_keys() {
        let known = ["interface", "bps", "iso", "file", "format"];

        assert_eq!(similar_or_foreign("bus", &known), ["interface"]);
        assert_eq!(similar_or_foreign("disk_bus", &known), ["interface"]);
        assert_eq!(similar_or_foreign("CDROM", &known), ["iso"]);
        // Only where there is such a key; else by similarity.
        assert_eq!(similar_or_foreign("vcpus", &known), [""; 0]);
        assert_eq!(similar_or_foreign("fiel", &known), ["file"]);
        assert!(FOREIGN.iter().is_sorted());
    }
}
