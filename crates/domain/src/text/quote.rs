//! Shell quoting.

/// Returns `argument` quoted for a POSIX shell, if it needs quotes.
///
/// ```
/// assert_eq!(maqet_domain::text::quote("driver=file,filename=/a b"), "'driver=file,filename=/a b'");
/// assert_eq!(maqet_domain::text::quote("-smp"), "-smp");
/// ```
pub fn quote(argument: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !argument.is_empty() && argument.chars().all(is_plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_quote_escapes_single_quotes() {
        assert_eq!(quote("a'b"), r"'a'\''b'");
    }

    #[test]
    fn test_quote_empty_argument_is_two_quotes() {
        assert_eq!(quote(""), "''");
    }
}
