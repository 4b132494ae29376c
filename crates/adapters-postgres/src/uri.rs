//! Takes a URL apart exactly as libpq does (`conninfo_uri_parse_options` in `fe-connect.c`, PostgreSQL 15), so that a user, a
//! password or a name never means something else here than for `psql`.
//!
//! A password with characters that are not percent-encoded becomes part of a host, of a port, or of a name; libpq then shows it
//! in its messages. Nothing here does: no message has a value, and an `@` where a password would end up is refused.

use std::collections::BTreeMap;

/// What is wrong with a URL; without any part of it that may be of a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InvalidUri(String);

impl InvalidUri {
    fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl From<InvalidUri> for String {
    fn from(InvalidUri(reason): InvalidUri) -> Self {
        reason
    }
}

/// The parameters of a URL, decoded, by their names in libpq; empty ones are left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters {
    values: BTreeMap<String, String>,
    /// Whether a part of the URL can be part of a password that is not encoded.
    pub(crate) has_secrets: bool,
}

impl Parameters {
    /// Takes apart what follows `postgres://`.
    pub(crate) fn parse(address: &str) -> Result<Self, InvalidUri> {
        let mut parameters = Self { has_secrets: address.contains('@'), ..Self::default() };
        let rest = parameters.take_credentials(address)?;
        let rest = parameters.take_servers(rest)?;
        let (path, query) = split_before(rest, &['?']);
        if let Some(database) = path.strip_prefix('/') {
            require_no_at(database)?;
            parameters.set("dbname", &decode(database)?);
        }
        if let Some(query) = query.strip_prefix('?') {
            parameters.take_query(query)?;
        }
        Ok(parameters)
    }

    /// Removes a parameter.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        self.values.remove(name)
    }

    /// Returns what is left, in the form `name='value' …`.
    pub(crate) fn into_text(self) -> String {
        let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
        let pairs = self.values.iter().map(|(name, value)| format!("{name}='{}'", quoted(value)));
        pairs.collect::<Vec<_>>().join(" ")
    }

    fn set(&mut self, name: &str, value: &str) {
        self.values.remove(name);
        if !value.is_empty() {
            self.values.insert(name.to_owned(), value.to_owned());
        }
    }

    /// Takes the user and the password: what precedes the first `@`, if there is no `/` before that.
    fn take_credentials<'a>(&mut self, address: &'a str) -> Result<&'a str, InvalidUri> {
        let (before, after) = split_before(address, &['@', '/']);
        let Some(rest) = after.strip_prefix('@') else { return Ok(address) };
        let (user, password) = before.split_once(':').unwrap_or((before, ""));
        self.set("user", &decode(user)?);
        self.set("password", &decode(password)?);
        Ok(rest)
    }

    /// Takes hosts and ports, which are separated by commas.
    fn take_servers<'a>(&mut self, mut rest: &'a str) -> Result<&'a str, InvalidUri> {
        let (mut hosts, mut ports) = (Vec::new(), Vec::new());
        loop {
            let (host, port);
            (host, rest) = match rest.strip_prefix('[') {
                Some(rest) => rest.split_once(']').ok_or_else(|| InvalidUri::new("`[` without `]`"))?,
                None => split_before(rest, &[':', '/', '?', ',']),
            };
            (port, rest) = match rest.strip_prefix(':') {
                Some(rest) => split_before(rest, &['/', '?', ',']),
                None => ("", rest),
            };
            require_no_at(host)?;
            require_no_at(port)?;
            hosts.push(host);
            ports.push(port);
            match rest.chars().next() {
                Some(',') => rest = &rest[1..],
                None | Some('/' | '?') => break,
                Some(_) => return Err(InvalidUri::new("unexpected character after `]`")),
            }
        }
        let list = |values: &[&str]| {
            if values.iter().all(|value| value.is_empty()) { String::new() } else { values.join(",") }
        };
        self.set("host", &decode(&list(&hosts))?);
        self.set("port", &decode(&list(&ports))?);
        Ok(rest)
    }

    fn take_query(&mut self, query: &str) -> Result<(), InvalidUri> {
        let mut pairs: Vec<&str> = query.split('&').collect();
        // An ampersand may be the last character.
        pairs.pop_if(|last| last.is_empty());
        for pair in pairs {
            let Some((name, value)) = pair.split_once('=') else {
                return Err(InvalidUri::new("a parameter has no `=`; write `&` in a value as `%26`"));
            };
            if value.contains('=') {
                return Err(InvalidUri::new("a parameter has two `=`; write `=` in a value as `%3D`"));
            }
            let (name, value) = (decode(name)?, decode(value)?);
            self.has_secrets |= name.contains("password");
            match (name.as_str(), value.as_str()) {
                // As JDBC writes it.
                ("ssl", "true") => self.set("sslmode", "require"),
                _ if name.chars().all(|char| char.is_ascii_lowercase() || char == '_') && !name.is_empty() => {
                    self.set(&name, &value);
                }
                _ => return Err(InvalidUri::new("the name of a parameter is not valid")),
            }
        }
        Ok(())
    }
}

/// Splits `text` before the first of `ends`.
fn split_before<'a>(text: &'a str, ends: &[char]) -> (&'a str, &'a str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

/// Refuses an `@` that libpq would take for a part of a name: more likely, it is one of a password.
fn require_no_at(text: &str) -> Result<(), InvalidUri> {
    if text.contains('@') {
        let reason =
            "`@` in a user, a password or a name must be written as `%40`, `/` as `%2F`, `:` as `%3A` and `%` as `%25`";
        return Err(InvalidUri::new(reason));
    }
    Ok(())
}

/// Decodes `%2F` and the like.
fn decode(text: &str) -> Result<String, InvalidUri> {
    let invalid = || InvalidUri::new("it is not percent-encoded UTF-8; write `%` as `%25`");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits =
            rest.split_off(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit)).ok_or_else(invalid)?;
        let number =
            u8::from_str_radix(std::str::from_utf8(digits).map_err(|_| invalid())?, 16).map_err(|_| invalid())?;
        if number == 0 {
            return Err(invalid());
        }
        bytes.push(number);
    }
    String::from_utf8(bytes).map_err(|_| invalid())
}

/// Encodes a value of a parameter.
pub(crate) fn encode(value: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:,".contains(&byte);
    let encoded = |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    value.bytes().map(encoded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, expected: &str) {
        assert_eq!(Parameters::parse(address).unwrap().into_text(), expected, "{address}");
    }

    /// The results of libpq 15.
    #[test]
    fn test_parse_gives_what_libpq_gives() {
        check("", "");
        check("db", "host='db'");
        check("db:1/d", "dbname='d' host='db' port='1'");
        check("u@db", "host='db' user='u'");
        check("u:p@db/d", "dbname='d' host='db' password='p' user='u'");
        check(":p@db", "host='db' password='p'");
        check("u:@db", "host='db' user='u'");
        check("u:a:b@db", "host='db' password='a:b' user='u'");
        check("u:a?b@db", "host='db' password='a?b' user='u'");
        check("u:%40%25%3A%2f@db", "host='db' password='@%:/' user='u'");
        check("u%3Ax:p@db", "host='db' password='p' user='u:x'");
        check("a:1,b,c:3/d", "dbname='d' host='a,b,c' port='1,,3'");
        check("[::1]:5/d", "dbname='d' host='::1' port='5'");
        check("%2Frun%2Fx/d", "dbname='d' host='/run/x'");
        check("/d?host=/run/x&user=me%40corp", "dbname='d' host='/run/x' user='me@corp'");
        check("/d?user=me@corp", "dbname='d' user='me@corp'");
        check("a/d?host=b&dbname=e&", "dbname='e' host='b'");
        check("?password=it's\\", "password='it\\'s\\\\'");
        check("db?ssl=true", "host='db' sslmode='require'");
        check("db?options=-c%20a%3Db", "host='db' options='-c a=b'");
    }

    #[test]
    fn test_parse_password_that_is_not_encoded_is_in_no_message() {
        for address in [
            "u:se@cret@db",
            "u:se/cret@db/d",
            "u:5/se@cret",
            "u:se/cret?@db",
            "u:100%secret@db",
            "u:%secret@db",
            "u:%0secret@db",
            "db?password=se&cret",
            "db?password=se=cret",
            "db?password=%zzsecret",
            "u:a%00secret@db",
            "u:[secret@db/x@y",
            "[secret",
            "[::1]secret",
            "db/d@secret",
            "?se-cret=1",
        ] {
            let InvalidUri(reason) = Parameters::parse(address).map(Parameters::into_text).unwrap_err();
            assert!(!reason.contains("se") || reason.starts_with("`@` in a user"), "{address}: {reason}");
            assert!(!reason.contains("cret"), "{address}: {reason}");
        }
    }

    #[test]
    fn test_parse_secrets_are_noticed() {
        let has_secrets = |address: &str| Parameters::parse(address).unwrap().has_secrets;

        assert!(has_secrets("u:p@db") && has_secrets("db?password=p") && has_secrets("db?sslpass%77ord=p"));
        assert!(!has_secrets("db/d?sslmode=require"));
    }
}
