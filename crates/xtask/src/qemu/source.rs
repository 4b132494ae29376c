//! Which mirror the system's own package sources name, and the sources of a release and its backports on that mirror.

use std::fs;
use std::path::Path;

/// The system's package sources.
const SOURCES: &str = "/etc/apt";

/// A source, in the format of the file that it was derived from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// The name of the file in apt's format.
    pub(crate) file: &'static str,
    pub(crate) text: String,
}

/// Returns the source of the backports of `release`, on the mirror and with the keys of the system's own sources.
pub(crate) fn of_backports(release: &str) -> Option<Source> {
    in_folder(Path::new(SOURCES), release, &format!("{release}-backports"))
}

/// Returns the source of `release` itself.
pub(crate) fn of_release(release: &str) -> Option<Source> {
    in_folder(Path::new(SOURCES), release, release)
}

/// Returns the source of `suite`, derived from one of `release`.
fn in_folder(folder: &Path, release: &str, suite: &str) -> Option<Source> {
    let mut files = vec![folder.join("sources.list")];
    let parts = fs::read_dir(folder.join("sources.list.d")).into_iter().flatten().flatten();
    let mut parts: Vec<_> = parts.map(|entry| entry.path()).collect();
    parts.sort();
    files.extend(parts);

    files.iter().find_map(|file| {
        let content = fs::read_to_string(file).ok()?;
        match file.extension()?.to_str()? {
            "list" => content
                .lines()
                .find_map(|line| from_line(line, release, suite))
                .map(|text| Source { file: "sources.list", text }),
            "sources" => stanzas(&content)
                .iter()
                .find_map(|stanza| from_stanza(stanza, release, suite))
                .map(|text| Source { file: "debian.sources", text }),
            _ => None,
        }
    })
}

/// Derives a source from a line such as `deb [signed-by=KEYS] URI bookworm main`.
fn from_line(line: &str, release: &str, suite: &str) -> Option<String> {
    let rest = line.trim().strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let (uri, found) = (words.next()?, words.next()?);
    if found != release || !words.any(|component| component == "main") {
        return None;
    }
    // An unsigned mirror is no reason to skip the check.
    let options: Vec<_> = options.split_whitespace().filter(|option| !option.starts_with("trusted")).collect();
    let options = if options.is_empty() { String::new() } else { format!("[{}] ", options.join(" ")) };
    Some(format!("deb {options}{uri} {suite} main\n"))
}

/// A stanza of a file in deb822 format: names of fields in lower case, and their values with all lines.
type Stanza = Vec<(String, String)>;

/// Splits a file in deb822 format into its stanzas.
fn stanzas(content: &str) -> Vec<Stanza> {
    let mut stanzas = vec![Stanza::new()];
    for line in content.lines().filter(|line| !line.starts_with('#')) {
        let Some(stanza) = stanzas.last_mut() else { continue };
        match line.split_once(':') {
            _ if line.trim().is_empty() => stanzas.push(Stanza::new()),
            _ if line.starts_with([' ', '\t']) => {
                if let Some((_, value)) = stanza.last_mut() {
                    value.push('\n');
                    value.push_str(line);
                }
            }
            Some((name, value)) => stanza.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => {}
        }
    }
    stanzas
}

/// Derives a source from a stanza with the fields `Types`, `URIs`, `Suites` and `Components`.
fn from_stanza(stanza: &[(String, String)], release: &str, suite: &str) -> Option<String> {
    let field = |wanted: &str| stanza.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| value);
    let holds = |name: &str, wanted: &str| field(name).split_whitespace().any(|value| value == wanted);
    let is_off = ["no", "false", "0", "off"].contains(&field("enabled"));
    if is_off || !holds("types", "deb") || !holds("suites", release) || !holds("components", "main") {
        return None;
    }
    let mut text = format!("Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\n", field("uris"));
    if !field("signed-by").is_empty() {
        text.push_str("Signed-By: ");
        text.push_str(field("signed-by"));
        text.push('\n');
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(file: &str, content: &str) -> Option<Source> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        in_folder(folder.path(), "bookworm", "bookworm-backports")
    }

    #[test]
    fn test_source_line_keeps_options_and_mirror() {
        let content = "# deb http://no/debian bookworm main\n\
                       deb-src http://no/debian bookworm main\n\
                       deb http://no/security bookworm-security main\n\
                       deb [arch=amd64 trusted=yes signed-by=/k.gpg] http://mirror/debian bookworm contrib main\n";

        let found = source("sources.list", content).unwrap();

        assert_eq!(found.file, "sources.list");
        assert_eq!(found.text, "deb [arch=amd64 signed-by=/k.gpg] http://mirror/debian bookworm-backports main\n");
    }

    #[test]
    fn test_source_line_without_options_is_derived() {
        let found = source("sources.list.d/debian.list", "deb\thttp://mirror/debian  bookworm main\n").unwrap();

        assert_eq!(found.text, "deb http://mirror/debian bookworm-backports main\n");
    }

    #[test]
    fn test_source_stanza_keeps_mirror_and_embedded_key() {
        let content = "Types: deb\nURIs: http://no/security\nSuites: bookworm-security\nComponents: main\n\n\
                       Types: deb deb-src\n# a comment\nURIs: http://mirror/debian\n\
                       Suites: bookworm bookworm-updates\nComponents: main contrib\nTrusted: yes\n\
                       Signed-By:\n -----BEGIN-----\n .\n abc\n";

        let found = source("sources.list.d/debian.sources", content).unwrap();

        assert_eq!(found.file, "debian.sources");
        assert_eq!(
            found.text,
            "Types: deb\nURIs: http://mirror/debian\nSuites: bookworm-backports\nComponents: main\n\
             Signed-By: \n -----BEGIN-----\n .\n abc\n"
        );
    }

    #[test]
    fn test_source_disabled_stanza_or_other_release_is_none() {
        let off = "Types: deb\nEnabled: no\nURIs: http://no/\nSuites: bookworm\nComponents: main\n";
        let other = "deb http://mirror/debian trixie main\n";

        let found = [source("sources.list.d/debian.sources", off), source("sources.list", other)];

        assert_eq!(found, [None, None]);
    }
}
