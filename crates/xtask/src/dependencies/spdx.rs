//! Evaluates SPDX license expressions.

/// Returns whether the licenses that `is_accepted` satisfy `expression`, or `None` if its syntax is invalid.
///
/// `/` counts as `OR`, as in old versions of crates. A license `WITH` an exception has to be accepted as a whole.
pub(super) fn is_satisfied(expression: &str, is_accepted: impl Fn(&str) -> bool) -> Option<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut tokens = spaced.split_whitespace().peekable();
    let value = any(&mut tokens, &is_accepted)?;
    tokens.next().is_none().then_some(value)
}

type Tokens<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

/// Evaluates operands of `OR`.
fn any(tokens: &mut Tokens<'_>, is_accepted: &impl Fn(&str) -> bool) -> Option<bool> {
    let mut value = all(tokens, is_accepted)?;
    while tokens.next_if_eq(&"OR").is_some() {
        value |= all(tokens, is_accepted)?;
    }
    Some(value)
}

/// Evaluates operands of `AND`, which binds stronger.
fn all(tokens: &mut Tokens<'_>, is_accepted: &impl Fn(&str) -> bool) -> Option<bool> {
    let mut value = licence(tokens, is_accepted)?;
    while tokens.next_if_eq(&"AND").is_some() {
        value &= licence(tokens, is_accepted)?;
    }
    Some(value)
}

fn licence(tokens: &mut Tokens<'_>, is_accepted: &impl Fn(&str) -> bool) -> Option<bool> {
    match tokens.next()? {
        "(" => {
            let value = any(tokens, is_accepted)?;
            (tokens.next()? == ")").then_some(value)
        }
        "OR" | "AND" | "WITH" | ")" => None,
        name if tokens.next_if_eq(&"WITH").is_some() => Some(is_accepted(&format!("{name} WITH {}", tokens.next()?))),
        name => Some(is_accepted(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expression: &str, expected: Option<bool>) {
        assert_eq!(is_satisfied(expression, |licence| ["MIT", "Zlib"].contains(&licence)), expected, "{expression}");
    }

    #[test]
    fn test_is_satisfied_or_needs_one_and_needs_all() {
        check("MIT", Some(true));
        check("GPL-3.0-only", Some(false));
        check("MIT OR GPL-3.0-only", Some(true));
        check("MIT AND GPL-3.0-only", Some(false));
        check("GPL-2.0/MIT", Some(true));
    }

    #[test]
    fn test_is_satisfied_and_binds_stronger_than_or() {
        check("GPL-3.0-only OR MIT AND Zlib", Some(true));
        check("MIT OR GPL-3.0-only AND Zlib", Some(true));
        check("(MIT OR GPL-3.0-only) AND GPL-2.0-only", Some(false));
        check("(GPL-3.0-only OR MIT) AND Zlib", Some(true));
    }

    #[test]
    fn test_is_satisfied_exception_is_part_of_the_licence() {
        check("MIT WITH some-exception", Some(false));
        check("Apache-2.0 WITH LLVM-exception OR MIT", Some(true));
    }

    #[test]
    fn test_is_satisfied_invalid_syntax_is_none() {
        for expression in ["", "MIT OR", "(MIT", "MIT Zlib", "AND MIT", "MIT)", "MIT WITH"] {
            check(expression, None);
        }
    }
}
