//! QEMU's consoles: the screens of graphics cards, and text consoles of QEMU itself.
//!
//! A text console shows the output of a parallel port or of the human monitor, which QEMU creates unless configured otherwise
//! (7.2, 10.0). `screendump` takes a picture of the first console, whichever that is: a graphics card, if the VM was
//! started with one.

use serde_json::Value;

use super::command::QmpCommand;

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

/// The device whose screen a `screendump` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpedDevice {
    /// Its ID.
    pub device: String,
    /// Which of its screens.
    pub head: u64,
}

impl DumpedDevice {
    /// Returns the device in a command, of QMP or HMP, if it is a `screendump` of one.
    pub fn of(command: &QmpCommand) -> Option<Self> {
        if let Some(line) = command.human_monitor_line() {
            return Self::of_line(line);
        }
        let device = command.arguments.get("device").filter(|_| command.execute == SCREENDUMP)?.as_str()?;
        let head = command.arguments.get("head").and_then(Value::as_u64).unwrap_or_default();
        Some(Self { device: device.to_owned(), head })
    }

    /// Reads `screendump FILE [-f FORMAT] [DEVICE [HEAD]]`, with options anywhere before the device.
    fn of_line(line: &str) -> Option<Self> {
        let mut arguments = line.split_whitespace();
        arguments.next().filter(|name| *name == SCREENDUMP)?;
        let mut operands = Vec::new();
        while let Some(argument) = arguments.next() {
            if argument == "-f" {
                arguments.next();
            } else if !argument.starts_with('-') {
                operands.push(argument.trim_matches('"'));
            }
        }
        let device = (*operands.get(1)?).to_owned();
        Some(Self { device, head: operands.get(2).and_then(|head| head.parse().ok()).unwrap_or_default() })
    }

    /// Returns the path of the device, as the property `device` of its console has it.
    pub fn path(&self) -> String {
        format!("/machine/peripheral/{}", self.device)
    }
}

/// Returns the paths of the consoles before the first text console over which QEMU aborts when it looks for the console of
/// a device; `None` if it has no such text console (7.2).
pub fn consoles_before_text(children: &[(String, String)]) -> Option<Vec<String>> {
    let number = |name: &str| name.strip_prefix("console[")?.strip_suffix(']')?.parse::<u32>().ok();
    let mut consoles: Vec<(u32, &str)> =
        children.iter().filter_map(|(name, kind)| Some((number(name)?, kind.as_str()))).collect();
    consoles.sort_unstable();
    let first_text = consoles.iter().position(|(_, kind)| kind.contains("text-console"))?;
    Some(consoles[..first_text].iter().map(|(number, _)| format!("/backend/console[{number}]")).collect())
}

const SCREENDUMP: &str = "screendump";

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
    fn test_dumped_device_is_read_from_qmp_and_hmp() {
        let line = |line: &str| DumpedDevice::of(&QmpCommand::new("human-monitor-command").with("command-line", line));
        let gpu = |head| Some(DumpedDevice { device: "gpu".to_owned(), head });
        let qmp = QmpCommand::new("screendump").with("filename", "/a").with("device", "gpu").with("head", 1);

        assert_eq!(DumpedDevice::of(&qmp), gpu(1));
        assert_eq!(DumpedDevice::of(&QmpCommand::new("screendump").with("filename", "/a")), None);
        assert_eq!(DumpedDevice::of(&QmpCommand::new("device_del").with("device", "gpu")), None);
        assert_eq!(line("screendump /a gpu"), gpu(0));
        assert_eq!(line(" screendump -f png \"/a\" \"gpu\" 2"), gpu(2));
        assert_eq!((line("screendump /a"), line("info gpu gpu gpu")), (None, None));
    }

    #[test]
    fn test_consoles_before_text_are_in_their_order() {
        let child = |number: u32, kind: &str| (format!("console[{number}]"), kind.to_owned());
        let graphic = |number| child(number, "qemu-graphic-console");
        let text = |number| child(number, "qemu-fixed-text-console");

        let listed = [text(10), graphic(2), graphic(0), text(1), ("chardevs".to_owned(), "container".to_owned())];

        assert_eq!(consoles_before_text(&listed), Some(vec!["/backend/console[0]".to_owned()]));
        assert_eq!(consoles_before_text(&[text(0), graphic(1)]), Some(Vec::new()));
        assert_eq!(consoles_before_text(&[graphic(0), child(1, "qemu-console")]), None);
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
