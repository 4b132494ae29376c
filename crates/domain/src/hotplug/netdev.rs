//! The backend of a hot-plugged network card.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value, json};
use serde_with::{DeserializeFromStr, SerializeDisplay};

use crate::network::{Forward, InvalidForward, invalid_interface_name};
use crate::qemu::{option_parts, parse_bool};
use crate::text::{did_you_mean, similar};

/// A network backend, written as for QEMU's `-netdev`: `user,hostfwd=tcp:127.0.0.1:2222-:22`.
///
/// Types that need no other process are known: `user`, `tap` and `bridge`. `forward=2222:22` is a forward as in a
/// definition, which binds 127.0.0.1.
#[derive(Debug, Clone, PartialEq, Eq, DeserializeFromStr, SerializeDisplay)]
pub struct Netdev {
    text: String,
    arguments: Map<String, Value>,
    forwards: Vec<Forward>,
}

/// A text that is not a valid [`Netdev`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid network backend `{}`: {reason}", value.escape_debug())]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct InvalidNetdev {
    pub value: String,
    pub reason: String,
}

/// The types, and the options of each with the type of their values (QEMU 7.2).
const TYPES: [(&str, &[(&str, Form)]); 3] = [
    (
        "user",
        &[
            ("forward", Form::Forward),
            ("hostfwd", Form::HostForward),
            ("restrict", Form::Switch),
            ("net", Form::Text),
            ("host", Form::Text),
            ("hostname", Form::Text),
            ("dns", Form::Text),
            ("dhcpstart", Form::Text),
        ],
    ),
    ("tap", &[("ifname", Form::Text), ("vhost", Form::Switch)]),
    ("bridge", &[("br", Form::Text)]),
];

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Switch,
    /// An item of `hostfwd`.
    HostForward,
    Forward,
}

impl Netdev {
    /// Returns the arguments of `netdev_add` that create it with this id.
    pub fn arguments(&self, id: &str) -> Map<String, Value> {
        let mut arguments = self.arguments.clone();
        arguments.insert("id".to_owned(), json!(id));
        arguments
    }

    /// Returns the tap device that it connects to, if any.
    pub fn tap_device(&self) -> Option<&str> {
        self.arguments.get("ifname").and_then(Value::as_str)
    }

    /// Returns whether it forwards ports of the host.
    pub fn has_forwards(&self) -> bool {
        self.arguments.contains_key("hostfwd")
    }

    /// Returns the forwards written as in a definition.
    pub fn forwards(&self) -> &[Forward] {
        &self.forwards
    }

    fn set(&mut self, key: &str, form: Form, value: &str) -> Result<(), String> {
        match form {
            Form::Text => drop(self.arguments.insert(key.to_owned(), json!(value))),
            Form::Switch => {
                let is_on = parse_bool(value).ok_or_else(|| format!("`{key}` must be `on` or `off`"))?;
                self.arguments.insert(key.to_owned(), json!(is_on));
            }
            Form::HostForward => self.push_forward(value),
            Form::Forward => {
                let forward: Forward = value.parse().map_err(|error: InvalidForward| error.to_string())?;
                self.push_forward(&forward.hostfwd());
                self.forwards.push(forward);
            }
        }
        Ok(())
    }

    fn push_forward(&mut self, rule: &str) {
        let list = self.arguments.entry("hostfwd").or_insert_with(|| json!([]));
        if let Value::Array(list) = list {
            list.push(json!({ "str": rule }));
        }
    }
}

impl FromStr for Netdev {
    type Err = InvalidNetdev;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |reason: String| InvalidNetdev { value: text.chars().take(200).collect(), reason };
        let mut parts = option_parts(text);
        let kind = parts.next().filter(|first| matches!(first.key, None | Some("type")));
        let kind = kind.map(|first| first.as_written()).unwrap_or_default();
        let Some((_, options)) = TYPES.iter().find(|(name, _)| *name == kind) else {
            return Err(invalid(format!("the type must be `user`, `tap` or `bridge`, not `{}`", kind.escape_debug())));
        };
        let mut netdev = Self { text: text.to_owned(), arguments: Map::new(), forwards: Vec::new() };
        netdev.arguments.insert("type".to_owned(), json!(kind));
        for part in parts {
            let key = part.key.ok_or_else(|| invalid("options must be `name=value`".to_owned()))?;
            let known = options.iter().map(|(name, _)| *name);
            let Some((_, form)) = options.iter().find(|(name, _)| *name == key) else {
                let hint = did_you_mean(&similar(key, known.clone()));
                let hint = hint.unwrap_or_else(|| format!("known options: {}", known.collect::<Vec<_>>().join(", ")));
                return Err(invalid(format!("`{kind}` has no option `{}`; {hint}", key.escape_debug())));
            };
            netdev.set(key, *form, &part.value()).map_err(invalid)?;
        }
        for name in ["ifname", "br"].iter().filter_map(|key| netdev.arguments.get(*key)?.as_str()) {
            if let Some(reason) = invalid_interface_name(name) {
                return Err(invalid(format!("`{}` {reason}", name.escape_debug())));
            }
        }
        if kind == "tap" {
            if !netdev.arguments.contains_key("ifname") {
                return Err(invalid("`tap` requires `ifname`, an existing device".to_owned()));
            }
            // The defaults are programs of the host.
            netdev.arguments.insert("script".to_owned(), json!("no"));
            netdev.arguments.insert("downscript".to_owned(), json!("no"));
        }
        Ok(netdev)
    }
}

impl fmt::Display for Netdev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &Value) {
        let netdev: Netdev = text.parse().unwrap();

        assert_eq!(Value::Object(netdev.arguments("n")), *expected);
        assert_eq!(netdev.has_forwards(), text.contains("fwd=") || text.contains("forward="));
        assert_eq!(netdev.to_string(), text);
    }

    #[test]
    fn test_netdev_common_forms_become_arguments() {
        check("user", &json!({ "type": "user", "id": "n" }));
        let forwards = json!([{ "str": "tcp:127.0.0.1:0-:22" }, { "str": "tcp::80-:80" }]);
        check(
            "user,forward=0:22,hostfwd=tcp::80-:80,restrict=on",
            &json!({ "type": "user", "id": "n", "hostfwd": forwards, "restrict": true }),
        );
        check("user,restrict=off", &json!({ "type": "user", "id": "n", "restrict": false }));
        let tap = json!({ "type": "tap", "id": "n", "ifname": "tap0", "script": "no", "downscript": "no" });
        check("tap,ifname=tap0", &tap);
        check("bridge,br=br0", &json!({ "type": "bridge", "id": "n", "br": "br0" }));
    }

    #[test]
    fn test_netdev_forwards_are_those_written_as_in_definition() {
        let netdev: Netdev = "user,forward=0:22,hostfwd=tcp::80-:80".parse().unwrap();

        assert_eq!(netdev.forwards(), ["0:22".parse::<Forward>().unwrap()]);
    }

    #[test]
    fn test_netdev_invalid_names_what_is_known() {
        for (text, expected) in [
            ("", "`user`, `tap` or `bridge`"),
            ("socket,listen=:1", "`user`, `tap` or `bridge`"),
            ("user,hostfw=x", "hostfwd"),
            ("user,restrict=perhaps", "`on` or `off`"),
            ("user,forward=x", "invalid port forward"),
            ("user,smb", "name=value"),
            ("tap", "ifname"),
            ("tap,ifname=sixteen-bytes-xy", "`sixteen-bytes-xy` has 16 bytes, and a network device has at most 15"),
            ("bridge,br=a b", "`a b` has ` `"),
            ("tap,ifname=t,script=/bin/sh", "no option `script`"),
        ] {
            let refused = text.parse::<Netdev>().unwrap_err().to_string();
            assert!(refused.contains(expected), "{text}: {refused}");
        }
    }
}
