//! Putting a running guest into another QEMU: how its memory gets there, and whether both have the same processors.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Explain, Explanation, Fault};

/// How the memory of a guest gets into another QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum UpgradeMethod {
    /// Both have it mapped from the same file.
    SharedMemory,
    /// It is copied while the guest is paused.
    Copy,
}

/// What was found out about the memory of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpgradeFacts {
    /// Whether it is in a file that both QEMUs can map.
    pub is_in_shared_file: bool,
    /// How much of it there is to copy, in bytes.
    pub used_bytes: u64,
    /// How long the guest may be paused; `None` for any time.
    pub max_pause: Option<Duration>,
}

/// The method, and how long the guest is about to be paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpgradeChoice {
    /// The method.
    pub method: UpgradeMethod,
    /// How long the guest is paused, as far as that is known beforehand.
    pub estimate: Duration,
}

/// The guest would be paused for longer than it may be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the guest would be paused for about {} ms, longer than {} ms", estimate.as_millis(), max_pause.as_millis())]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct UpgradePauseTooLong {
    pub estimate: Duration,
    pub max_pause: Duration,
}

impl Explain for UpgradePauseTooLong {
    fn explain(&self) -> Explanation {
        Explanation::new("upgrade.pause-refused", Fault::State)
            .hint("pass a longer `--max-pause`, or none")
            .hint("give the VM its memory in a shared file, which is not copied, and restart it")
    }
}

/// How fast the memory of a paused guest is copied from one QEMU to another, in bytes a second (7.2, 10.0).
const COPY_BYTES_PER_SECOND: u64 = 1_300_000_000;

/// How long the rest takes: the state of the devices, and that the other QEMU goes on (10 to 17 ms on 7.2 and 10.0).
const SWITCH_PAUSE: Duration = Duration::from_millis(30);

/// Chooses the method.
///
/// The memory of a guest that runs is never copied: under TCG, QEMU 7.2 destroys the guest by that (20 of 20 tried).
pub fn choose(facts: &UpgradeFacts) -> Result<UpgradeChoice, UpgradePauseTooLong> {
    let choice = if facts.is_in_shared_file {
        UpgradeChoice { method: UpgradeMethod::SharedMemory, estimate: SWITCH_PAUSE }
    } else {
        let copy = Duration::from_millis(facts.used_bytes.div_ceil(COPY_BYTES_PER_SECOND / 1000));
        UpgradeChoice { method: UpgradeMethod::Copy, estimate: SWITCH_PAUSE + copy }
    };
    match facts.max_pause {
        Some(max_pause) if choice.estimate > max_pause => {
            Err(UpgradePauseTooLong { estimate: choice.estimate, max_pause })
        }
        _ => Ok(choice),
    }
}

/// The features of an x86 processor that a guest can see: the bits of each word of CPUID.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuFeatures(BTreeMap<String, u64>);

impl CpuFeatures {
    /// Reads the property `feature-words` of a processor (QEMU 7.2 and 10.0).
    pub fn from_reply(words: &Value) -> Self {
        let word = |word: &Value| {
            let (leaf, register) = (word["cpuid-input-eax"].as_u64()?, word["cpuid-register"].as_str()?);
            let part = word["cpuid-input-ecx"].as_u64().map(|part| format!(".{part}")).unwrap_or_default();
            Some((format!("{leaf:x}{part}:{register}"), word["features"].as_u64()?))
        };
        Self(words.as_array().into_iter().flatten().filter_map(word).collect())
    }

    /// Returns the words in which another processor differs; a word that one of them does not know is without features.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let names = self.0.keys().chain(other.0.keys()).collect::<std::collections::BTreeSet<_>>();
        let bits = |features: &Self, name: &str| features.0.get(name).copied().unwrap_or_default();
        let differs = |name: &&String| bits(self, name) != bits(other, name);
        let shown = |name: &String| format!("{name} {:#x}, {:#x}", bits(self, name), bits(other, name));
        names.into_iter().filter(differs).map(shown).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn test_choose_shared_file_is_not_copied() {
        let facts = UpgradeFacts { is_in_shared_file: true, used_bytes: 8 << 30, max_pause: Some(SWITCH_PAUSE) };

        assert_eq!(choose(&facts).unwrap().method, UpgradeMethod::SharedMemory);
    }

    #[test]
    fn test_choose_copy_takes_its_time() {
        let facts = UpgradeFacts { is_in_shared_file: false, used_bytes: 2_600_000_000, max_pause: None };

        let choice = choose(&facts).unwrap();

        assert_eq!((choice.method, choice.estimate), (UpgradeMethod::Copy, Duration::from_millis(2030)));
        let refused = choose(&UpgradeFacts { max_pause: Some(Duration::from_secs(1)), ..facts }).unwrap_err();
        assert_eq!(refused.to_string(), "the guest would be paused for about 2030 ms, longer than 1000 ms");
    }

    #[test]
    fn test_cpu_features_differ_by_words() {
        let word = |leaf: u64, register: &str, features: u64| json!({ "cpuid-input-eax": leaf, "cpuid-register": register, "features": features });
        let older = CpuFeatures::from_reply(&json!([word(1, "EDX", 7), word(7, "EBX", 0)]));
        let newer = CpuFeatures::from_reply(&json!([word(1, "EDX", 7), word(7, "EBX", 0), word(0x14, "ECX", 0)]));
        let other = CpuFeatures::from_reply(&json!([word(1, "EDX", 7), word(7, "EBX", 0x20)]));

        assert_eq!(older.differences(&newer), [""; 0]);
        assert_eq!(older.differences(&other), ["7:EBX 0x0, 0x20"]);
        assert_eq!(CpuFeatures::from_reply(&json!("none")), CpuFeatures::default());
    }
}
