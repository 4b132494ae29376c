//! Settings: directories, the database, defaults, hooks and timeouts.
//!
//! Each is taken from the first of these sources that sets it:
//!
//! 1. the caller ([`Overrides`]: the flags of the command line),
//! 2. a variable `MAQET_…`,
//! 3. the settings file `maqet.conf`,
//! 4. the XDG variables,
//! 5. the default.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use maqet_application::config::{self, ConfigError, Sources};
use maqet_application::{EffectiveSetting, LogLimits, Timeouts};
use maqet_domain::config::{Diagnostics, KeyPath, Node};
use maqet_domain::hook::Hook;

use crate::logs::LogSettings;
use crate::stores::without_secrets;
use crate::timeouts::TimeoutSettings;
use crate::{Environment, InsecureFiles, OpenError, read_document};

/// The settings file of all users of a host.
const SYSTEM_FILE: &str = "/etc/maqet/maqet.conf";

/// Settings of the caller; those that are `None` are taken from the other sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The directory of the database, disks and locks.
    pub data_dir: Option<PathBuf>,
    /// The directory of `maqet.conf`.
    pub config_dir: Option<PathBuf>,
    /// The directory of the sockets of running VMs.
    pub runtime_dir: Option<PathBuf>,
    /// The settings file itself.
    pub config: Option<PathBuf>,
    /// The database, as a URL or a path.
    pub database: Option<String>,
    /// Whether configuration files that other users can write are used, the settings file among them.
    pub insecure_files: InsecureFiles,
}

/// The settings; all paths are absolute.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The directory of the database, disks and locks.
    pub data_dir: PathBuf,
    /// The directory of the settings file.
    pub config_dir: PathBuf,
    /// The directory of the sockets of running VMs.
    pub runtime_dir: PathBuf,
    /// The directory of logs, QMP logs, and copies of definitions.
    pub state_dir: PathBuf,
    /// The directory of cached versions and QMP schemas of QEMU binaries, which can be removed at any time.
    pub cache_dir: PathBuf,
    /// The database, as a URL or a path; it may contain a password.
    pub database: String,
    /// The name of this host in a database that several share; by default that of the kernel.
    pub host: Option<String>,
    /// The settings file that was read, if there was one.
    pub config_file: Option<PathBuf>,
    /// Defaults for the definitions of all VMs.
    pub defaults: Node,
    /// The text of the settings file.
    pub(crate) sources: Sources,
    /// Programs that run on events of any VM.
    pub hooks: Vec<Hook>,
    /// Whether configuration files that other users can write are used.
    pub insecure_files: InsecureFiles,
    /// The environment of QEMU.
    pub environment: Environment,
    /// How long operations wait.
    timeouts: TimeoutSettings,
    /// How large logs may become.
    logs: LogSettings,
    /// The origins of the directories and the database.
    origins: BTreeMap<&'static str, String>,
}

/// The content of a settings file.
#[derive(Debug, Default)]
struct File {
    data: Option<PathBuf>,
    runtime: Option<PathBuf>,
    state: Option<PathBuf>,
    database: Option<String>,
    host: Option<String>,
    defaults: Option<Node>,
    sources: Sources,
    hooks: Vec<Hook>,
    timeouts: TimeoutSettings,
    logs: LogSettings,
}

/// A value and its origin.
struct Found<T> {
    value: T,
    origin: String,
}

/// Finds values by precedence.
struct Finder<'a> {
    environment: &'a Environment,
    file: Option<&'a Path>,
}

impl Finder<'_> {
    /// Returns the value of the caller, the variable or the settings file, in this order.
    fn find<T>(
        &self,
        flag: (&str, Option<T>),
        variable: &str,
        from_variable: impl Fn(&OsStr) -> T,
        file: Option<T>,
    ) -> Option<Found<T>> {
        let (name, value) = flag;
        let by_flag = value.map(|value| Found { value, origin: format!("option `--{name}`") });
        let by_variable = || {
            self.environment
                .get(variable)
                .map(|value| Found { value: from_variable(value), origin: format!("variable `{variable}`") })
        };
        let by_file = || {
            let origin = self.file.map(|path| path.display().to_string()).unwrap_or_default();
            file.map(|value| Found { value, origin })
        };
        by_flag.or_else(by_variable).or_else(by_file)
    }

    /// Returns the same for a directory, by default below an XDG directory.
    fn folder(
        &self,
        flag: (&str, Option<PathBuf>),
        variable: &str,
        file: Option<PathBuf>,
        (xdg, below_home): (&str, &str),
    ) -> Result<Found<PathBuf>, OpenError> {
        if let Some(found) = self.find(flag, variable, as_path, file) {
            return Ok(Found { value: absolute(&found.value)?, origin: found.origin });
        }
        if let Some(base) = self.environment.absolute(xdg) {
            return Ok(Found { value: base.join("maqet"), origin: format!("variable `{xdg}`") });
        }
        let home = self.environment.absolute("HOME").ok_or(OpenError::NoHome)?;
        Ok(Found { value: home.join(below_home).join("maqet"), origin: "default".to_owned() })
    }
}

impl Settings {
    /// Finds the settings.
    ///
    /// Errors: a home directory is needed and not set; the settings file was named and is missing, cannot be read or is
    /// invalid.
    pub fn discover(environment: &Environment, overrides: &Overrides) -> Result<Self, OpenError> {
        let finder = Finder { environment, file: None };
        let config_flag = ("config-dir", overrides.config_dir.clone());
        let config = finder.folder(config_flag, "MAQET_CONFIG_DIR", None, ("XDG_CONFIG_HOME", ".config"))?;
        let named = finder.find(("config", overrides.config.clone()), "MAQET_CONFIG", as_path, None);
        let (file, config_file) = File::find(named.map(|found| found.value), &config.value, overrides.insecure_files)?;

        let finder = Finder { environment, file: config_file.as_deref() };
        let data_flag = ("data-dir", overrides.data_dir.clone());
        let data = finder.folder(data_flag, "MAQET_DATA_DIR", file.data, ("XDG_DATA_HOME", ".local/share"))?;
        let state = finder.folder(("", None), "MAQET_STATE_DIR", file.state, ("XDG_STATE_HOME", ".local/state"))?;
        let cache = finder.folder(("", None), "MAQET_CACHE_DIR", None, ("XDG_CACHE_HOME", ".cache"));
        let cache_dir = cache.map_or_else(|_| data.value.join("cache"), |found| found.value);
        let runtime_flag = ("runtime-dir", overrides.runtime_dir.clone());
        let runtime = match finder.find(runtime_flag, "MAQET_RUNTIME_DIR", as_path, file.runtime) {
            Some(found) => Found { value: absolute(&found.value)?, origin: found.origin },
            None => default_runtime_dir(environment),
        };
        let text = |value: &OsStr| value.to_string_lossy().into_owned();
        let database_flag = ("database", overrides.database.clone());
        let database = finder.find(database_flag, "MAQET_DATABASE", text, file.database).unwrap_or_else(|| Found {
            value: format!("sqlite:{}", data.value.join("maqet.db").display()),
            origin: "default".to_owned(),
        });
        let host = finder.find(("", None), "MAQET_HOST", text, file.host);
        let (host, host_origin) = host.map(|found| (found.value, found.origin)).unzip();
        let origins = BTreeMap::from([
            ("host", host_origin.unwrap_or_default()),
            ("directories.config", config.origin),
            ("directories.data", data.origin),
            ("directories.runtime", runtime.origin),
            ("directories.state", state.origin),
            ("database", database.origin),
        ]);
        Ok(Self {
            data_dir: data.value,
            config_dir: config.value,
            runtime_dir: runtime.value,
            state_dir: state.value,
            cache_dir,
            database: database.value,
            host,
            config_file: config_file.map(|path| absolute(&path)).transpose()?,
            defaults: file.defaults.unwrap_or_else(Node::empty_map),
            sources: file.sources,
            hooks: file.hooks,
            insecure_files: overrides.insecure_files,
            timeouts: file.timeouts,
            logs: file.logs,
            environment: environment.clone(),
            origins,
        })
    }

    /// Returns the database without a user and a password, for messages.
    pub fn database_location(&self) -> String {
        without_secrets(&self.database)
    }

    /// Returns how long operations wait.
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts.values
    }

    /// Returns how large logs may become.
    pub fn logs(&self) -> LogLimits {
        self.logs.values
    }

    /// Returns the settings for display, each with its origin.
    pub fn effective(&self) -> Vec<EffectiveSetting> {
        let path = |path: &Path| path.display().to_string();
        let mut all = vec![
            ("directories.data", path(&self.data_dir)),
            ("directories.state", path(&self.state_dir)),
            ("directories.runtime", path(&self.runtime_dir)),
            ("directories.config", path(&self.config_dir)),
            ("database", self.database_location()),
        ];
        all.extend(self.host.clone().map(|host| ("host", host)));
        all.sort_unstable();
        let mut shown: Vec<EffectiveSetting> = all
            .into_iter()
            .map(|(key, value)| EffectiveSetting {
                key: key.to_owned(),
                value,
                origin: self.origins.get(key).cloned().unwrap_or_default(),
            })
            .collect();
        for (key, node) in self.defaults.entries() {
            let value = node.written().or_else(|| serde_json::to_string(node).ok()).unwrap_or_default();
            let origin = node.location().map(ToString::to_string).unwrap_or_default();
            shown.push(EffectiveSetting { key: format!("defaults.{key}"), value, origin });
        }
        let file = self.config_file.as_deref().map(path).unwrap_or_default();
        shown.extend(self.hooks.iter().map(|hook| EffectiveSetting {
            key: format!("hooks.{}", hook.events),
            value: hook.command.join(" "),
            origin: file.clone(),
        }));
        shown.extend(self.timeouts.effective());
        shown.extend(self.logs.effective());
        shown
    }
}

/// Resolves the path of a SQLite database against the directory of the settings file.
fn resolve_database(url: String, folder: &Path) -> String {
    let path = url.strip_prefix("sqlite:").unwrap_or(&url);
    let is_path = path.len() < url.len() || !url.split('/').next().unwrap_or_default().contains(':');
    if is_path && Path::new(path).is_relative() { format!("sqlite:{}", folder.join(path).display()) } else { url }
}

fn as_path(value: &OsStr) -> PathBuf {
    PathBuf::from(value)
}

fn absolute(path: &Path) -> Result<PathBuf, OpenError> {
    std::path::absolute(path).map_err(|source| OpenError::Directory { path: path.to_owned(), source: source.into() })
}

/// Returns the default runtime directory.
///
/// `XDG_RUNTIME_DIR` is used only if it is private to this user, as the XDG specification requires; otherwise a
/// directory in /tmp with the user's ID, whose owner and mode are checked when it is used.
fn default_runtime_dir(environment: &Environment) -> Found<PathBuf> {
    let uid = rustix::process::getuid().as_raw();
    let is_private = |path: &PathBuf| {
        std::fs::metadata(path)
            .is_ok_and(|found| found.is_dir() && found.uid() == uid && found.permissions().mode().trailing_zeros() >= 6)
    };
    match environment.absolute("XDG_RUNTIME_DIR").filter(is_private) {
        Some(folder) => Found { value: folder.join("maqet"), origin: "variable `XDG_RUNTIME_DIR`".to_owned() },
        None => Found { value: PathBuf::from(format!("/tmp/maqet-{uid}")), origin: "default".to_owned() },
    }
}

impl File {
    fn find(
        named: Option<PathBuf>,
        config_dir: &Path,
        insecure_files: InsecureFiles,
    ) -> Result<(Self, Option<PathBuf>), OpenError> {
        let usual = [config_dir.join("maqet.conf"), PathBuf::from(SYSTEM_FILE)];
        // One that cannot be looked at is read, for its error: without it, another database may be meant.
        match named.or_else(|| usual.into_iter().find(|path| path.try_exists().unwrap_or(true))) {
            Some(path) => Ok((Self::read(&path, insecure_files)?, Some(path))),
            None => Ok((Self::default(), None)),
        }
    }

    fn read(path: &Path, insecure_files: InsecureFiles) -> Result<Self, OpenError> {
        let document = read_document(path, insecure_files)?;
        let mut sources = Sources::default();
        sources.add(&document);
        let read = config::read(&document.name, &document.text);
        let checked = read.and_then(|node| Self::check(&node, &document.directory));
        match checked {
            Ok(file) => Ok(Self { sources, ..file }),
            Err(problems) => Err(ConfigError::new(problems, sources).into()),
        }
    }

    fn check(node: &Node, folder: &Path) -> Result<Self, Vec<maqet_domain::config::Problem>> {
        const KEYS: [&str; 7] = ["directories", "database", "host", "defaults", "timeouts", "logs", "hooks"];
        const DIRECTORIES: [&str; 3] = ["data", "runtime", "state"];

        let mut file = Self::default();
        let mut report = Diagnostics::default();
        for (key, node) in report.map(&KeyPath::default(), node).unwrap_or_default() {
            let path = KeyPath::top(key);
            match key.as_str() {
                // A key without a value counts as missing: all entries of the section may be commented out.
                known if node.is_null() && KEYS.contains(&known) => {}
                "database" => file.database = report.line(&path, node).map(|url| resolve_database(url, folder)),
                "host" => file.host = report.line(&path, node),
                "defaults" => {
                    if report.map(&path, node).is_some() {
                        file.defaults = Some(node.clone());
                    }
                }
                "hooks" => {
                    file.hooks = Hook::read_all(&path, &Hook::rebase(node.clone().with_texts(), folder), &mut report);
                }
                "logs" => file.logs = LogSettings::read(&path, node, &mut report),
                "timeouts" => file.timeouts = TimeoutSettings::read(&path, node, &mut report),
                "directories" => {
                    for (name, node) in report.map(&path, node).unwrap_or_default() {
                        let path = path.key(name);
                        let mut directory = || report.path(&path, node).map(|path| folder.join(path));
                        match name.as_str() {
                            known if node.is_null() && DIRECTORIES.contains(&known) => {}
                            "data" => file.data = directory(),
                            "runtime" => file.runtime = directory(),
                            "state" => file.state = directory(),
                            _ => report.unknown_key(&path, node, &DIRECTORIES),
                        }
                    }
                }
                _ => report.unknown_key(&path, node, &KEYS),
            }
        }
        if report.is_clean() { Ok(file) } else { Err(report.into_problems()) }
    }
}

#[cfg(test)]
mod tests {
    use maqet_domain::Explain;

    use super::*;

    fn environment(folder: &Path) -> Environment {
        [("HOME", folder.as_os_str())].into_iter().collect()
    }

    /// Writes a settings file that is accepted with any umask.
    fn write(file: &Path, text: &str) {
        std::fs::write(file, text).unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn test_settings_file_writable_by_others_is_refused_by_default() {
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("m.conf");
        write(&config, "directories: {state: s}\n");
        std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o660)).unwrap();
        let overrides = Overrides { config: Some(config), ..Overrides::default() };

        let refused = Settings::discover(&environment(home.path()), &overrides).unwrap_err();
        let allowing = Overrides { insecure_files: InsecureFiles::Allow, ..overrides };
        let settings = Settings::discover(&environment(home.path()), &allowing).unwrap();

        assert_eq!(refused.code(), "config.permissions-insecure");
        assert_eq!(settings.state_dir, home.path().join("s"));
    }

    #[test]
    fn test_settings_default_to_directories_below_home() {
        let home = tempfile::tempdir().unwrap();

        let settings = Settings::discover(&environment(home.path()), &Overrides::default()).unwrap();

        assert_eq!(settings.data_dir, home.path().join(".local/share/maqet"));
        assert!(settings.database.ends_with("/maqet.db"));
    }

    #[test]
    fn test_settings_flag_overrides_variable_and_file() {
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("m.conf");
        write(&config, "directories: {data: /file/d, state: s}\n");
        let variables = [("HOME", home.path().as_os_str()), ("MAQET_DATA_DIR", OsStr::new("/variable/d"))];
        let environment: Environment = variables.into_iter().collect();
        let overrides = Overrides { config: Some(config), ..Overrides::default() };

        let by_variable = Settings::discover(&environment, &overrides).unwrap();
        let by_flag =
            Settings::discover(&environment, &Overrides { data_dir: Some("/flag/d".into()), ..overrides }).unwrap();

        assert_eq!(by_variable.data_dir, Path::new("/variable/d"));
        assert_eq!(by_variable.state_dir, home.path().join("s"));
        assert_eq!(by_flag.data_dir, Path::new("/flag/d"));
    }

    #[test]
    fn test_settings_missing_named_file_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        let overrides = Overrides { config: Some(home.path().join("no.conf")), ..Overrides::default() };

        assert!(matches!(Settings::discover(&environment(home.path()), &overrides), Err(OpenError::Read(_))));
    }

    #[test]
    fn test_settings_effective_show_no_password() {
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("m.conf");
        write(&config, "database: postgres://me:secret@db/maqet?password=secret\nhost: rack-1\n");
        let overrides = Overrides { config: Some(config), ..Overrides::default() };

        let settings = Settings::discover(&environment(home.path()), &overrides).unwrap();
        let shown: Vec<String> =
            settings.effective().into_iter().map(|setting| format!("{}={}", setting.key, setting.value)).collect();

        assert!(shown.contains(&"database=postgres://db/maqet".to_owned()), "{shown:?}");
        assert!(shown.contains(&"host=rack-1".to_owned()), "{shown:?}");
        assert!(settings.database.contains("secret"));
    }

    #[test]
    fn test_settings_unknown_key_suggests_a_similar_one() {
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("m.conf");
        write(&config, "databse: x\n");
        let overrides = Overrides { config: Some(config), ..Overrides::default() };

        let error = Settings::discover(&environment(home.path()), &overrides).unwrap_err();

        assert!(error.to_string().contains("did you mean `database`?"), "{error}");
    }

    #[test]
    fn test_settings_without_home_are_an_error() {
        let empty = Environment::default();

        assert!(matches!(Settings::discover(&empty, &Overrides::default()), Err(OpenError::NoHome)));
    }
}
