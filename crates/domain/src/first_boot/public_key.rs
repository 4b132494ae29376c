//! The public key of an SSH client, as a line of `authorized_keys` (sshd(8)).

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::text::escaped;

/// The types of keys that OpenSSH knows (9.2).
const TYPES: [&str; 8] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ssh-dss",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// How much of an invalid key is quoted.
const MAX_QUOTED_CHARS: usize = 40;

/// A public key: options, if any, a type, the key in base64, and a comment, if any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(String);

/// A text that is not a public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid SSH public key `{quoted}`: {reason}")]
pub struct InvalidPublicKey {
    quoted: String,
    reason: &'static str,
}

impl PublicKey {
    /// Returns the line.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads the keys of a file such as `authorized_keys` or `id_ed25519.pub`.
    pub fn of_file(text: &str) -> Result<Vec<Self>, InvalidPublicKey> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(str::parse).collect()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PublicKey {
    type Err = InvalidPublicKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let line = text.trim();
        check(line).map_err(|reason| InvalidPublicKey {
            // The content of a private key is not shown.
            quoted: if line.contains("PRIVATE") { "…".to_owned() } else { escaped(line, MAX_QUOTED_CHARS) },
            reason,
        })?;
        Ok(Self(line.to_owned()))
    }
}

fn check(line: &str) -> Result<(), &'static str> {
    if line.contains("PRIVATE KEY") {
        return Err("it is a private key; the public one is in the file with `.pub`");
    }
    if line.chars().any(char::is_control) {
        return Err("expected one line");
    }
    let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
    let Some(at) = words.iter().position(|word| TYPES.contains(word)) else {
        return Err("expected a type such as `ssh-ed25519`, then the key");
    };
    let blob = words.get(at + 1).and_then(|key| STANDARD.decode(key).ok()).unwrap_or_default();
    // The key begins with its type, after the length of that.
    let kind = words[at].as_bytes();
    let length = u32::try_from(kind.len()).unwrap_or_default().to_be_bytes();
    let is_whole = blob.starts_with(&length) && blob[4..].starts_with(kind) && blob.len() > kind.len() + 8;
    if is_whole { Ok(()) } else { Err("the key after its type is damaged") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJ0cmFuZG9tYnl0ZXNyYW5kb21ieXRlczEyMzQ1 a@b";

    #[test]
    fn test_public_key_is_a_line_of_authorized_keys() {
        let with_options = format!(r#"restrict,command="a b" {KEY}"#);
        for line in [KEY, &with_options, &format!("  {KEY}\n")] {
            assert_eq!(line.parse::<PublicKey>().unwrap().as_str(), line.trim());
        }
        let keys = PublicKey::of_file(&format!("# mine\n\n{KEY}\r\n{KEY}\n")).unwrap();
        assert_eq!(keys.len(), 2);
    }

    #[test]
    fn test_public_key_damaged_is_refused_with_the_reason() {
        for (line, reason) in [
            ("", "expected a type"),
            ("AAAAC3NzaC1lZDI1NTE5", "expected a type"),
            ("ssh-ed25519", "damaged"),
            ("ssh-ed25519 AAAA", "damaged"),
            ("ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIGJ0cmFuZG9tYnl0ZXNyYW5kb21ieXRlczEyMzQ1", "damaged"),
            ("ssh-ed25519 A\nssh-ed25519 B", "one line"),
        ] {
            let error = line.parse::<PublicKey>().unwrap_err().to_string();
            assert!(error.contains(reason), "{line}: {error}");
        }
        let private = "-----BEGIN OPENSSH PRIVATE KEY-----".parse::<PublicKey>().unwrap_err().to_string();
        assert!(private.contains("`…`: it is a private key"), "{private}");
    }
}
