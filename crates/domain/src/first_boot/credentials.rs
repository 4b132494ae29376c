//! Credentials for the services of a guest, which systemd takes at its boot (systemd.exec(5), `ImportCredential=`).
//!
//! They reach the guest in the tables of its firmware (SMBIOS type 11) or as items of QEMU's `fw_cfg`. Their values are in
//! private files that QEMU reads: they are in no process list.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::seed::{HostFiles, InvalidSeed, TextSource};
use crate::qemu::Switch;

/// How many credentials a VM has at most.
pub const MAX_CREDENTIALS: u8 = 32;

/// How much of the firmware's strings systemd 252 reads; the rest would be cut, also within a value.
const MAX_SMBIOS_BYTES: usize = 3584;

/// How large all credentials may be (`CREDENTIALS_TOTAL_SIZE_MAX` of systemd 252).
const MAX_BYTES: usize = 1 << 20;

/// The directory of credentials among the items of `fw_cfg`.
const FW_CFG_PREFIX: &str = "opt/io.systemd.credentials/";

/// The longest name of an item (`FW_CFG_MAX_FILE_PATH`, with a NUL).
const MAX_FW_CFG_NAME_BYTES: usize = 55;

/// The credentials of a guest, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials(BTreeMap<String, TextSource>);

/// How a credential reaches the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialWay {
    /// As a string of the firmware's tables.
    Smbios,
    /// As an item of `fw_cfg`.
    FwCfg,
}

/// A credential for QEMU.
#[derive(Clone, PartialEq, Eq)]
pub struct PassedCredential {
    /// Its name.
    pub name: String,
    /// How it reaches the guest.
    pub way: CredentialWay,
    /// The content of the file that QEMU reads.
    pub content: Vec<u8>,
}

impl std::fmt::Debug for PassedCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PassedCredential").field("name", &self.name).field("way", &self.way).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Returns whether a text can be the name of a credential: it becomes the name of a file in the guest.
    pub fn is_name(text: &str) -> bool {
        let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
        (1..=200).contains(&text.len()) && text.bytes().all(is_valid) && !text.bytes().all(|byte| byte == b'.')
    }

    /// Adds one.
    pub fn insert(&mut self, name: String, value: TextSource) {
        self.0.insert(name, value);
    }

    /// Adds one unless there is one of this name.
    pub(super) fn insert_new(&mut self, name: String, value: TextSource) {
        self.0.entry(name).or_insert(value);
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the files of the host that have values.
    pub fn host_files(&self) -> Vec<PathBuf> {
        self.0.values().filter_map(TextSource::path).cloned().collect()
    }

    /// Returns what QEMU passes to the guest; `has_smbios` if its machine has such tables, and `files` are those of the host.
    ///
    /// The tables take as much as systemd reads of them in any version. More goes by `fw_cfg`, where names are short.
    pub fn render(&self, files: &HostFiles, has_smbios: bool) -> Result<Vec<PassedCredential>, InvalidSeed> {
        let values = self.0.iter().map(|(name, value)| Ok((name, value.bytes(files)?)));
        let values: Vec<(&String, &[u8])> = values.collect::<Result<_, _>>()?;
        let bytes = values.iter().map(|(_, value)| value.len()).sum();
        if bytes > MAX_BYTES {
            return Err(InvalidSeed::CredentialsTooLarge { bytes, limit: MAX_BYTES });
        }
        let strings: Vec<String> = values.iter().map(|(name, value)| smbios_string(name, value)).collect();
        let all_fit = has_smbios && strings.iter().map(|string| string.len() + 1).sum::<usize>() <= MAX_SMBIOS_BYTES;
        let mut left = MAX_SMBIOS_BYTES;
        let mut passed = Vec::new();
        for ((name, value), string) in values.into_iter().zip(strings) {
            let is_short = FW_CFG_PREFIX.len() + name.len() <= MAX_FW_CFG_NAME_BYTES;
            if !all_fit && is_short {
                passed.push(PassedCredential {
                    name: name.clone(),
                    way: CredentialWay::FwCfg,
                    content: value.to_vec(),
                });
                continue;
            }
            if !has_smbios {
                return Err(InvalidSeed::CredentialNameTooLong { name: name.clone() });
            }
            left = left.checked_sub(string.len() + 1).ok_or(InvalidSeed::CredentialsTooLarge {
                bytes: MAX_SMBIOS_BYTES - left + string.len() + 1,
                limit: MAX_SMBIOS_BYTES,
            })?;
            let way = CredentialWay::Smbios;
            passed.push(PassedCredential { name: name.clone(), way, content: string.into_bytes() });
        }
        Ok(passed)
    }
}

impl PassedCredential {
    /// Returns the switch for QEMU, which reads the file `path`.
    pub(crate) fn switch(&self, path: &str) -> Switch {
        match self.way {
            CredentialWay::Smbios => Switch::new("smbios").option("type", "11").option("path", path),
            CredentialWay::FwCfg => {
                let name = format!("{FW_CFG_PREFIX}{}", self.name);
                Switch::new("fw_cfg").option("name", name).option("file", path)
            }
        }
    }
}

/// The binary form takes any bytes.
fn smbios_string(name: &str, value: &[u8]) -> String {
    format!("io.systemd.credential.binary:{name}={}", STANDARD.encode(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Explain;

    fn passed(values: &[(&str, &str)], has_smbios: bool) -> Result<Vec<(String, CredentialWay)>, String> {
        let mut credentials = Credentials::default();
        for (name, value) in values {
            credentials.insert((*name).to_owned(), TextSource::Text((*value).to_owned()));
        }
        let passed = credentials.render(&HostFiles::default(), has_smbios);
        let passed = passed.map_err(|error| error.code().to_owned())?;
        Ok(passed.into_iter().map(|one| (one.name, one.way)).collect())
    }

    #[test]
    fn test_credentials_are_strings_of_the_firmware_while_they_fit() {
        let mut credentials = Credentials::default();
        credentials.insert("b".to_owned(), TextSource::Text("x: y\n".to_owned()));
        credentials.insert("a".to_owned(), TextSource::File("/k".into()));
        let mut files = HostFiles::default();
        files.insert("/k".into(), vec![0, 255]);

        let passed = credentials.render(&files, true).unwrap();

        let contents: Vec<&[u8]> = passed.iter().map(|one| one.content.as_slice()).collect();
        assert_eq!(contents, [&b"io.systemd.credential.binary:a=AP8="[..], b"io.systemd.credential.binary:b=eDogeQo="]);
        assert_eq!(passed[0].switch("/r/a,b").args().collect::<Vec<_>>(), ["-smbios", "type=11,path=/r/a,,b"]);
        assert!(!format!("{passed:?} {credentials:?}").contains("eDog"), "{passed:?}");
    }

    #[test]
    fn test_credentials_that_do_not_fit_are_items_of_fw_cfg() {
        use CredentialWay::{FwCfg, Smbios};
        let long = "n".repeat(29);
        let large = "v".repeat(3000);
        let both = [("small", "1"), ("large", large.as_str()), (long.as_str(), "2")];

        let ways = passed(&both, true).unwrap();

        assert_eq!(ways.iter().map(|(_, way)| *way).collect::<Vec<_>>(), [FwCfg, Smbios, FwCfg]);
        assert_eq!(passed(&[("small", "1")], false).unwrap()[0].1, FwCfg);
        assert_eq!(passed(&both, false), Err("credentials.name-invalid".to_owned()));
        let most = "v".repeat((MAX_SMBIOS_BYTES - "io.systemd.credential.binary:a=".len() - 1) / 4 * 3);
        assert_eq!(passed(&[("a", &most)], true).unwrap()[0].1, Smbios);
        assert_eq!(passed(&[("a", &format!("{most}xxx"))], true).unwrap()[0].1, FwCfg);
    }

    #[test]
    fn test_credentials_that_fit_nowhere_are_too_large() {
        let long = "n".repeat(29);

        assert_eq!(passed(&[(&long, &"v".repeat(3000))], true), Err("credentials.too-large".to_owned()));
        assert_eq!(passed(&[("a", &"v".repeat(MAX_BYTES + 1))], true), Err("credentials.too-large".to_owned()));
    }

    #[test]
    fn test_credential_switch_of_fw_cfg_names_the_file() {
        let credential =
            PassedCredential { name: "a".to_owned(), way: CredentialWay::FwCfg, content: b"secret".to_vec() };

        assert_eq!(
            credential.switch("/r/c").args().collect::<Vec<_>>(),
            ["-fw_cfg", "name=opt/io.systemd.credentials/a,file=/r/c"]
        );
    }

    #[test]
    fn test_credential_name_is_that_of_a_file() {
        for name in ["ssh.authorized_keys.root", "a-b_c@1", "x"] {
            assert!(Credentials::is_name(name), "{name}");
        }
        for name in ["", ".", "..", "a/b", "a:b", "a=b", "a,b", "é", "a b", &"n".repeat(201)] {
            assert!(!Credentials::is_name(name), "{name}");
        }
    }
}
