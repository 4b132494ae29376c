//! Settings: where things live.
//!
//! Each comes from the first of these that names it:
//!
//! 1. the caller ([`Overrides`]: the flags of the command line),
//! 2. a variable `MAQET_…`,
//! 3. the settings file `maqet.conf`,
//! 4. the XDG variables,
//! 5. the default.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use maqet_application::config::{self, ConfigError, Sources};
use maqet_domain::config::{KeyPath, Node, Report};

use crate::{Environment, OpenError, read_document};

/// The settings file for all users of a host.
const SYSTEM_FILE: &str = "/etc/maqet/maqet.conf";

/// What the caller decides; what is `None` is found elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The folder of the database, of disks and of locks.
    pub data_dir: Option<PathBuf>,
    /// The folder of `maqet.conf`.
    pub config_dir: Option<PathBuf>,
    /// The folder of sockets.
    pub runtime_dir: Option<PathBuf>,
    /// The settings file itself.
    pub config: Option<PathBuf>,
    /// The database.
    pub database: Option<String>,
}

/// Where things live; all paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The database, disks and locks.
    pub data_dir: PathBuf,
    /// Settings.
    pub config_dir: PathBuf,
    /// Sockets of running machines.
    pub runtime_dir: PathBuf,
    /// Logs and flight records.
    pub state_dir: PathBuf,
    /// What may be thrown away: what was learnt of QEMU binaries.
    pub cache_dir: PathBuf,
    /// The database, as a URL or a path.
    pub database: String,
    /// The settings file that was read, if there was one.
    pub config_file: Option<PathBuf>,
    /// The environment QEMU is given.
    pub environment: Environment,
}

/// What a settings file can say.
#[derive(Debug, Default)]
struct File {
    data: Option<PathBuf>,
    runtime: Option<PathBuf>,
    state: Option<PathBuf>,
    database: Option<String>,
}

impl Settings {
    /// Finds the settings.
    ///
    /// Errors: no home folder where one is needed, a settings file that is missing though it was
    /// named, cannot be read or is wrong, a runtime folder that others can reach.
    pub fn discover(environment: &Environment, overrides: &Overrides) -> Result<Self, OpenError> {
        let chosen = |given: &Option<PathBuf>, variable: &str| {
            given.clone().or_else(|| environment.get(variable).map(PathBuf::from))
        };
        let base = |variable: &str, below_home: &str| match environment.absolute(variable) {
            Some(base) => Ok(base.join("maqet")),
            None => {
                environment.absolute("HOME").map(|home| home.join(below_home).join("maqet")).ok_or(OpenError::NoHome)
            }
        };
        let or_base = |chosen: Option<PathBuf>, variable: &str, below_home: &str| match chosen {
            Some(path) => absolute(&path),
            None => base(variable, below_home),
        };

        let config_dir = or_base(chosen(&overrides.config_dir, "MAQET_CONFIG_DIR"), "XDG_CONFIG_HOME", ".config")?;
        let (file, config_file) = File::find(chosen(&overrides.config, "MAQET_CONFIG"), &config_dir)?;

        let data = chosen(&overrides.data_dir, "MAQET_DATA_DIR").or(file.data);
        let data_dir = or_base(data, "XDG_DATA_HOME", ".local/share")?;
        let state = chosen(&None, "MAQET_STATE_DIR").or(file.state);
        let state_dir = or_base(state, "XDG_STATE_HOME", ".local/state")?;
        let cache_dir = or_base(None, "XDG_CACHE_HOME", ".cache").unwrap_or_else(|_| data_dir.join("cache"));
        let runtime_dir = match chosen(&overrides.runtime_dir, "MAQET_RUNTIME_DIR").or(file.runtime) {
            Some(path) => absolute(&path)?,
            None => default_runtime_dir(environment),
        };
        let database = overrides
            .database
            .clone()
            .or_else(|| environment.get("MAQET_DATABASE").map(|url| url.to_string_lossy().into_owned()))
            .or(file.database)
            .unwrap_or_else(|| format!("sqlite:{}", data_dir.join("maqet.db").display()));
        Ok(Self {
            data_dir,
            config_dir,
            runtime_dir,
            state_dir,
            cache_dir,
            database,
            config_file,
            environment: environment.clone(),
        })
    }
}

fn absolute(path: &Path) -> Result<PathBuf, OpenError> {
    std::path::absolute(path).map_err(|source| OpenError::Folder { path: path.to_owned(), source: source.into() })
}

/// Returns the runtime folder where nobody chose one.
///
/// `XDG_RUNTIME_DIR` counts only if it is this user's alone, as the XDG specification demands; else
/// a folder in /tmp that carries the user's id, whose owner and mode are checked when it is used.
fn default_runtime_dir(environment: &Environment) -> PathBuf {
    let uid = rustix::process::getuid().as_raw();
    let is_ours = |path: &PathBuf| {
        std::fs::metadata(path)
            .is_ok_and(|found| found.is_dir() && found.uid() == uid && found.permissions().mode().trailing_zeros() >= 6)
    };
    match environment.absolute("XDG_RUNTIME_DIR").filter(is_ours) {
        Some(folder) => folder.join("maqet"),
        None => PathBuf::from(format!("/tmp/maqet-{uid}")),
    }
}

impl File {
    fn find(named: Option<PathBuf>, config_dir: &Path) -> Result<(Self, Option<PathBuf>), OpenError> {
        if let Some(path) = named {
            return Ok((Self::read(&path)?, Some(path)));
        }
        for path in [config_dir.join("maqet.conf"), PathBuf::from(SYSTEM_FILE)] {
            if path.exists() {
                return Ok((Self::read(&path)?, Some(path)));
            }
        }
        Ok((Self::default(), None))
    }

    fn read(path: &Path) -> Result<Self, OpenError> {
        let document = read_document(path)?;
        let mut sources = Sources::default();
        sources.add(&document);
        let read = config::read(&document.name, &document.text).map_err(|problem| vec![problem]);
        let checked = read.and_then(|node| Self::check(&node, &document.folder));
        checked.map_err(|problems| ConfigError::new(problems, sources).into())
    }

    fn check(node: &Node, folder: &Path) -> Result<Self, Vec<maqet_domain::config::Problem>> {
        const KEYS: [&str; 2] = ["directories", "database"];
        const DIRECTORIES: [&str; 3] = ["data", "runtime", "state"];

        let mut file = Self::default();
        let mut report = Report::default();
        for (key, node) in report.map(&KeyPath::default(), node).unwrap_or_default() {
            let path = KeyPath::top(key);
            match key.as_str() {
                "database" => file.database = report.word(&path, node),
                "directories" => {
                    for (name, node) in report.map(&path, node).unwrap_or_default() {
                        let path = path.key(name);
                        let mut directory = || report.path(&path, node).map(|given| folder.join(given));
                        match name.as_str() {
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
    use super::*;

    fn environment(folder: &Path) -> Environment {
        [("HOME", folder.as_os_str())].into_iter().collect()
    }

    #[test]
    fn test_settings_without_anything_are_below_home() {
        let home = tempfile::tempdir().unwrap();

        let settings = Settings::discover(&environment(home.path()), &Overrides::default()).unwrap();

        assert_eq!(settings.data_dir, home.path().join(".local/share/maqet"));
        assert!(settings.database.ends_with("/maqet.db"));
    }

    #[test]
    fn test_settings_flag_wins_over_variable_wins_over_file() {
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("m.conf");
        std::fs::write(&config, "directories: {data: /file/d, state: s}\n").unwrap();
        let mut variables = environment(home.path()).variables().clone();
        variables.insert("MAQET_DATA_DIR".into(), "/variable/d".into());
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
    fn test_settings_named_file_that_is_missing_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        let overrides = Overrides { config: Some(home.path().join("no.conf")), ..Overrides::default() };

        assert!(matches!(Settings::discover(&environment(home.path()), &overrides), Err(OpenError::Read(_))));
    }

    #[test]
    fn test_settings_unknown_key_is_an_error_with_a_near_name() {
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("m.conf");
        std::fs::write(&config, "databse: x\n").unwrap();
        let overrides = Overrides { config: Some(config), ..Overrides::default() };

        let error = Settings::discover(&environment(home.path()), &overrides).unwrap_err();

        assert!(error.to_string().contains("did you mean `database`?"), "{error}");
    }

    #[test]
    fn test_settings_without_home_say_so() {
        let nothing = Environment::default();

        assert!(matches!(Settings::discover(&nothing, &Overrides::default()), Err(OpenError::NoHome)));
    }
}
