//! The URL of a database, with the parameters and variables of libpq
//! (<https://www.postgresql.org/docs/15/libpq-connect.html>).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use maqet_domain::error::Cause;
use maqet_domain::port::StoreError;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::error::{Failure, cause};
use crate::tls::{Tls, TlsMode};
use crate::uri::Parameters;
use crate::{limits, password, uri};

/// The directory of the server's socket, if the URL names no host: that of Debian, Fedora and others.
const SOCKETS: &str = "/var/run/postgresql";

/// The parameters that are handled here, and the variables with their defaults.
const PARAMETERS: [(&str, &str); 6] = [
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("passfile", "PGPASSFILE"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
];

/// The environment variables that libpq reads, and `HOME`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// The names of all variables that are used.
    pub const NAMES: [&str; 12] = [
        "HOME", "PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD", "PGPASSFILE", "PGSSLMODE", "PGSSLROOTCERT",
        "PGSSLCERT", "PGSSLKEY", "PGCONNECT_TIMEOUT",
    ];

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Variables {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// How to connect to a database.
#[derive(Clone)]
pub struct PostgresUrl {
    config: Config,
    tls: Tls,
    password_file: Option<PathBuf>,
    connect_timeout: Duration,
    location: String,
    recorded: String,
}

impl std::fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresUrl").field("location", &self.location).finish_non_exhaustive()
    }
}

impl PostgresUrl {
    /// Reads the part of a URL after `postgres://`; `login` is the name of the calling user.
    ///
    /// Errors: `InvalidUrl`.
    pub fn parse(address: &str, variables: &Variables, login: &str) -> Result<Self, StoreError> {
        let mut given = Parameters::parse(address).map_err(|error| invalid(String::from(error)))?;
        let ours: BTreeMap<&str, String> =
            PARAMETERS.iter().filter_map(|(name, _)| Some((*name, given.take(name)?))).collect();
        let has_secrets = given.has_secrets;
        let parsed = given.into_text().parse::<Config>();
        let mut config = parsed.map_err(|error| refused(error, has_secrets))?;
        let parameter = |name: &str| {
            let variable = PARAMETERS.iter().find(|(parameter, _)| *parameter == name).map(|(_, variable)| *variable);
            let by_variable = || variable.and_then(|variable| variables.get(variable)).map(str::to_owned);
            ours.get(name).cloned().or_else(by_variable)
        };
        complete(&mut config, variables, login)?;
        let home = variables.get("HOME").map(PathBuf::from);
        let default = |name: &str| home.as_ref().map(|home| home.join(name));
        let tls = Tls {
            mode: parameter("sslmode").map_or(Ok(TlsMode::Prefer), |mode| mode.parse::<TlsMode>().map_err(invalid))?,
            root: parameter("sslrootcert").map(PathBuf::from),
            default_root: default(".postgresql/root.crt"),
            certificate: parameter("sslcert").map(PathBuf::from).or_else(|| default(".postgresql/postgresql.crt")),
            key: parameter("sslkey").map(PathBuf::from).or_else(|| default(".postgresql/postgresql.key")),
        };
        let seconds = |text: String| text.parse().map_err(|_| invalid(format!("`connect_timeout` is `{text}`")));
        let connect_timeout = match parameter("connect_timeout").map(seconds).transpose()? {
            // As libpq: no limit. Nothing here waits without one.
            None | Some(0) => limits::CONNECT_TIMEOUT,
            Some(seconds) => Duration::from_secs(seconds),
        };
        let place = Place::new(&config);
        let location = place.location();
        let of_tls = PARAMETERS.iter().filter_map(|(name, _)| Some((*name, ours.get(name).cloned()?)));
        let recorded = place.usable(of_tls.filter(|(name, _)| name.starts_with("ssl")));
        let password_file = parameter("passfile").map(PathBuf::from).or_else(|| default(".pgpass"));
        set_session(&mut config);
        Ok(Self { config, tls, password_file, connect_timeout, location, recorded })
    }

    /// Returns where the database is, without user and password, for messages and as its name.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Returns the URL without user and password, but with the parameters of TLS, for others to use.
    pub(crate) fn recorded(&self) -> &str {
        &self.recorded
    }

    /// Returns the settings of a connection, with the password if a file has one.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        let mut config = self.config.clone();
        if config.get_password().is_none()
            && let Some(file) = &self.password_file
            && let Some(password) = password::find(file, &config)?
        {
            config.password(password);
        }
        Ok(config)
    }

    pub(crate) const fn tls(&self) -> &Tls {
        &self.tls
    }

    pub(crate) const fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }
}

fn invalid(reason: impl Into<Cause>) -> StoreError {
    StoreError::InvalidUrl { reason: reason.into().to_string() }
}

/// Returns what tokio-postgres says about a URL; the name of an unknown parameter may be part of a password.
fn refused(error: tokio_postgres::Error, has_secrets: bool) -> StoreError {
    let reason = cause(error).to_string();
    if has_secrets && reason.starts_with("unknown option") {
        return invalid("it has an unknown parameter; write `&` in a password as `%26`");
    }
    invalid(reason)
}

/// Sets what the URL leaves out from the variables and the defaults of libpq.
fn complete(config: &mut Config, variables: &Variables, login: &str) -> Result<(), StoreError> {
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        config.host(variables.get("PGHOST").unwrap_or(SOCKETS));
    }
    if let (true, Some(port)) = (config.get_ports().is_empty(), variables.get("PGPORT")) {
        config.port(port.parse().map_err(|_| invalid(format!("`PGPORT` is `{port}`")))?);
    }
    if config.get_user().is_none() {
        config.user(variables.get("PGUSER").unwrap_or(login));
    }
    if let (None, Some(database)) = (config.get_dbname(), variables.get("PGDATABASE")) {
        config.dbname(database);
    }
    if let (None, Some(password)) = (config.get_password(), variables.get("PGPASSWORD")) {
        config.password(password);
    }
    Ok(())
}

/// Sets limits for sessions; `options` of the URL come last and win.
fn set_session(config: &mut Config) {
    let ours = format!(
        "-c statement_timeout={} -c lock_timeout={} -c idle_in_transaction_session_timeout={}",
        limits::STATEMENT_TIMEOUT.as_millis(),
        limits::LOCK_TIMEOUT.as_millis(),
        limits::IDLE_TRANSACTION_TIMEOUT.as_millis(),
    );
    let options = config.get_options().map_or_else(|| ours.clone(), |theirs| format!("{ours} {theirs}"));
    config.options(options);
    if config.get_application_name().is_none() {
        config.application_name("maqet");
    }
    config.keepalives_idle(limits::KEEPALIVE_IDLE);
    config.tcp_user_timeout(limits::KEEPALIVE_IDLE);
}

/// Where a database is: an address without user and password, and parameters.
struct Place {
    address: String,
    parameters: Vec<(&'static str, String)>,
}

impl Place {
    fn new(config: &Config) -> Self {
        let port = |index: usize| {
            let ports = config.get_ports();
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            if port == 5432 { String::new() } else { format!(":{port}") }
        };
        let mut servers = Vec::new();
        let mut parameters = Vec::new();
        for (index, host) in config.get_hosts().iter().enumerate() {
            match host {
                Host::Tcp(name) => servers.push(format!("{name}{}", port(index))),
                Host::Unix(folder) => {
                    servers.push(port(index));
                    parameters.push(("host", folder.display().to_string()));
                }
            }
        }
        let addresses = config.get_hostaddrs().iter().enumerate();
        if servers.is_empty() {
            servers.extend(addresses.map(|(index, address)| format!("{address}{}", port(index))));
        }
        let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
        parameters.extend(config.get_options().map(|options| ("options", options.to_owned())));
        Self { address: format!("postgres://{}/{database}", servers.join(",")), parameters }
    }

    /// Returns the URL for messages, whose values are not encoded.
    fn location(&self) -> String {
        self.url(str::to_owned)
    }

    /// Returns a URL that can be used, with `more` parameters.
    fn usable(mut self, more: impl IntoIterator<Item = (&'static str, String)>) -> String {
        self.parameters.extend(more);
        self.url(uri::encode)
    }

    fn url(&self, encode: impl Fn(&str) -> String) -> String {
        let parameters: Vec<String> =
            self.parameters.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        if parameters.is_empty() { self.address.clone() } else { format!("{}?{}", self.address, parameters.join("&")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(address: &str, variables: &[(&str, &str)]) -> Result<PostgresUrl, StoreError> {
        PostgresUrl::parse(address, &variables.iter().copied().collect(), "me")
    }

    #[track_caller]
    fn check(address: &str, location: &str) {
        assert_eq!(parse(address, &[]).unwrap().location(), location);
    }

    #[test]
    fn test_location_has_no_user_and_no_password() {
        check("me:secret@db.example/maqet", "postgres://db.example/maqet");
        check("me:a:b?c%40%25%3a%2F@db.example/maqet", "postgres://db.example/maqet");
        check("me@db:5433/maqet?password=secret&sslmode=require", "postgres://db:5433/maqet");
        check("a:1,b/maqet?passfile=/x", "postgres://a:1,b/maqet");
        check("/maqet?host=/tmp/x&user=me", "postgres:///maqet?host=/tmp/x");
        check("/maqet", "postgres:///maqet?host=/var/run/postgresql");
        check("db", "postgres://db/me");
        check("db/x?options=-csearch_path%3Dt1", "postgres://db/x?options=-csearch_path=t1");
    }

    #[test]
    fn test_debug_of_url_shows_no_password() {
        let url = parse("me:secret@db/maqet", &[("PGPASSWORD", "other")]).unwrap();

        assert_eq!(format!("{url:?}"), r#"PostgresUrl { location: "postgres://db/maqet", .. }"#);
    }

    #[test]
    fn test_parse_variables_complete_the_url() {
        let variables =
            [("PGHOST", "db"), ("PGPORT", "1"), ("PGUSER", "you"), ("PGDATABASE", "d"), ("PGPASSWORD", "p")];

        let url = parse("", &variables).unwrap();
        let config = url.config().unwrap();

        assert_eq!(url.location(), "postgres://db:1/d");
        assert_eq!((config.get_user(), config.get_password()), (Some("you"), Some(&b"p"[..])));
    }

    #[test]
    fn test_recorded_url_keeps_tls_and_can_be_parsed() {
        let address = "me:secret@/d?host=/run/a%20b&options=-csearch_path%3Dx&sslmode=verify-full&sslrootcert=/c/%C3%BC.crt\
            &connect_timeout=3&passfile=/p";

        let url = parse(address, &[("PGSSLMODE", "disable")]).unwrap();

        let recorded = url.recorded();
        insta::assert_snapshot!(recorded, @"postgres:///d?host=/run/a%20b&options=-csearch_path%3Dx&sslmode=verify-full&sslrootcert=/c/%C3%BC.crt");
        let again = parse(recorded.strip_prefix("postgres://").unwrap(), &[]).unwrap();
        assert_eq!((again.location(), again.recorded()), (url.location(), recorded));
    }

    #[test]
    fn test_parse_url_wins_over_variables() {
        let variables = [("PGHOST", "other"), ("PGPASSWORD", "other"), ("PGSSLMODE", "disable")];

        let url = parse("u:p%40@db/d?sslmode=verify-full", &variables).unwrap();

        assert_eq!((url.location(), url.tls().mode), ("postgres://db/d", TlsMode::VerifyFull));
        assert_eq!(url.config().unwrap().get_password(), Some(&b"p@"[..]));
    }

    #[test]
    fn test_parse_session_options_of_the_url_come_last() {
        let url = parse("db/d?options=-c%20statement_timeout%3D1", &[]).unwrap();

        let options = url.config().unwrap().get_options().map(str::to_owned).unwrap();
        assert!(options.starts_with("-c statement_timeout=10000 "), "{options}");
        assert!(options.ends_with(" -c statement_timeout=1"), "{options}");
    }

    #[test]
    fn test_parse_invalid_url_names_the_reason() {
        let reason = |address: &str| match parse(address, &[]) {
            Err(StoreError::InvalidUrl { reason }) => reason,
            other => panic!("expected an error, not {other:?}"),
        };

        insta::assert_snapshot!(reason("db/d?sslmode=maybe"), @"`sslmode` is `maybe`: expected `disable`, `allow`, `prefer`, `require`, `verify-ca` or `verify-full`");
        insta::assert_snapshot!(reason("db/d?host_name=x"), @"unknown option `host_name`");
        insta::assert_snapshot!(reason("db:port/d"), @"invalid value for option `port`");
        insta::assert_snapshot!(reason("db/d?connect_timeout=soon"), @"`connect_timeout` is `soon`");
        insta::assert_snapshot!(reason("db/d?passfile=%2"), @"it is not percent-encoded UTF-8; write `%` as `%25`");
        insta::assert_snapshot!(reason("u:p@db/d?host_name=x"), @"it has an unknown parameter; write `&` in a password as `%26`");
        insta::assert_snapshot!(reason("u:p@ss@db/d"), @"`@` in a user, a password or a name must be written as `%40`, `/` as `%2F`, `:` as `%3A` and `%` as `%25`");
    }
}
