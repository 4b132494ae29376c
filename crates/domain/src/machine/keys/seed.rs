//! The key of the first boot of a guest: `seed`.

use std::path::Path;

use serde_json::json;

use super::KeySpec;
use super::table::doc;
use crate::config::{Diagnostics, KeyPath, Node, Value, schema};
use crate::first_boot::{
    CloudConfig, GuestFile, GuestUser, NetworkConfig, PublicKey, RunCommand, Seed, SeedSource, TextSource, is_host_name,
};
use crate::guest::UserName;
use crate::machine::{HIDDEN, Machine};

/// The keys of the first boot, in the order of `maqet config keys`.
pub(super) const SEED_KEYS: &[KeySpec] = &[KeySpec::new(
    "seed",
    doc(
        "what cloud-init sets up in the guest at its first boot",
        "a map with hostname, users, ssh_keys, packages, files, run, network, or with the files user_data, meta_data, \
         network_config",
    ),
    schema,
    apply,
)
.rebased_by(rebase)];

/// The keys that become user-data.
const CONFIG: [&str; 5] = ["users", "ssh_keys", "packages", "files", "run"];

const KEYS: [&str; 10] = [
    "hostname", "users", "ssh_keys", "packages", "files", "run", "network", "user_data", "meta_data", "network_config",
];

const USER_KEYS: [&str; 6] = ["name", "ssh_keys", "groups", "sudo", "shell", "password"];

const FILE_KEYS: [&str; 4] = ["content", "source", "mode", "owner"];

/// The keys whose values are paths.
const PATHS: [&str; 3] = ["user_data", "meta_data", "network_config"];

fn schema() -> serde_json::Value {
    let list = |item: &serde_json::Value| schema::list(&json!({ "anyOf": [item, schema::deletion()] }));
    let texts = || list(&schema::text());
    let user = schema::map(vec![
        ("name", schema::text()),
        ("ssh_keys", texts()),
        ("groups", texts()),
        ("sudo", schema::boolean()),
        ("shell", schema::text()),
        ("password", schema::text()),
    ]);
    let file = schema::map(vec![
        ("content", schema::text()),
        ("source", json!({ "type": "string" })),
        ("mode", schema::text()),
        ("owner", schema::text()),
    ]);
    let files =
        json!({ "type": "object", "additionalProperties": { "anyOf": [schema::text(), file, { "type": "null" }] } });
    schema::map(vec![
        ("hostname", schema::text()),
        ("users", list(&json!({ "anyOf": [schema::text(), user] }))),
        ("ssh_keys", texts()),
        ("packages", texts()),
        ("files", files),
        (
            "run",
            list(&json!({ "anyOf": [schema::text(), { "type": "array", "minItems": 1, "items": schema::text() }] })),
        ),
        ("network", json!({ "type": "object" })),
        ("user_data", json!({ "type": "string" })),
        ("meta_data", json!({ "type": "string" })),
        ("network_config", json!({ "type": "string" })),
    ])
}

/// Resolves the paths against the directory of their file.
fn rebase(node: Node, folder: &Path) -> Node {
    map_values(node, |key, value| match key {
        key if PATHS.contains(&key) => value.rebased(folder),
        "ssh_keys" => value.map_items(|items| items.into_iter().map(|item| rebase_source(item, folder)).collect()),
        "users" => value.map_items(|items| items.into_iter().map(|item| rebase_user(item, folder)).collect()),
        "files" => map_values(value, |_, file| {
            map_values(file, |key, value| if key == "source" { value.rebased(folder) } else { value })
        }),
        _ => value,
    })
}

fn rebase_user(user: Node, folder: &Path) -> Node {
    map_values(user, |key, value| match key {
        "ssh_keys" => value.map_items(|items| items.into_iter().map(|item| rebase_source(item, folder)).collect()),
        "password" => rebase_source(value, folder),
        _ => value,
    })
}

pub(super) fn map_values(node: Node, change: impl Fn(&str, Node) -> Node) -> Node {
    node.map_entries(|entries| {
        let changed = |(key, value): (String, Node)| {
            let value = change(&key, value);
            (key, value)
        };
        entries.into_iter().map(changed).collect()
    })
}

/// Resolves the path after the `@`.
pub(super) fn rebase_source(node: Node, folder: &Path) -> Node {
    node.map_value(|value| match value {
        Value::Text(text) => match text.strip_prefix('@') {
            Some(path) => {
                let path = Node::text(path).rebased(folder);
                Value::Text(format!("@{}", path.as_text().unwrap_or_default()))
            }
            None => Value::Text(text),
        },
        other => other,
    })
}

fn apply(path: &KeyPath, node: &Node, machine: &mut Machine, report: &mut Diagnostics) {
    let Some(entries) = report.map(path, node) else { return };
    for (key, value) in entries.iter().filter(|(key, _)| !KEYS.contains(&key.as_str())) {
        report.unknown_key(&path.key(key), value, &KEYS);
    }
    for (file, others) in [("user_data", &CONFIG[..]), ("meta_data", &["hostname"]), ("network_config", &["network"])] {
        for key in others {
            if let (Some(_), Some(value)) = (node.non_null(file), node.non_null(key)) {
                let help = Some(format!("remove `{file}` or `{key}`"));
                report.key_error(&path.key(key), value, format!("`{file}` excludes `{key}`"), help);
            }
        }
    }
    let mut reader = Reader { report };
    let file = |reader: &mut Reader<'_>, key: &str| {
        node.non_null(key).and_then(|value| reader.report.path(&path.key(key), value))
    };
    let source = match file(&mut reader, "user_data") {
        Some(file) => SeedSource::File(file),
        None => SeedSource::Keys(reader.config(path, node)),
    };
    let network = match file(&mut reader, "network_config") {
        Some(file) => Some(NetworkConfig::File(file)),
        None => node.non_null("network").and_then(|value| reader.network(&path.key("network"), value)),
    };
    let meta_data = file(&mut reader, "meta_data");
    let hostname = node.non_null("hostname").and_then(|value| reader.hostname(&path.key("hostname"), value));
    machine.seed = Some(Seed { hostname, source, meta_data, network });
}

/// Reads a text, or the file after an `@`.
pub(super) fn source(report: &mut Diagnostics, path: &KeyPath, node: &Node) -> Option<TextSource> {
    let text = report.text(path, node)?;
    if text == HIDDEN {
        let help = Some("write the value, or `@FILE`: `maqet info --secrets` shows it".to_owned());
        report.key_error(path, node, "the value is hidden", help);
        return None;
    }
    let Some(file) = text.strip_prefix('@') else { return Some(TextSource::Text(text)) };
    let file = node.clone().map_value(|_| Value::Text(file.to_owned()));
    report.path(path, &file).map(TextSource::File)
}

/// Reads the parts of a seed.
struct Reader<'r> {
    report: &'r mut Diagnostics,
}

impl Reader<'_> {
    fn config(&mut self, path: &KeyPath, node: &Node) -> CloudConfig {
        let mut config = CloudConfig::default();
        if let Some(users) = node.non_null("users") {
            config.users = self.users(&path.key("users"), users);
        }
        if let Some(keys) = node.non_null("ssh_keys") {
            config.ssh_keys = self.keys(&path.key("ssh_keys"), keys);
        }
        if let Some(packages) = node.non_null("packages") {
            config.packages = self.lines(&path.key("packages"), packages);
        }
        if let Some(files) = node.non_null("files") {
            let path = path.key("files");
            let entries = self.report.map(&path, files).unwrap_or_default();
            let entries = entries.iter().filter(|(_, value)| !value.is_null());
            config.files = entries.filter_map(|(name, value)| self.file(&path.key(name), name, value)).collect();
        }
        if let Some(commands) = node.non_null("run") {
            let path = path.key("run");
            let items = self.items(&path, commands);
            config.run = items.filter_map(|(index, item)| self.command(&path.index(index), item)).collect();
        }
        config
    }

    /// Returns the items of a list with their indices, without deletions of an earlier file's.
    fn items<'n>(&mut self, path: &KeyPath, node: &'n Node) -> impl Iterator<Item = (usize, &'n Node)> + use<'n> {
        let items = self.report.list(path, node).unwrap_or_default().iter().enumerate();
        items.filter(|(_, item)| item.deletion().is_none())
    }

    fn users(&mut self, path: &KeyPath, node: &Node) -> Vec<GuestUser> {
        let items = self.items(path, node);
        let mut users: Vec<GuestUser> = Vec::new();
        for (index, item) in items {
            let path = path.index(index);
            let Some(user) = self.user(&path, item) else { continue };
            if users.iter().any(|other| other.name == user.name) {
                self.report.error(&path, item, format!("a second user `{}`", user.name));
            }
            users.push(user);
        }
        users
    }

    fn user(&mut self, path: &KeyPath, node: &Node) -> Option<GuestUser> {
        if !matches!(node.value, Value::Map(_)) {
            return Some(GuestUser::new(self.report.parse::<UserName>(path, node)?.to_string()));
        }
        for (key, value) in node.entries().iter().filter(|(key, _)| !USER_KEYS.contains(&key.as_str())) {
            self.report.unknown_key(&path.key(key), value, &USER_KEYS);
        }
        let Some(name) = node.non_null("name") else {
            self.report.missing(path, node, "a user needs a `name`");
            return None;
        };
        let mut user = GuestUser::new(self.report.parse::<UserName>(&path.key("name"), name)?.to_string());
        if let Some(keys) = node.non_null("ssh_keys") {
            user.ssh_keys = self.keys(&path.key("ssh_keys"), keys);
        }
        if let Some(groups) = node.non_null("groups") {
            let path = path.key("groups");
            let items = self.items(&path, groups);
            let group = |(index, item)| Some(self.report.parse::<UserName>(&path.index(index), item)?.to_string());
            user.groups = items.filter_map(group).collect();
        }
        if let Some(sudo) = node.non_null("sudo") {
            user.sudo = self.report.boolean(&path.key("sudo"), sudo)?;
        }
        if let Some(shell) = node.non_null("shell") {
            user.shell = self.guest_path(&path.key("shell"), shell);
        }
        if let Some(password) = node.non_null("password") {
            user.password = self.source(&path.key("password"), password);
        }
        Some(user)
    }

    /// Reads public keys, and files with them.
    fn keys(&mut self, path: &KeyPath, node: &Node) -> Vec<TextSource> {
        let mut keys = Vec::new();
        for (index, item) in self.items(path, node) {
            let path = path.index(index);
            match self.source(&path, item) {
                Some(TextSource::Text(_)) => {
                    if let Some(key) = self.report.parse::<PublicKey>(&path, item) {
                        keys.push(TextSource::Text(key.to_string()));
                    }
                }
                source => keys.extend(source),
            }
        }
        keys
    }

    /// Reads a line of text, or the file after an `@`.
    fn source(&mut self, path: &KeyPath, node: &Node) -> Option<TextSource> {
        self.report.line(path, node)?;
        source(self.report, path, node)
    }

    fn file(&mut self, path: &KeyPath, name: &str, node: &Node) -> Option<GuestFile> {
        if !name.starts_with('/') || name.chars().any(char::is_control) {
            let help = Some("write the absolute path of the file in the guest".to_owned());
            self.report.key_error(path, node, "expected an absolute path", help);
            return None;
        }
        let content = if matches!(node.value, Value::Map(_)) {
            for (key, value) in node.entries().iter().filter(|(key, _)| !FILE_KEYS.contains(&key.as_str())) {
                self.report.unknown_key(&path.key(key), value, &FILE_KEYS);
            }
            match (node.non_null("content"), node.non_null("source")) {
                (Some(content), None) => self.report.text(&path.key("content"), content).map(TextSource::Text),
                (None, Some(source)) => self.report.path(&path.key("source"), source).map(TextSource::File),
                (Some(_), Some(source)) => {
                    let help = Some("remove one of them".to_owned());
                    self.report.key_error(&path.key("source"), source, "`content` excludes `source`", help);
                    None
                }
                (None, None) => {
                    self.report.missing(path, node, "a file needs a `content` or a `source`");
                    None
                }
            }
        } else {
            self.report.text(path, node).map(TextSource::Text)
        };
        let mode = node.non_null("mode").and_then(|mode| self.mode(&path.key("mode"), mode));
        let owner = node.non_null("owner").and_then(|owner| self.owner(&path.key("owner"), owner));
        Some(GuestFile { path: name.to_owned(), content: content?, mode, owner })
    }

    fn mode(&mut self, path: &KeyPath, node: &Node) -> Option<String> {
        let text = self.report.line(path, node)?;
        let digits = text.strip_prefix("0o").unwrap_or(&text);
        let is_mode = (3..=5).contains(&digits.len()) && digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        if !is_mode {
            self.report.expected(path, node, "a mode in octal digits, such as `0644`");
            return None;
        }
        Some(format!("{digits:0>4}"))
    }

    fn owner(&mut self, path: &KeyPath, node: &Node) -> Option<String> {
        let text = self.report.line(path, node)?;
        if !text.split(':').all(|name| name.parse::<UserName>().is_ok()) || text.split(':').count() > 2 {
            self.report.expected(path, node, "a user, or a user and a group as in `app:app`");
            return None;
        }
        Some(text)
    }

    fn command(&mut self, path: &KeyPath, node: &Node) -> Option<RunCommand> {
        if !matches!(node.value, Value::List(_)) {
            // Several lines are a script.
            let text = self.report.text(path, node)?;
            if text.trim().is_empty() {
                self.report.expected(path, node, "a command");
                return None;
            }
            return Some(RunCommand::Shell(text));
        }
        let arguments: Option<Vec<String>> =
            (node.items().iter().enumerate()).map(|(index, item)| self.report.text(&path.index(index), item)).collect();
        let arguments = arguments?;
        if arguments.first().is_none_or(String::is_empty) {
            self.report.expected(path, node, "a program and its arguments");
            return None;
        }
        Some(RunCommand::Program(arguments))
    }

    /// Reads the configuration of a network, in version 2 unless it says another one.
    fn network(&mut self, path: &KeyPath, node: &Node) -> Option<NetworkConfig> {
        self.report.map(path, node)?;
        let mut config = serde_json::to_value(node.clone().with_texts()).ok()?;
        let entries = config.as_object_mut()?;
        if !entries.contains_key("version") && !entries.contains_key("network") {
            entries.insert("version".to_owned(), 2.into());
        }
        Some(NetworkConfig::Map(config))
    }

    fn hostname(&mut self, path: &KeyPath, node: &Node) -> Option<String> {
        let name = self.report.line(path, node)?;
        if !is_host_name(&name) {
            self.report.expected(path, node, "a host name of letters, digits and hyphens");
            return None;
        }
        Some(name)
    }

    fn guest_path(&mut self, path: &KeyPath, node: &Node) -> Option<String> {
        let text = self.report.line(path, node)?;
        if !text.starts_with('/') {
            self.report.expected(path, node, "an absolute path in the guest");
            return None;
        }
        Some(text)
    }

    fn lines(&mut self, path: &KeyPath, node: &Node) -> Vec<String> {
        let items = self.items(path, node);
        items.filter_map(|(index, item)| self.report.line(&path.index(index), item)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::machine::reading;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJ0cmFuZG9tYnl0ZXNyYW5kb21ieXRlczEyMzQ1 a@b";

    fn read(seed: &str) -> (Option<Seed>, Vec<String>) {
        let (machine, problems) = reading::read(&format!(r#"{{"seed": {seed}}}"#));
        (machine.seed, problems)
    }

    #[test]
    fn test_seed_keys_are_read() {
        let (seed, problems) = read(&format!(
            r#"{{"hostname": "a.b", "users": ["alice", {{"name": "bob", "sudo": false, "groups": ["kvm"], "password": "@/p"}}],
                "ssh_keys": ["{KEY}", "@/k.pub"], "packages": ["jq"], "run": ["a b", ["c", 1]],
                "files": {{"/a": "x", "/b": {{"source": "/s", "mode": 600, "owner": "bob:bob"}}, "/c": null}},
                "network": {{"ethernets": {{"e": {{"dhcp4": true}}}}}}}}"#
        ));

        assert_eq!(problems, [""; 0]);
        let seed = seed.unwrap();
        let SeedSource::Keys(config) = &seed.source else { panic!("{seed:?}") };
        assert_eq!(seed.hostname.as_deref(), Some("a.b"));
        assert_eq!(
            config.users.iter().map(|user| (user.name.as_str(), user.sudo)).collect::<Vec<_>>(),
            [("alice", true), ("bob", false)]
        );
        assert_eq!(config.ssh_keys, [TextSource::Text(KEY.to_owned()), TextSource::File("/k.pub".into())]);
        assert_eq!(
            config.run,
            [RunCommand::Shell("a b".to_owned()), RunCommand::Program(vec!["c".to_owned(), "1".to_owned()])]
        );
        assert_eq!(config.files.len(), 2);
        assert_eq!(config.files[1].mode.as_deref(), Some("0600"));
        let network = json!({ "ethernets": { "e": { "dhcp4": true } }, "version": 2 });
        assert_eq!(seed.network, Some(NetworkConfig::Map(network)));
    }

    #[test]
    fn test_seed_own_files_are_read() {
        let (seed, problems) = read(r#"{"user_data": "/u", "meta_data": "/m", "network_config": "/n"}"#);

        assert_eq!(problems, [""; 0]);
        assert_eq!(seed.unwrap().host_files(), ["/u", "/m", "/n"].map(PathBuf::from));
    }

    #[test]
    fn test_seed_wrong_value_is_one_error_at_its_key() {
        for (seed, expected) in [
            (r#"{"user": "a"}"#, "seed.user: unknown key `user`"),
            (r#"{"users": [{"name": "a", "key": "x"}]}"#, "seed.users[0].key: unknown key `key`"),
            (r#"{"users": [{"sudo": true}]}"#, "seed.users[0]: a user needs a `name`"),
            (r#"{"users": ["a", "a"]}"#, "seed.users[1]: a second user `a`"),
            (r#"{"users": "a"}"#, "seed.users: expected a list, found a string"),
            (
                r#"{"ssh_keys": ["ssh-rsa x"]}"#,
                "seed.ssh_keys[0]: invalid SSH public key `ssh-rsa x`: the key after its type is damaged",
            ),
            (r#"{"ssh_keys": ["@~/k"]}"#, "seed.ssh_keys[0]: `~` is expanded by shells only"),
            (r#"{"files": {"a": "x"}}"#, "seed.files.a: expected an absolute path"),
            (r#"{"files": {"/a": {}}}"#, "seed.files./a: a file needs a `content` or a `source`"),
            (
                r#"{"files": {"/a": {"content": "x", "source": "/b"}}}"#,
                "seed.files./a.source: `content` excludes `source`",
            ),
            (
                r#"{"files": {"/a": {"content": "x", "mode": "rw"}}}"#,
                "seed.files./a.mode: expected a mode in octal digits, such as `0644`, found the string `rw`",
            ),
            (r#"{"run": [[]]}"#, "seed.run[0]: expected a program and its arguments, found a list"),
            (
                r#"{"hostname": "a_b"}"#,
                "seed.hostname: expected a host name of letters, digits and hyphens, found the string `a_b`",
            ),
            (r#"{"user_data": "/u", "run": ["a"]}"#, "seed.run: `user_data` excludes `run`"),
            (r#"{"meta_data": "/m", "hostname": "a"}"#, "seed.hostname: `meta_data` excludes `hostname`"),
            (r#"{"network": {}, "network_config": "/n"}"#, "seed.network: `network_config` excludes `network`"),
            (r#"["a"]"#, "seed: expected a map, found a list"),
            (r#"{"packages": [null]}"#, "seed.packages[0]: expected a string, found nothing"),
        ] {
            assert_eq!(read(seed).1, [expected], "{seed}");
        }
    }

    #[test]
    fn test_seed_paths_are_resolved_against_the_file() {
        let seed = r#"{"user_data":"u","ssh_keys":["@k",5],"users":[{"name":"a","password":"@p"}],"files":{"/a":"@x","/b":{"source":"s"}}}"#;

        let node = rebase(serde_json::from_str(seed).unwrap(), Path::new("/d"));

        let expected = r#"{"user_data":"/d/u","ssh_keys":["@/d/k",5],"users":[{"name":"a","password":"@/d/p"}],"files":{"/a":"@x","/b":{"source":"/d/s"}}}"#;
        assert_eq!(serde_json::to_string(&node).unwrap(), expected);
    }
}
