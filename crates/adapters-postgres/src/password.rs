//! Password files (<https://www.postgresql.org/docs/15/libpq-pgpass.html>).

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use maqet_domain::port::StoreError;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::error::Failure;

/// Larger than any password file; a larger one is something else.
const MAX_BYTES: u64 = 1 << 20;

/// Returns the password for a connection from `file`; `None` if there is no file, or none for it.
///
/// Errors: `InsecureSecret` if other users can access the file, and those of reading it.
pub(crate) fn find(file: &Path, config: &Config) -> Result<Option<String>, Failure> {
    let text = match read_secret(file) {
        Err(Failure::Value(error)) if error.downcast_ref::<io::Error>().is_some_and(is_absent) => return Ok(None),
        text => text?,
    };
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        // libpq compares the directory, and `localhost` for that of the distribution.
        Some(Host::Unix(folder)) if folder == Path::new("/var/run/postgresql") => "localhost".to_owned(),
        Some(Host::Unix(folder)) => folder.display().to_string(),
        None => config.get_hostaddrs().first().map(ToString::to_string).unwrap_or_default(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432).to_string();
    let user = config.get_user().unwrap_or_default();
    let database = config.get_dbname().unwrap_or(user);
    Ok(text.lines().find_map(|line| password(line, [&host, &port, database, user])))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Reads a file that only its owner may access.
pub(crate) fn read_secret(path: &Path) -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::Value(error.into());
    let file = File::open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    if found.permissions().mode() & 0o077 != 0 {
        return Err(StoreError::InsecureSecret { path: path.to_owned() }.into());
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// Returns the password of a line `host:port:database:user:password` that matches.
fn password(line: &str, wanted: [&str; 4]) -> Option<String> {
    let fields = fields(line);
    let [host, port, database, user, password] = fields.as_slice() else { return None };
    let matches = |(field, wanted): (&&String, &str)| *field == "*" || *field == wanted;
    let is_match = !line.starts_with('#') && [host, port, database, user].iter().zip(wanted).all(matches);
    is_match.then(|| password.clone())
}

/// Splits a line at colons, of which the fifth field may have more; a backslash escapes a colon and itself.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        let is_last = fields.len() == 5;
        let Some(field) = fields.last_mut() else { break };
        match letter {
            '\\' => field.extend(letters.next()),
            ':' if !is_last => fields.push(String::new()),
            letter => field.push(letter),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Option<&str>) {
        assert_eq!(password(line, ["db", "5432", "maqet", "me"]).as_deref(), expected, "{line}");
    }

    #[test]
    fn test_password_line_matches_fields_and_wildcards() {
        check("db:5432:maqet:me:secret", Some("secret"));
        check("*:*:*:me:secret", Some("secret"));
        check("*:*:*:you:secret", None);
        check("db:5433:maqet:me:secret", None);
        check("#:*:*:*:secret", None);
        check("db:5432:maqet:me", None);
    }

    #[test]
    fn test_password_line_escapes_colon_and_backslash() {
        check(r"*:*:*:*:a\:b\\c:d", Some(r"a:b\c:d"));
        assert_eq!(password(r"\:\:1:*:*:*:x", ["::1", "1", "d", "u"]).as_deref(), Some("x"));
    }

    #[test]
    fn test_find_file_of_others_is_refused_and_missing_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pgpass");
        let mut config = Config::new();
        config.host("db").user("me");

        assert!(find(&file, &config).unwrap().is_none());
        fs::write(&file, "other:*:*:*:no\ndb:*:me:*:secret\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = find(&file, &config);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();

        assert!(matches!(refused, Err(Failure::Store(StoreError::InsecureSecret { .. }))), "{refused:?}");
        assert_eq!(find(&file, &config).unwrap().as_deref(), Some("secret"));
    }
}
