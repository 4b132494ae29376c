//! How its user logs in to a guest by SSH.

use std::path::{Path, PathBuf};

use super::credentials::Credentials;
use super::seed::{Seed, SeedSource, TextSource};

/// The user of a guest that has no other one.
const ROOT: &str = "root";

/// The credential from which systemd makes the keys of root (systemd.system-credentials(7), from 252 on).
const ROOT_KEYS: &str = "ssh.authorized_keys.root";

/// The user and the key of SSH.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SshAccess {
    /// The user; the first one of the seed if `None`, else root.
    pub user: Option<String>,
    /// The file with the private key; its public key is beside it, with `.pub` at its end.
    pub key: Option<PathBuf>,
}

impl SshAccess {
    /// Returns the user.
    pub fn user<'a>(&'a self, seed: Option<&'a Seed>) -> &'a str {
        let of_seed = seed.and_then(|seed| match &seed.source {
            SeedSource::Keys(config) => config.users.first(),
            SeedSource::File(_) => None,
        });
        self.user.as_deref().or_else(|| of_seed.map(|user| user.name.as_str())).unwrap_or(ROOT)
    }

    /// Returns whether the VM is to have a key of its own: no other one lets anybody log in, and the guest can be given it.
    pub fn wants_own_key(&self, seed: Option<&Seed>) -> bool {
        let has_place = match seed.map(|seed| &seed.source) {
            Some(SeedSource::Keys(config)) => {
                config.ssh_keys.is_empty() && config.users.iter().all(|user| user.ssh_keys.is_empty())
            }
            Some(SeedSource::File(_)) => false,
            None => self.user.as_deref() == Some(ROOT),
        };
        has_place && self.key.is_none()
    }

    /// Returns the same with a key of the VM.
    #[must_use]
    pub fn with_own_key(&self, key: &Path) -> Self {
        Self { user: self.user.clone(), key: Some(key.to_owned()) }
    }

    fn public_key(&self) -> Option<TextSource> {
        let mut path = self.key.clone()?.into_os_string();
        path.push(".pub");
        Some(TextSource::File(path.into()))
    }

    /// Returns a seed with the public key, which may then log in as each of its users.
    pub fn with_key(&self, mut seed: Seed) -> Seed {
        if let SeedSource::Keys(config) = &mut seed.source {
            config.ssh_keys.extend(self.public_key());
        }
        seed
    }

    /// Returns the credentials with the public key, if root logs in; one of the definition stays.
    pub fn with_root_key(&self, mut credentials: Credentials, seed: Option<&Seed>) -> Credentials {
        if self.user(seed) == ROOT
            && let Some(key) = self.public_key()
        {
            credentials.insert_new(ROOT_KEYS.to_owned(), key);
        }
        credentials
    }
}

#[cfg(test)]
mod tests {
    use super::super::user_data::{CloudConfig, GuestUser};
    use super::*;

    fn seed(users: &[&str]) -> Seed {
        let users = users.iter().map(|user| GuestUser::new(*user)).collect();
        Seed { source: SeedSource::Keys(CloudConfig { users, ..CloudConfig::default() }), ..Seed::default() }
    }

    fn access(user: Option<&str>) -> SshAccess {
        SshAccess { user: user.map(str::to_owned), key: Some("/k/id".into()) }
    }

    #[test]
    fn test_ssh_user_is_the_first_of_the_seed_or_root() {
        assert_eq!(access(None).user(Some(&seed(&["alice", "bob"]))), "alice");
        assert_eq!(access(Some("bob")).user(Some(&seed(&["alice"]))), "bob");
        assert_eq!(access(None).user(None), "root");
        assert_eq!(access(None).user(Some(&seed(&[]))), "root");
    }

    #[test]
    fn test_ssh_own_key_is_for_guests_without_another_one() {
        let none = |user: Option<&str>| SshAccess { user: user.map(str::to_owned), key: None };
        let keys = |config| Seed { source: SeedSource::Keys(config), ..Seed::default() };
        let key = || vec![TextSource::Text("ssh-ed25519 AAAA".to_owned())];
        let of_all = keys(CloudConfig { ssh_keys: key(), ..CloudConfig::default() });
        let alice = GuestUser { ssh_keys: key(), ..GuestUser::new("alice") };
        let of_one = keys(CloudConfig { users: vec![alice], ..CloudConfig::default() });
        let file = Seed { source: SeedSource::File("/u".into()), ..Seed::default() };

        assert!(none(None).wants_own_key(Some(&seed(&["alice"]))));
        assert!(none(Some("root")).wants_own_key(None));
        assert!(!access(None).wants_own_key(Some(&seed(&["alice"]))));
        assert_eq!([&of_all, &of_one, &file].map(|seed| none(None).wants_own_key(Some(seed))), [false; 3]);
        assert!(!none(None).wants_own_key(None) && !none(Some("alice")).wants_own_key(None));
        assert_eq!(none(Some("bob")).with_own_key(Path::new("/k/id")), access(Some("bob")));
    }

    #[test]
    fn test_ssh_key_is_one_of_the_seed_and_a_credential_of_root() {
        let key = TextSource::File("/k/id.pub".into());
        let SeedSource::Keys(config) = access(None).with_key(seed(&["alice"])).source else { panic!() };
        assert_eq!(config.ssh_keys, [key]);

        let files = |access: SshAccess, seed: Option<Seed>| {
            access.with_root_key(Credentials::default(), seed.as_ref()).host_files()
        };
        assert_eq!(files(access(None), None), [PathBuf::from("/k/id.pub")]);
        assert_eq!(files(access(None), Some(seed(&["alice"]))), Vec::<PathBuf>::new());
        assert_eq!(files(SshAccess::default(), None), Vec::<PathBuf>::new());
    }
}
