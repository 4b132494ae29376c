//! How numbers are written.
//!
//! YAML has several spellings of a number, and the same characters are often meant as a text. A definition therefore
//! keeps what was written, and only decimal digits are a number.

use crate::size::ByteSize;

/// Returns whether this is an integer in decimal digits, without a `+`, a leading zero or separators.
pub fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text).as_bytes();
    match digits {
        [] => false,
        [b'0'] => text.len() == 1,
        [first, rest @ ..] => (b'1'..=b'9').contains(first) && rest.iter().all(u8::is_ascii_digit),
    }
}

/// Returns how to write a number in decimal digits, if the text is one in another spelling.
pub fn help(text: &str) -> Option<String> {
    Some(format!("write the number in decimal digits: `{}`", decimal(text)?))
}

/// Returns how to write a size with its unit, if the text is one in another spelling: `2 GiB`, `512 mb`.
pub fn size_help(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(end);
    let unit = unit.trim().to_ascii_uppercase();
    let letter = unit.strip_suffix("IB").or_else(|| unit.strip_suffix('B')).unwrap_or(&unit);
    let is_size = !number.is_empty() && matches!(letter, "K" | "M" | "G" | "T" | "P" | "E");
    let size = match number.strip_prefix('.') {
        Some(fraction) => format!("0.{fraction}{letter}").parse::<ByteSize>().ok()?.to_string(),
        None => format!("{}{letter}", number.trim_end_matches('.')),
    };
    let is_size = is_size && size.parse::<ByteSize>().is_ok();
    is_size.then(|| format!("write `{size}`: units are powers of 1024"))
}

/// Returns the value of an integer in one of the spellings that YAML or people use.
fn decimal(text: &str) -> Option<u64> {
    if is_decimal(text) {
        return None;
    }
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    let digits = unsigned.replace('_', "");
    let prefixed = |prefix: &str, radix| {
        let rest = digits.strip_prefix(prefix)?;
        rest.starts_with(|c: char| c.is_ascii_alphanumeric()).then(|| u64::from_str_radix(rest, radix).ok())?
    };
    prefixed("0x", 16).or_else(|| prefixed("0o", 8)).or_else(|| prefixed("0b", 2)).or_else(|| integral(&digits))
}

/// Returns the value of `1e3`, `2.0` or `+7`; not that of `017`, which is octal to some programs and decimal to others.
fn integral(digits: &str) -> Option<u64> {
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit()) && !digits.ends_with('.');
    let is_ambiguous = digits.starts_with('0') && digits.len() > 1;
    let value = digits.parse::<f64>().ok().filter(|_| is_number && !is_ambiguous)?;
    // Integers of a double are exact up to here.
    let is_integral = value.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&value);
    is_integral.then(|| format!("{value}").parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_decimal_digits_are_the_only_spelling() {
        for text in ["0", "7", "10", "-1", "18446744073709551616"] {
            assert!(is_decimal(text), "{text}");
        }
        for text in ["", "-", "-0", "00", "017", "+1", "1_000", "0x10", "1.0", "1e3", " 1", "1 ", "½", "١"] {
            assert!(!is_decimal(text), "{text}");
        }
    }

    #[test]
    fn test_help_names_the_decimal_spelling() {
        let spellings =
            ["0x10", "0X10", "0o20", "0b10000", "1.6e1", "16.0", "+16", "1_6", "1e999", ".5", "017", "a", "0x"];

        let shown = spellings.map(|text| (text, decimal(text)));

        let known: Vec<&str> = shown.iter().filter(|(_, value)| *value == Some(16)).map(|(text, _)| *text).collect();
        assert_eq!(known, ["0x10", "0o20", "0b10000", "1.6e1", "16.0", "+16", "1_6"]);
        assert!(shown.iter().all(|(_, value)| value.is_none_or(|value| value == 16)), "{shown:?}");
        assert_eq!(help("0x400").as_deref(), Some("write the number in decimal digits: `1024`"));
        assert_eq!(help("16"), None);
    }

    #[test]
    fn test_size_help_names_the_unit_of_qemu() {
        for (text, expected) in [
            ("2 GiB", Some("2G")),
            ("2GB", Some("2G")),
            ("512 mb", Some("512M")),
            ("1.5 Tib", Some("1.5T")),
            ("2 G", Some("2G")),
            (".5G", Some("512M")),
            (".25 gib", Some("256M")),
            ("5.G", Some("5G")),
            ("1..5G", None),
            (".G", None),
            ("2 X", None),
            ("2 ", None),
            ("GiB", None),
            ("2 G x", None),
        ] {
            let expected = expected.map(|size| format!("write `{size}`: units are powers of 1024"));
            assert_eq!(size_help(text), expected, "{text}");
        }
    }
}
