//! Paths, macros and methods that a text names.

use crate::lexer::{Token, closing};

/// Something a text names, and the line it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) line: usize,
    pub(crate) name: String,
}

/// Returns the paths of two and more parts, those of `use a::{b, c::d}` written out.
pub(crate) fn paths(tokens: &[Token]) -> Vec<Named> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        at = match tokens[at].word() {
            Some(_) => path(tokens, at, "", &mut found),
            None => at + 1,
        };
    }
    found
}

/// Reads the path at `at`, adds it below `prefix`, and returns what comes after it.
fn path(tokens: &[Token], mut at: usize, prefix: &str, found: &mut Vec<Named>) -> usize {
    let line = tokens[at].line;
    let mut name = match tokens[at].word() {
        Some("self") if !prefix.is_empty() => prefix.to_owned(),
        Some(word) => joined(prefix, word),
        None => joined(prefix, "*"),
    };
    at += 1;
    while is_separator(tokens, at) {
        match tokens.get(at + 2) {
            Some(next) if next.is_mark('{') => {
                group(&tokens[at + 3..closing(tokens, at + 2).max(at + 4) - 1], &name, found);
                return closing(tokens, at + 2);
            }
            Some(next) if next.is_mark('*') => name = joined(&name, "*"),
            Some(next) => match next.word() {
                Some(word) => name = joined(&name, word),
                None => break,
            },
            None => break,
        }
        at += 3;
    }
    if name.contains("::") {
        found.push(Named { line, name });
    }
    at
}

fn group(tokens: &[Token], prefix: &str, found: &mut Vec<Named>) {
    let mut at = 0;
    while at < tokens.len() {
        at = if tokens[at].word().is_some() || tokens[at].is_mark('*') {
            path(tokens, at, prefix, found)
        } else {
            at + 1
        };
        // What follows `as` is a name of the reader's choice.
        if tokens.get(at).is_some_and(|token| token.is_word("as")) {
            at += 2;
        }
    }
}

fn joined(prefix: &str, word: &str) -> String {
    if prefix.is_empty() { word.to_owned() } else { format!("{prefix}::{word}") }
}

fn is_separator(tokens: &[Token], at: usize) -> bool {
    matches!(tokens.get(at..at + 2), Some([first, second]) if first.is_mark(':') && second.is_mark(':'))
}

/// Returns whether `path` goes through `wanted`; a `*` may stand for any one part.
pub(crate) fn goes_through(path: &str, wanted: &str) -> bool {
    let path: Vec<&str> = path.split("::").collect();
    let wanted: Vec<&str> = wanted.split("::").collect();
    path.windows(wanted.len())
        .any(|parts| parts.iter().zip(&wanted).all(|(part, wanted)| part == wanted || *part == "*"))
}

/// Returns the macros that are called.
pub(crate) fn macros(tokens: &[Token]) -> Vec<Named> {
    let mut found = Vec::new();
    for three in tokens.windows(3) {
        let opens = ['(', '[', '{'].iter().any(|mark| three[2].is_mark(*mark));
        if let (Some(word), true, true) = (three[0].word(), three[1].is_mark('!'), opens) {
            found.push(Named { line: three[0].line, name: word.to_owned() });
        }
    }
    found
}

/// Returns the methods that are called without arguments.
pub(crate) fn bare_methods(tokens: &[Token]) -> Vec<Named> {
    let mut found = Vec::new();
    for four in tokens.windows(4) {
        let is_bare = four[0].is_mark('.') && four[2].is_mark('(') && four[3].is_mark(')');
        if let (Some(word), true) = (four[1].word(), is_bare) {
            found.push(Named { line: four[1].line, name: word.to_owned() });
        }
    }
    found
}

/// Returns the words of the attributes, as in `tokio::test` or `cfg`.
pub(crate) fn attributes(tokens: &[Token]) -> Vec<Named> {
    let mut found = Vec::new();
    for at in 0..tokens.len().saturating_sub(2) {
        let inner = usize::from(tokens[at + 1].is_mark('!'));
        if tokens[at].is_mark('#') && tokens.get(at + 1 + inner).is_some_and(|next| next.is_mark('[')) {
            let words =
                tokens[at + 2 + inner..].iter().take_while(|token| token.word().is_some() || token.is_mark(':'));
            let name = words.map(|token| token.word().unwrap_or(":")).collect();
            found.push(Named { line: tokens[at].line, name });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexer::tokens;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let found: Vec<String> = paths(&tokens(text)).into_iter().map(|named| named.name).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn test_paths_plain_path_is_found_whole() {
        check("let a = std::fs::read(b);", &["std::fs::read"]);
        check("Vec::<u8>::new()", &[]);
        check("a: b", &[]);
    }

    #[test]
    fn test_paths_groups_are_written_out() {
        check(
            "use std::{fs::{self, File as F}, io, time::*};",
            &["std::fs", "std::fs::File", "std::io", "std::time::*"],
        );
        check("use crate::{a, b::{c, d}}; use e::f;", &["crate::a", "crate::b::c", "crate::b::d", "e::f"]);
    }

    #[test]
    fn test_goes_through_any_part_of_the_path_counts() {
        assert!(goes_through("std::fs::File", "std::fs"));
        assert!(goes_through("std::env::var", "env::var"));
        assert!(goes_through("std::*", "std::fs"));
        assert!(!goes_through("std::env::vars", "env::var"));
        assert!(!goes_through("super::*", "env::var"));
    }

    #[test]
    fn test_macros_calls_are_found_and_comparisons_are_not() {
        let found: Vec<String> =
            macros(&tokens("a != b; println!(\"x\"); std::dbg![1]")).into_iter().map(|named| named.name).collect();

        assert_eq!(found, ["println", "dbg"]);
    }

    #[test]
    fn test_bare_methods_with_arguments_are_left_out() {
        let found: Vec<String> =
            bare_methods(&tokens("p.exists(); images.exists(&p)")).into_iter().map(|named| named.name).collect();

        assert_eq!(found, ["exists"]);
    }

    #[test]
    fn test_attributes_paths_are_written_out() {
        let found: Vec<String> =
            attributes(&tokens("#![forbid(x)] #[tokio::test] #[ignore = \"y\"]")).into_iter().map(|n| n.name).collect();

        assert_eq!(found, ["forbid", "tokio::test", "ignore"]);
    }
}
