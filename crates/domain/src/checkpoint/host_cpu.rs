//! Guests that have the CPU of the host: their memory is of no use on a host with another one.

use std::collections::BTreeSet;

use crate::qemu::switch_values;

/// Returns whether a guest has the CPU of the host: QEMU passes it on, and refuses no other one later.
pub fn has_host_cpu(accelerator: &str, args: &[String]) -> bool {
    let model = switch_values(args).filter(|(switch, _)| *switch == "cpu").last();
    let is_host = |(_, value): (&str, &str)| matches!(value.split(',').next(), Some("host" | "max"));
    accelerator == "kvm" && model.is_some_and(is_host)
}

/// Returns in what the flags of the host's CPU differ from those that were saved; `None` if they do not.
pub fn cpu_difference(saved: &[String], now: &[String]) -> Option<String> {
    let (saved, now): (BTreeSet<&String>, BTreeSet<&String>) = (saved.iter().collect(), now.iter().collect());
    let listed = |flags: Vec<&&String>| flags.iter().map(|flag| format!("`{flag}`")).collect::<Vec<_>>().join(", ");
    match (saved.difference(&now).collect::<Vec<_>>(), now.difference(&saved).collect::<Vec<_>>()) {
        (gone, new) if gone.is_empty() && new.is_empty() => None,
        (gone, new) if gone.is_empty() => Some(format!("the CPU of this host has {} in addition", listed(new))),
        (gone, _) => Some(format!("the CPU of this host lacks {}", listed(gone))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn test_host_cpu_is_that_of_the_last_switch_with_kvm() {
        for (accelerator, line, expected) in [
            ("kvm", "-m 1G -cpu host", true),
            ("kvm", "-cpu host,migratable=off", true),
            ("kvm", "-cpu max", true),
            ("kvm", "-cpu host -cpu qemu64", false),
            ("kvm", "-smp 2", false),
            ("tcg", "-cpu max", false),
        ] {
            assert_eq!(has_host_cpu(accelerator, &texts(line)), expected, "{accelerator} {line}");
        }
    }

    #[test]
    fn test_cpu_difference_names_the_flags() {
        let difference = |now| cpu_difference(&texts("avx fpu"), &texts(now));

        assert_eq!(difference("avx fpu"), None);
        assert_eq!(difference("fpu sse").unwrap(), "the CPU of this host lacks `avx`");
        assert_eq!(difference("avx fpu sse").unwrap(), "the CPU of this host has `sse` in addition");
    }
}
