//! The user-data of cloud-init, made from the keys of a seed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::public_key::PublicKey;
use super::seed::{HostFiles, InvalidSeed, TextSource};

/// What the keys of a seed set up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CloudConfig {
    /// Users; without any, the default user of the image is created.
    pub users: Vec<GuestUser>,
    /// Public keys that may log in as each of the users, or as the default user.
    pub ssh_keys: Vec<TextSource>,
    /// Packages to install.
    pub packages: Vec<String>,
    /// Files to write.
    pub files: Vec<GuestFile>,
    /// Commands to run at the end.
    pub run: Vec<RunCommand>,
}

/// A user of the guest.
#[derive(Clone, PartialEq, Eq)]
pub struct GuestUser {
    /// Its name.
    pub name: String,
    /// Public keys that may log in, besides those of all users.
    pub ssh_keys: Vec<TextSource>,
    /// Groups it is a member of.
    pub groups: Vec<String>,
    /// Whether it may run everything as root, without a password.
    pub sudo: bool,
    /// Its shell, if not the default one.
    pub shell: Option<String>,
    /// Its password, if it has one.
    pub password: Option<TextSource>,
}

impl std::fmt::Debug for GuestUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestUser").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A file of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestFile {
    /// Its absolute path in the guest.
    pub path: String,
    /// Its content.
    pub content: TextSource,
    /// Its mode, in octal digits; 0644 if `None`.
    pub mode: Option<String>,
    /// Its owner, as in `app` or `app:app`; root if `None`.
    pub owner: Option<String>,
}

/// A command of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunCommand {
    /// A line for the shell.
    Shell(String),
    /// A program and its arguments.
    Program(Vec<String>),
}

impl CloudConfig {
    /// Returns the files of the host that it is made from.
    pub(super) fn sources(&self) -> impl Iterator<Item = &TextSource> {
        let users = self.users.iter().flat_map(|user| user.ssh_keys.iter().chain(&user.password));
        self.ssh_keys.iter().chain(users).chain(self.files.iter().map(|file| &file.content))
    }

    /// Returns the user-data.
    ///
    /// JSON is YAML as well, and needs no other quoting.
    pub(super) fn render(&self, files: &HostFiles) -> Result<String, InvalidSeed> {
        let mut config = Map::new();
        let common = keys(&self.ssh_keys, files)?;
        if self.users.is_empty() {
            if !common.is_empty() {
                config.insert("ssh_authorized_keys".to_owned(), json!(common));
            }
        } else {
            let users: Vec<Value> =
                self.users.iter().map(|user| user.render(&common, files)).collect::<Result<_, _>>()?;
            config.insert("users".to_owned(), users.into());
            if self.users.iter().any(|user| user.name == "root") {
                // Otherwise its keys lead to a note that another user is to be used.
                config.insert("disable_root".to_owned(), false.into());
            }
            if self.users.iter().any(|user| user.password.is_some()) {
                config.insert("ssh_pwauth".to_owned(), true.into());
            }
        }
        if !self.packages.is_empty() {
            config.insert("package_update".to_owned(), true.into());
            config.insert("packages".to_owned(), json!(self.packages));
        }
        if !self.files.is_empty() {
            let written: Vec<Value> = self.files.iter().map(|file| file.render(files)).collect::<Result<_, _>>()?;
            config.insert("write_files".to_owned(), written.into());
        }
        if !self.run.is_empty() {
            let commands = self.run.iter().map(|command| match command {
                RunCommand::Shell(line) => json!(line),
                RunCommand::Program(arguments) => json!(arguments),
            });
            config.insert("runcmd".to_owned(), commands.collect());
        }
        Ok(format!("#cloud-config\n{}\n", Value::Object(config)))
    }
}

impl GuestUser {
    /// Makes a user that may become root.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self { name, ssh_keys: Vec::new(), groups: Vec::new(), sudo: true, shell: None, password: None }
    }

    fn render(&self, common: &[String], files: &HostFiles) -> Result<Value, InvalidSeed> {
        let mut user = json!({ "name": self.name });
        let mut all = keys(&self.ssh_keys, files)?;
        all.extend(common.iter().filter(|key| !all.contains(key)).cloned().collect::<Vec<_>>());
        if !all.is_empty() {
            user["ssh_authorized_keys"] = json!(all);
        }
        if !self.groups.is_empty() {
            user["groups"] = self.groups.join(", ").into();
        }
        if self.sudo && self.name != "root" {
            user["sudo"] = "ALL=(ALL) NOPASSWD:ALL".into();
        }
        if let Some(shell) = &self.shell {
            user["shell"] = shell.as_str().into();
        }
        if let Some(password) = &self.password {
            user["lock_passwd"] = false.into();
            user["plain_text_passwd"] = password.text(files)?.trim_end_matches(['\r', '\n']).into();
        }
        Ok(user)
    }
}

impl GuestFile {
    fn render(&self, files: &HostFiles) -> Result<Value, InvalidSeed> {
        let mut file = json!({
            "path": self.path,
            "encoding": "b64",
            "content": STANDARD.encode(self.content.bytes(files)?),
            "permissions": self.mode.as_deref().unwrap_or("0644"),
        });
        if let Some(owner) = &self.owner {
            file["owner"] = owner.as_str().into();
            // Users are created after the other files are written.
            file["defer"] = true.into();
        }
        Ok(file)
    }
}

fn keys(sources: &[TextSource], files: &HostFiles) -> Result<Vec<String>, InvalidSeed> {
    let mut all = Vec::new();
    for source in sources {
        let keys = PublicKey::of_file(source.text(files)?);
        let keys = keys.map_err(|error| InvalidSeed::KeyInvalid { path: source.path().cloned(), error })?;
        all.extend(keys.iter().map(ToString::to_string));
    }
    Ok(all)
}
