//! Near names: what somebody who mistyped probably meant.

/// How many near names are worth showing.
const SHOWN: usize = 3;

/// Names less alike than this (Jaro-Winkler, 0 to 1) are no help, unless hardly a letter differs.
const ALIKE: f64 = 0.8;

/// Nobody meant a name with a text longer than this; comparing takes time that grows with both lengths.
const LONGEST: usize = 64;

/// Returns up to three of `known` that look like `given`, the nearest first.
///
/// ```
/// assert_eq!(maqet_domain::text::similar("memry", ["memory", "cpu"]), ["memory"]);
/// assert!(maqet_domain::text::similar("x", ["memory", "cpu"]).is_empty());
/// ```
pub fn similar<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    if given.len() > LONGEST {
        return Vec::new();
    }
    let given = given.to_lowercase();
    let mut scored: Vec<(f64, &str)> = known
        .into_iter()
        .map(|name| (likeness(&given, &name.to_lowercase()), name))
        .filter(|(score, _)| *score >= ALIKE)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.into_iter().take(SHOWN).map(|(_, name)| name.to_owned()).collect()
}

/// Returns how alike two words are, from 0 to 1; one letter added, lost, changed or swapped is alike enough.
fn likeness(given: &str, known: &str) -> f64 {
    let edits = strsim::osa_distance(given, known);
    let floor = if edits <= 1 && given.len() > 1 { ALIKE } else { 0.0 };
    strsim::jaro_winkler(given, known).max(floor)
}

/// Returns a hint such as ``did you mean `memory`?``, or nothing where no name is near.
pub fn did_you_mean(similar: &[String]) -> Option<String> {
    let quoted: Vec<String> = similar.iter().map(|name| format!("`{name}`")).collect();
    match quoted.as_slice() {
        [] => None,
        [one] => Some(format!("did you mean {one}?")),
        [first @ .., last] => Some(format!("did you mean {} or {last}?", first.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_near_transposed_letters_finds_the_name() {
        assert_eq!(similar("wbe", ["web", "db"]), ["web"]);
    }

    #[test]
    fn test_near_other_case_finds_the_name() {
        assert_eq!(similar("WEB", ["web", "db"]), ["web"]);
    }

    #[test]
    fn test_near_text_too_long_for_a_name_has_none() {
        let most = "x".repeat(LONGEST);

        assert_eq!(similar(&most, [most.as_str()]), [most.as_str()]);
        assert!(similar(&format!("{most}x"), [most.as_str()]).is_empty());
    }

    #[test]
    fn test_did_you_mean_two_names_joins_with_or() {
        let names = ["a".to_owned(), "b".to_owned()];

        assert_eq!(did_you_mean(&names).as_deref(), Some("did you mean `a` or `b`?"));
    }
}
