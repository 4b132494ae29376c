//! QEMU's consoles: the screens of graphics cards, and text consoles of QEMU itself.
//!
//! A text console shows the output of a parallel port or of the human monitor, which QEMU creates unless configured otherwise
//! (7.2, 10.0). `screendump` takes a picture of the first console, whichever that is: a graphics card, if the VM was
//! started with one.

use serde_json::Value;

/// The object of the first console, if the VM was started with any.
///
/// Its `device` is the graphics card. That of a text console is empty in 7.2, and does not exist in 10.0.
pub const FIRST_CONSOLE: &str = "/backend/console[0]";

/// What the first console is, if it does not belong to a graphics card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstConsole {
    /// It is not listed: there is none, or that of a hot-plugged card, which QEMU does not list (7.2, 10.0).
    NotListed,
    /// A text console, or that of a card that was removed; a card that was plugged in since can be dumped by its ID (7.2).
    Unspecified,
    /// The same in a QEMU that aborts if it is asked for the console of a card behind a text console (10.0,
    /// `qemu_console_lookup_by_device` in `ui/console.c`).
    Unusable,
}

impl FirstConsole {
    /// Finds out what it is from the children of `/backend`, names and types.
    pub fn from_children(children: &[(String, String)]) -> Self {
        let first = children.iter().find(|(name, _)| FIRST_CONSOLE.ends_with(&format!("/{name}")));
        match first.map(|(_, kind)| kind.as_str()) {
            None => Self::NotListed,
            // One type for all consoles (7.2); since then, `qemu-graphic-console` and `qemu-fixed-text-console` (10.0).
            Some("qemu-console") => Self::Unspecified,
            Some(_) => Self::Unusable,
        }
    }
}

/// Returns the names and types of the children in a reply to `qom-list`.
pub fn children(reply: &Value) -> Vec<(String, String)> {
    let child = |item: &Value| {
        let kind = item["type"].as_str()?.strip_prefix("child<")?.strip_suffix('>')?;
        Some((item["name"].as_str()?.to_owned(), kind.to_owned()))
    };
    reply.as_array().into_iter().flatten().filter_map(child).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(reply: &Value, expected: FirstConsole) {
        assert_eq!(FirstConsole::from_children(&children(reply)), expected);
    }

    #[test]
    fn test_first_console_is_classified_by_type() {
        let consoles = |kind: &str| {
            json!([
                { "name": "type", "type": "string" },
                { "name": "console[1]", "type": "child<other>" },
                { "name": "console[0]", "type": format!("child<{kind}>") },
            ])
        };

        check(&consoles("qemu-console"), FirstConsole::Unspecified);
        check(&consoles("qemu-fixed-text-console"), FirstConsole::Unusable);
        check(&consoles("qemu-graphic-console"), FirstConsole::Unusable);
        check(&json!([{ "name": "type", "type": "string" }]), FirstConsole::NotListed);
    }
}
