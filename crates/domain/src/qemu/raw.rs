//! Raw arguments, as QEMU reads a command line: a switch, and its value if it has one.

use super::{canonical, takes_value};

/// What QEMU takes a raw argument for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawPart<'a> {
    /// A switch, by its name without hyphens and aliases.
    Switch(&'a str),
    /// The value of the switch before it, whatever it begins with.
    Value(&'a str),
    /// A disk image, or nothing.
    Other,
}

/// Reads raw arguments one after the other.
///
/// A switch that is not known has a value if what follows it does not look like another switch.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawReader<'a> {
    /// The switch before, unless it has no value.
    before: Option<&'a str>,
}

impl<'a> RawReader<'a> {
    /// Returns what the next argument is; one that is not a text cannot be a switch.
    pub fn read(&mut self, argument: Option<&'a str>) -> RawPart<'a> {
        let name = argument.and_then(switch_name);
        match (self.before.take(), name) {
            (Some(before), None) => RawPart::Value(before),
            (Some(before), Some(_)) if takes_value(before) == Some(true) => RawPart::Value(before),
            (_, Some(name)) => {
                self.before = Some(name).filter(|name| takes_value(name) != Some(false));
                RawPart::Switch(name)
            }
            (None, None) => RawPart::Other,
        }
    }
}

/// Returns what each argument of a command line is.
pub fn raw_parts(args: &[String]) -> impl Iterator<Item = RawPart<'_>> {
    let mut reader = RawReader::default();
    args.iter().map(move |arg| reader.read(Some(arg)))
}

/// Returns the switches with a value, by their names without hyphens and aliases, and the values.
pub fn switch_values(args: &[String]) -> impl Iterator<Item = (&str, &str)> {
    args.iter().zip(raw_parts(args)).filter_map(|(arg, part)| match part {
        RawPart::Value(switch) => Some((switch, arg.as_str())),
        RawPart::Switch(_) | RawPart::Other => None,
    })
}

/// Returns the name of an argument that begins like a switch.
fn switch_name(arg: &str) -> Option<&str> {
    arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')).map(canonical)
}

#[cfg(test)]
mod tests {
    use super::RawPart::{Other, Switch, Value};
    use super::*;

    #[test]
    fn test_raw_parts_are_those_of_qemu() {
        let args = ["-append", "-nographic", "--M", "pc", "-S", "a.img", "-foo", "x", "-foo", "-S", "-m"];
        let args = args.map(str::to_owned);

        let parts: Vec<RawPart<'_>> = raw_parts(&args).collect();

        let expected = [
            Switch("append"),
            Value("append"),
            Switch("machine"),
            Value("machine"),
            Switch("S"),
            Other,
            Switch("foo"),
            Value("foo"),
            Switch("foo"),
            Switch("S"),
            Switch("m"),
        ];
        assert_eq!(parts, expected);
        let values: Vec<_> = switch_values(&args).collect();
        assert_eq!(values, [("append", "-nographic"), ("machine", "pc"), ("foo", "x")]);
    }
}
