//! Words as a POSIX shell reads them.

/// Returns `word` so that a POSIX shell reads exactly it.
///
/// ```
/// assert_eq!(maqet_domain::text::quote("driver=file,filename=/a b"), "'driver=file,filename=/a b'");
/// assert_eq!(maqet_domain::text::quote("-smp"), "-smp");
/// ```
pub fn quote(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_quote_single_quote_is_closed_and_opened_again() {
        assert_eq!(quote("a'b"), r"'a'\''b'");
    }

    #[test]
    fn test_quote_empty_word_stays_a_word() {
        assert_eq!(quote(""), "''");
    }
}
