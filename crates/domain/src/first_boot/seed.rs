//! A seed, and the files that cloud-init reads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::iso9660;
use super::public_key::InvalidPublicKey;
use super::user_data::CloudConfig;
use crate::error::{Explain, Explanation, Fault};
use crate::text::stable_hash;

/// The label by which cloud-init finds the disk.
const LABEL: &str = "CIDATA";

/// What a guest is set up with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seed {
    /// The host name; the name of the VM if `None` and that is one.
    pub hostname: Option<String>,
    /// The user-data.
    pub source: SeedSource,
    /// The user's file of meta-data, if any.
    pub meta_data: Option<PathBuf>,
    /// The configuration of the network, if any.
    pub network: Option<NetworkConfig>,
}

/// Where user-data comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeedSource {
    /// From the keys of the definition.
    Keys(CloudConfig),
    /// The user's file.
    File(PathBuf),
}

impl Default for SeedSource {
    fn default() -> Self {
        Self::Keys(CloudConfig::default())
    }
}

/// The configuration of a guest's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkConfig {
    /// In the format of Netplan.
    Map(Value),
    /// The user's file.
    File(PathBuf),
}

/// A text of the definition, or a file of the host.
#[derive(Clone, PartialEq, Eq)]
pub enum TextSource {
    /// The text; it may be a secret.
    Text(String),
    /// The path of the file.
    File(PathBuf),
}

impl std::fmt::Debug for TextSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// The contents of files of the host.
#[derive(Default, Clone, PartialEq, Eq)]
pub struct HostFiles(BTreeMap<PathBuf, Vec<u8>>);

impl HostFiles {
    /// Adds the content of a file.
    pub fn insert(&mut self, path: PathBuf, content: Vec<u8>) {
        self.0.insert(path, content);
    }

    fn get(&self, path: &Path) -> Result<&[u8], InvalidSeed> {
        let content = self.0.get(path).map(Vec::as_slice);
        content.ok_or_else(|| InvalidSeed::FileNotFound { path: path.to_owned() })
    }
}

impl TextSource {
    /// Returns the path, if it is a file.
    pub const fn path(&self) -> Option<&PathBuf> {
        match self {
            Self::File(path) => Some(path),
            Self::Text(_) => None,
        }
    }

    /// Returns the bytes.
    pub fn bytes<'a>(&'a self, files: &'a HostFiles) -> Result<&'a [u8], InvalidSeed> {
        match self {
            Self::Text(text) => Ok(text.as_bytes()),
            Self::File(path) => files.get(path),
        }
    }

    /// Returns the text.
    pub fn text<'a>(&'a self, files: &'a HostFiles) -> Result<&'a str, InvalidSeed> {
        std::str::from_utf8(self.bytes(files)?)
            .map_err(|_| InvalidSeed::NotText { path: self.path().cloned().unwrap_or_default() })
    }
}

/// Why there is no seed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum InvalidSeed {
    #[error("`{}` not found", path.display())]
    FileNotFound { path: PathBuf },
    #[error("`{}` is not UTF-8", path.display())]
    NotText { path: PathBuf },
    #[error("{}{error}", path.as_ref().map(|path| format!("`{}`: ", path.display())).unwrap_or_default())]
    KeyInvalid { path: Option<PathBuf>, error: InvalidPublicKey },
    #[error("the seed has {bytes} bytes, the limit is {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("the credentials have {bytes} bytes, the limit is {limit}")]
    CredentialsTooLarge { bytes: usize, limit: usize },
    #[error(
        "the credential `{name}` has a name of more than 28 characters, and does not fit into the firmware's tables"
    )]
    CredentialNameTooLong { name: String },
}

impl Explain for InvalidSeed {
    fn explain(&self) -> Explanation {
        match self {
            Self::FileNotFound { .. } => {
                Explanation::new("seed.file-not-found", Fault::NotFound).hint("correct the path in the definition")
            }
            Self::NotText { .. } => Explanation::new("seed.file-invalid", Fault::Usage).hint("save the file as UTF-8"),
            Self::KeyInvalid { .. } => Explanation::new("seed.ssh-key-invalid", Fault::Usage)
                .hint("use the public key: the line in a file such as `id_ed25519.pub`"),
            Self::CredentialsTooLarge { .. } => Explanation::new("credentials.too-large", Fault::Usage)
                .hint("copy large files into the guest: `maqet cp`, or `seed: {files: …}`"),
            Self::CredentialNameTooLong { .. } => {
                Explanation::new("credentials.name-invalid", Fault::Usage).hint("choose a shorter name")
            }
            Self::TooLarge { .. } => Explanation::new("seed.too-large", Fault::Usage)
                .hint("share a directory with the guest instead of writing large files: `type: virtfs`"),
        }
    }
}

/// The VM that a seed is for.
#[derive(Debug, Clone, Copy)]
pub struct SeedOwner<'a> {
    /// Its ID.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// The files that cloud-init reads.
#[derive(Clone, PartialEq, Eq)]
pub struct SeedFiles {
    /// What to do.
    pub user_data: Vec<u8>,
    /// Which instance this is, and its host name.
    pub meta_data: Vec<u8>,
    /// The network, if it is configured.
    pub network_config: Option<Vec<u8>>,
}

impl Seed {
    /// Returns the files of the host that it is made from.
    pub fn host_files(&self) -> Vec<PathBuf> {
        let of_keys = match &self.source {
            SeedSource::Keys(config) => config.sources().filter_map(TextSource::path).cloned().collect(),
            SeedSource::File(path) => vec![path.clone()],
        };
        let network = match &self.network {
            Some(NetworkConfig::File(path)) => Some(path),
            Some(NetworkConfig::Map(_)) | None => None,
        };
        of_keys.into_iter().chain(self.meta_data.iter().chain(network).cloned()).collect()
    }

    /// Returns the files for cloud-init; `files` are those of the host that it is made from.
    ///
    /// cloud-init does everything once for each instance. The ID of the instance is made from the VM and the seed: the same
    /// seed is the same instance, and another one a new instance, which is set up again.
    pub fn render(&self, owner: SeedOwner<'_>, files: &HostFiles) -> Result<SeedFiles, InvalidSeed> {
        let user_data = match &self.source {
            SeedSource::Keys(config) => config.render(files)?.into_bytes(),
            SeedSource::File(path) => files.get(path)?.to_vec(),
        };
        let network_config = match &self.network {
            None => None,
            Some(NetworkConfig::Map(map)) => Some(format!("{map}\n").into_bytes()),
            Some(NetworkConfig::File(path)) => Some(files.get(path)?.to_vec()),
        };
        let hostname = self.hostname.as_deref().or_else(|| Some(owner.name).filter(|name| is_host_name(name)));
        let meta_data = if let Some(path) = &self.meta_data {
            files.get(path)?.to_vec()
        } else {
            let name = hostname.unwrap_or_default().as_bytes();
            let content = [name, &user_data, network_config.as_deref().unwrap_or_default()].join(&b"\0\0"[..]);
            let mut meta = json!({ "instance-id": format!("{}-{:016x}", owner.id, stable_hash(&content)) });
            if let Some(hostname) = hostname {
                meta["local-hostname"] = hostname.into();
            }
            format!("{meta}\n").into_bytes()
        };
        Ok(SeedFiles { user_data, meta_data, network_config })
    }
}

impl SeedFiles {
    /// Returns how many bytes they have together.
    pub fn bytes(&self) -> usize {
        self.user_data.len() + self.meta_data.len() + self.network_config.as_ref().map_or(0, Vec::len)
    }

    /// Returns the image of a CD with them.
    pub fn image(&self) -> Vec<u8> {
        let mut files = vec![("user-data", self.user_data.as_slice()), ("meta-data", self.meta_data.as_slice())];
        files.extend(self.network_config.as_deref().map(|config| ("network-config", config)));
        iso9660::image(LABEL, &files)
    }
}

/// Returns whether a text is a host name: labels of letters, digits and hyphens (RFC 1123).
pub fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        is_inner && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::super::user_data::{GuestFile, GuestUser, RunCommand};
    use super::*;

    const OWNER: SeedOwner<'_> = SeedOwner { id: "0d9f", name: "web" };

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJ0cmFuZG9tYnl0ZXNyYW5kb21ieXRlczEyMzQ1 a@b";

    fn rendered(seed: &Seed) -> (Value, Value) {
        let mut files = HostFiles::default();
        files.insert("/h/key.pub".into(), KEY.into());
        files.insert("/h/data".into(), vec![0, 255]);
        let files = seed.render(OWNER, &files).unwrap();
        let user_data = files.user_data.strip_prefix(b"#cloud-config\n").unwrap();
        (serde_json::from_slice(user_data).unwrap(), serde_json::from_slice(&files.meta_data).unwrap())
    }

    fn keys(config: CloudConfig) -> Seed {
        Seed { source: SeedSource::Keys(config), ..Seed::default() }
    }

    #[test]
    fn test_seed_keys_become_user_data_of_cloud_init() {
        let key = || TextSource::File("/h/key.pub".into());
        let alice = GuestUser {
            groups: vec!["adm".to_owned(), "kvm".to_owned()],
            password: Some(TextSource::Text("x: {y".to_owned())),
            ..GuestUser::new("alice")
        };
        let file = GuestFile {
            path: "/etc/a".to_owned(),
            content: TextSource::File("/h/data".into()),
            mode: Some("0600".to_owned()),
            owner: Some("alice".to_owned()),
        };

        let (data, meta) = rendered(&keys(CloudConfig {
            users: vec![alice, GuestUser::new("root")],
            ssh_keys: vec![key()],
            packages: vec!["jq".to_owned()],
            files: vec![file],
            run: vec![
                RunCommand::Shell("a && b".to_owned()),
                RunCommand::Program(vec!["touch".to_owned(), "/x y".to_owned()]),
            ],
        }));

        assert_eq!(
            data,
            json!({
                "users": [
                    {
                        "name": "alice", "ssh_authorized_keys": [KEY], "groups": "adm, kvm",
                        "sudo": "ALL=(ALL) NOPASSWD:ALL", "lock_passwd": false, "plain_text_passwd": "x: {y",
                    },
                    { "name": "root", "ssh_authorized_keys": [KEY] },
                ],
                "disable_root": false,
                "ssh_pwauth": true,
                "package_update": true,
                "packages": ["jq"],
                "write_files": [{
                    "path": "/etc/a", "encoding": "b64", "content": "AP8=", "permissions": "0600", "owner": "alice",
                    "defer": true,
                }],
                "runcmd": ["a && b", ["touch", "/x y"]],
            })
        );
        assert_eq!(meta["local-hostname"], "web");
    }

    #[test]
    fn test_seed_keys_without_users_are_those_of_the_default_user() {
        let (data, _) =
            rendered(&keys(CloudConfig { ssh_keys: vec![TextSource::Text(KEY.to_owned())], ..CloudConfig::default() }));

        assert_eq!(data, json!({ "ssh_authorized_keys": [KEY] }));
    }

    #[test]
    fn test_seed_instance_is_another_one_for_another_seed_only() {
        let id = |seed: &Seed| rendered(seed).1["instance-id"].as_str().unwrap().to_owned();
        let plain = Seed::default();
        let run = keys(CloudConfig { run: vec![RunCommand::Shell("a".to_owned())], ..CloudConfig::default() });
        let named = Seed { hostname: Some("other".to_owned()), ..Seed::default() };

        assert_eq!(id(&plain), id(&plain));
        assert!(id(&plain).starts_with("0d9f-"), "{}", id(&plain));
        let all = std::collections::BTreeSet::from([id(&plain), id(&run), id(&named)]);
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn test_seed_own_files_are_taken_as_they_are() {
        let seed = Seed {
            source: SeedSource::File("/h/u".into()),
            meta_data: Some("/h/m".into()),
            network: Some(NetworkConfig::File("/h/n".into())),
            ..Seed::default()
        };
        let mut files = HostFiles::default();
        assert_eq!(seed.host_files(), ["/h/u", "/h/m", "/h/n"].map(PathBuf::from));
        for path in seed.host_files() {
            let content = path.to_str().unwrap().as_bytes().to_vec();
            files.insert(path, content);
        }

        let rendered = seed.render(OWNER, &files).unwrap();

        assert_eq!(rendered.user_data, b"/h/u");
        assert_eq!(rendered.meta_data, b"/h/m");
        assert_eq!(rendered.network_config.as_deref(), Some(&b"/h/n"[..]));
    }

    #[test]
    fn test_seed_damaged_key_of_a_file_is_named_with_it() {
        let seed = keys(CloudConfig { ssh_keys: vec![TextSource::File("/h/k".into())], ..CloudConfig::default() });
        let mut files = HostFiles::default();
        files.insert("/h/k".into(), b"ssh-rsa x".to_vec());

        let error = seed.render(OWNER, &files).err().unwrap();

        assert_eq!(error.code(), "seed.ssh-key-invalid");
        assert!(error.to_string().starts_with("`/h/k`: invalid SSH public key `ssh-rsa x`"), "{error}");
    }

    #[test]
    fn test_host_name_has_labels_of_letters_digits_and_hyphens() {
        for name in ["web", "a-1.example", "1"] {
            assert!(is_host_name(name), "{name}");
        }
        for name in ["", "a_b", "-a", "a.", "a b", &"x".repeat(64)] {
            assert!(!is_host_name(name), "{name}");
        }
    }
}
