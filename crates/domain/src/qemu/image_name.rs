//! The files in the name of an image: a path, or an address such as `fat:rw:DIRECTORY` or `nbd:unix:SOCKET`.
//!
//! QEMU opens whatever precedes the first colon as a protocol (`path_has_protocol` and the `bdrv_parse_filename` of each
//! driver, 7.2 and 10.0). Addresses of other hosts have no files.

use std::borrow::Cow;

/// What a file in the name of an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedFile {
    /// An image, or a device.
    Image,
    /// A directory that is made a disk (`fat:`).
    Directory,
    /// The socket of a server.
    Socket,
    /// Rules for errors (`blkdebug:`).
    Rules,
}

/// A part of the name of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part<'n> {
    /// What is not a file.
    Text(&'n str),
    /// A file.
    File(NamedFile, &'n str),
    /// A socket in a URI, whose special characters are escaped.
    Escaped(&'n str),
}

/// Returns the files in the name of an image; one in a URI as it is written.
///
/// ```
/// use maqet_domain::qemu::{NamedFile, image_files};
///
/// assert_eq!(image_files("a.img"), [(NamedFile::Image, "a.img")]);
/// assert_eq!(image_files("fat:rw:docs"), [(NamedFile::Directory, "docs")]);
/// assert_eq!(image_files("https://example.org/a.iso"), []);
/// ```
pub fn image_files(name: &str) -> Vec<(NamedFile, &str)> {
    let file = |part| match part {
        Part::Text(_) => None,
        Part::File(kind, file) => Some((kind, file)),
        Part::Escaped(file) => Some((NamedFile::Socket, file)),
    };
    parts(name).into_iter().filter_map(file).collect()
}

/// Returns the name of an image with other files: of each for which `change` returns one.
pub fn with_image_files(name: &str, change: impl Fn(&str) -> Option<String>) -> String {
    let changed = |part| match part {
        Part::Text(text) => Cow::Borrowed(text),
        Part::File(_, file) => change(file).map_or(Cow::Borrowed(file), Cow::Owned),
        // The file was escaped by its writer; what was put before it is not.
        Part::Escaped(file) => change(file).map_or(Cow::Borrowed(file), |changed| match changed.strip_suffix(file) {
            Some(added) => Cow::Owned(format!("{}{file}", escaped(added))),
            None => Cow::Owned(escaped(&changed)),
        }),
    };
    parts(name).into_iter().map(changed).collect()
}

/// Returns the parts of a name, which together are the name.
fn parts(name: &str) -> Vec<Part<'_>> {
    let Some((protocol, rest)) = name.split_once(':').filter(|(protocol, _)| !protocol.contains('/')) else {
        return vec![Part::File(NamedFile::Image, name)];
    };
    let (scheme, whole) = (Part::Text(&name[..=protocol.len()]), vec![Part::Text(name)]);
    match protocol {
        "file" | "host_device" | "host_cdrom" => vec![scheme, Part::File(NamedFile::Image, rest)],
        // `fat:[16:][floppy:][rw:]DIRECTORY`
        "fat" => {
            let start = name.rfind(':').map_or(0, |colon| colon + 1);
            vec![Part::Text(&name[..start]), Part::File(NamedFile::Directory, &name[start..])]
        }
        "nbd" => match rest.strip_prefix("unix:") {
            Some(socket) => {
                let end = socket.find(":exportname=").unwrap_or(socket.len());
                let start = name.len() - socket.len();
                let file = Part::File(NamedFile::Socket, &socket[..end]);
                vec![Part::Text(&name[..start]), file, Part::Text(&socket[end..])]
            }
            None => whole,
        },
        "nbd+unix" | "gluster+unix" => match socket_of_uri(name) {
            Some((start, end)) => {
                vec![Part::Text(&name[..start]), Part::Escaped(&name[start..end]), Part::Text(&name[end..])]
            }
            None => whole,
        },
        // `blkdebug:[RULES]:IMAGE`, `blkverify:RAW:IMAGE`
        "blkdebug" | "blkverify" => match rest.split_once(':') {
            Some((first, image)) => {
                let kind = if protocol == "blkdebug" { NamedFile::Rules } else { NamedFile::Image };
                let first = if first.is_empty() { Part::Text(first) } else { Part::File(kind, first) };
                [scheme, first, Part::Text(":")].into_iter().chain(parts(image)).collect()
            }
            None => whole,
        },
        _ => whole,
    }
}

/// Returns where the socket is in `nbd+unix:///EXPORT?socket=SOCKET`.
fn socket_of_uri(uri: &str) -> Option<(usize, usize)> {
    let mut at = uri.find('?')? + 1;
    for option in uri[at..].split('&') {
        let end = at + option.len();
        if let Some(socket) = option.strip_prefix("socket=") {
            return Some((end - socket.len(), end));
        }
        at = end + 1;
    }
    None
}

/// Returns a text with the characters escaped that end a part of a URI.
fn escaped(text: &str) -> String {
    let escape = |c: char| match c {
        '%' | '?' | '#' | '&' | '+' | ' ' => format!("%{:02X}", u32::from(c)),
        other => other.to_string(),
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn test_image_files_of_every_kind_of_name() {
        use NamedFile::{Directory, Image, Rules, Socket};
        for (name, expected) in [
            ("a.img", &[(Image, "a.img")][..]),
            ("./a:b", &[(Image, "./a:b")]),
            ("file:a", &[(Image, "a")]),
            ("host_device:/dev/sdb", &[(Image, "/dev/sdb")]),
            ("fat:d", &[(Directory, "d")]),
            ("fat:rw:../d", &[(Directory, "../d")]),
            ("fat:16:floppy:rw:/d", &[(Directory, "/d")]),
            ("nbd:unix:s.sock", &[(Socket, "s.sock")]),
            ("nbd:unix:s:exportname=x", &[(Socket, "s")]),
            ("nbd:host:10809", &[]),
            ("nbd+unix:///x?socket=s", &[(Socket, "s")]),
            ("nbd+unix:///socket=x?a=b&socket=/s&c=d", &[(Socket, "/s")]),
            ("nbd+unix:///x", &[]),
            ("blkdebug::a", &[(Image, "a")]),
            ("blkdebug:rules:fat:d", &[(Rules, "rules"), (Directory, "d")]),
            ("blkverify:raw.img:nbd:unix:s", &[(Image, "raw.img"), (Socket, "s")]),
            ("https://example.org/a:b", &[]),
            ("null-co://", &[]),
            ("json:{}", &[]),
        ] {
            assert_eq!(image_files(name), expected, "{name}");
        }
    }

    #[test]
    fn test_with_image_files_changes_nothing_else() {
        let rebased = |name: &str| with_image_files(name, |file| Some(format!("/y z&/{file}")));

        for (name, expected) in [
            ("a", "/y z&/a"),
            ("fat:32:rw:d", "fat:32:rw:/y z&/d"),
            ("nbd:unix:s:exportname=x", "nbd:unix:/y z&/s:exportname=x"),
            ("nbd+unix:///x?socket=s%20t&a=b", "nbd+unix:///x?socket=/y%20z%26/s%20t&a=b"),
            ("blkdebug:r:fat:d", "blkdebug:/y z&/r:fat:/y z&/d"),
            ("blkdebug::d", "blkdebug::/y z&/d"),
            ("ssh://host/d", "ssh://host/d"),
        ] {
            assert_eq!(rebased(name), expected);
        }
        assert_eq!(
            with_image_files("nbd+unix:///x?socket=s", |_| Some("/a b".to_owned())),
            "nbd+unix:///x?socket=/a%20b"
        );
    }

    proptest! {
        /// The parts are the name.
        #[test]
        fn test_with_image_files_without_a_change_is_the_name(
            name in "(fat:|file:|nbd:unix:|nbd\\+unix:///|blkdebug:|blkverify:)?[a-z:?=&/%]{0,20}"
        ) {
            prop_assert_eq!(with_image_files(&name, |_| None), name);
        }
    }
}
