//! Texts that are paths only after something else has changed them, such as a shell.

/// Why a text is not a path that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnusablePath<'t> {
    /// It begins with the home directory, as in `~/vms`.
    Home,
    /// It begins with that of another user, as in `~ann/vms`; this is the beginning.
    HomeOf(&'t str),
    /// It has a variable or a command, as in `$HOME`.
    Variable(&'t str),
    /// It is an address, as in `https://…`; this is its scheme.
    Address(&'t str),
    /// It is an address of QEMU's, as in `nbd:unix:…`; this is its protocol.
    Protocol(&'static str),
}

/// Protocols of QEMU, without `//`; a file with such a name is `./nbd:…`.
const PROTOCOLS: [&str; 9] =
    ["blkdebug", "blkverify", "fat", "file", "host_cdrom", "host_device", "json", "nbd", "rbd"];

/// Returns why a shell would have to expand a text before it is a path, and what to do.
pub(crate) fn unexpanded(text: &str) -> Option<(String, String)> {
    let unusable = UnusablePath::of_text(text).filter(|unusable| !unusable.is_address())?;
    Some((unusable.message(), unusable.help("")))
}

impl<'t> UnusablePath<'t> {
    /// Returns why a text is not a path, or `None` if it may be one.
    pub(super) fn of_text(text: &'t str) -> Option<Self> {
        if text == "~" || text.starts_with("~/") {
            return Some(Self::Home);
        }
        if let Some((home, _)) = text.split_once('/').filter(|(start, _)| is_home_of_user(start)) {
            return Some(Self::HomeOf(home));
        }
        let (scheme, rest) = text.split_once(':').unwrap_or((text, ""));
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if is_scheme && rest.starts_with("//") {
            return Some(Self::Address(scheme));
        }
        let protocol = PROTOCOLS.into_iter().find(|known| *known == scheme && text.len() > scheme.len());
        protocol.map(Self::Protocol).or_else(|| text.split('/').find_map(variable).map(Self::Variable))
    }

    /// Returns whether QEMU, but not maqet, could open it.
    const fn is_address(self) -> bool {
        matches!(self, Self::Address(_) | Self::Protocol(_))
    }

    pub(super) fn message(self) -> String {
        match self {
            Self::Home => "`~` is expanded by shells only".to_owned(),
            Self::HomeOf(part) | Self::Variable(part) => {
                format!("`{}` is expanded by shells only", part.escape_debug())
            }
            Self::Address(scheme) => format!("`{scheme}://…` is an address, not a path"),
            Self::Protocol(protocol) => format!("`{protocol}:…` is an address of QEMU's, not a path"),
        }
    }

    /// Returns what to do about the value of the key at `path`.
    pub(super) fn help(self, path: &str) -> String {
        match self {
            Self::Home => "write out the path of the home directory; a directory named `~` is `./~`".to_owned(),
            Self::HomeOf(home) => {
                format!("write out the path of the home directory; a directory named `{home}` is `./{home}`")
            }
            // An entry of a list is named by its name.
            Self::Variable(_) if path.starts_with("storage[") && path.ends_with("].file") => {
                "write out the path, or let your shell pass it, as in `--set \"storage.NAME.file=$HOME/a.qcow2\"`"
                    .to_owned()
            }
            Self::Variable(_) if path.contains('[') || path.is_empty() => "write out the path".to_owned(),
            Self::Variable(variable) => {
                format!("write out the path, or let your shell pass it, as in `--set \"{path}={variable}/…\"`")
            }
            Self::Address("file") => "write the path alone, without `file://`".to_owned(),
            Self::Protocol(protocol @ ("file" | "host_cdrom" | "host_device")) => {
                format!("write the path alone, without `{protocol}:`; a file of this name is `./{protocol}:…`")
            }
            Self::Protocol(protocol) => format!(
                "attach it under `arguments`, as `- {{drive: {{file: \"{protocol}:…\", format: raw, if: virtio}}}}`; a file of \
                 this name is `./{protocol}:…`"
            ),
            Self::Address(_) => "download the file first, and write its path".to_owned(),
        }
    }
}

/// Returns whether a component of a path is the home directory of a user, as in `~ann`.
fn is_home_of_user(component: &str) -> bool {
    let name = component.strip_prefix('~').unwrap_or_default();
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// Returns the variable or command in a component of a path: `$NAME` at its start, `${…}` or `$(…)` anywhere.
fn variable(component: &str) -> Option<&str> {
    let part = |end: char| {
        let start = component.find(if end == '}' { "${" } else { "$(" })?;
        let length = component[start..].find(end)?;
        component.get(start..=start + length)
    };
    if let Some(found) = part('}').or_else(|| part(')')) {
        return Some(found);
    }
    let name = component.strip_prefix('$')?;
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then_some(component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_unusable_path_is_recognized_by_its_parts() {
        for (text, expected) in [
            ("~", Some(UnusablePath::Home)),
            ("~/a", Some(UnusablePath::Home)),
            ("~ann/x.iso", Some(UnusablePath::HomeOf("~ann"))),
            ("~svc-vm/x/y", Some(UnusablePath::HomeOf("~svc-vm"))),
            ("./~ann/x", None),
            ("~1/x", None),
            ("a~b/x", None),
            ("$HOME/a.qcow2", Some(UnusablePath::Variable("$HOME"))),
            ("/home/$USER/a", Some(UnusablePath::Variable("$USER"))),
            ("${USER}.qcow2", Some(UnusablePath::Variable("${USER}"))),
            ("/d/$(hostname).raw", Some(UnusablePath::Variable("$(hostname)"))),
            ("https://example.org/a.iso", Some(UnusablePath::Address("https"))),
            ("file:///d/a.iso", Some(UnusablePath::Address("file"))),
            ("s3://bucket/a", Some(UnusablePath::Address("s3"))),
            ("nbd:localhost:1", Some(UnusablePath::Protocol("nbd"))),
            ("json:{}", Some(UnusablePath::Protocol("json"))),
            ("file:/a.img", Some(UnusablePath::Protocol("file"))),
            ("rbd:pool/$HOME", Some(UnusablePath::Protocol("rbd"))),
            ("./nbd:x", None),
            ("nbd", None),
            ("backup:2026", None),
            ("/d/a$b", None),
            ("/d/price$", None),
            ("/d/$1", None),
            ("/d/a:b//c", None),
            ("a:b", None),
            ("~a", None),
            ("./~", None),
        ] {
            assert_eq!(UnusablePath::of_text(text), expected, "{text}");
        }
    }
}
