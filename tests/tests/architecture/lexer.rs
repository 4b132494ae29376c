//! Rust as words, texts and marks: enough to find things in it without being fooled by comments and strings.

/// One piece of a Rust text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// The line it begins on, from 1.
    pub(crate) line: usize,
    /// What it is.
    pub(crate) kind: Kind,
}

/// What a piece can be; comments, lifetimes and characters are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An identifier, a keyword or a number.
    Word(String),
    /// What stands between the quotes of a string, as it was written.
    Text(String),
    /// Any other character.
    Mark(char),
}

impl Token {
    pub(crate) fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            Kind::Text(_) | Kind::Mark(_) => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            Kind::Word(_) | Kind::Mark(_) => None,
        }
    }

    pub(crate) fn is_word(&self, word: &str) -> bool {
        self.word() == Some(word)
    }

    pub(crate) fn is_mark(&self, mark: char) -> bool {
        self.kind == Kind::Mark(mark)
    }
}

/// Returns the pieces of a Rust text.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (length, kind) = piece(first, rest);
        found.extend(kind.map(|kind| Token { line, kind }));
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    found
}

/// Returns how long the piece at the beginning of `rest` is, and what it is unless it is left out.
fn piece(first: char, rest: &str) -> (usize, Option<Kind>) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), None);
    }
    if rest.starts_with("/*") {
        return (block_comment(rest), None);
    }
    if let Some((length, text)) = string(rest) {
        return (length, Some(Kind::Text(text.to_owned())));
    }
    if is_part_of_word(first) {
        let length = word(rest);
        return (length, Some(Kind::Word(rest[..length].to_owned())));
    }
    match first {
        '\'' => (quote(rest), None),
        space if space.is_whitespace() => (space.len_utf8(), None),
        mark => (mark.len_utf8(), Some(Kind::Mark(mark))),
    }
}

fn is_part_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word(rest: &str) -> usize {
    rest.find(|c| !is_part_of_word(c)).unwrap_or(rest.len())
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest[at..];
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// Returns the length and the content of the string `rest` begins with, if it does.
fn string(rest: &str) -> Option<(usize, &str)> {
    let after_kind = rest.strip_prefix(['b', 'c']).unwrap_or(rest);
    let (is_raw, after_raw) = match after_kind.strip_prefix('r') {
        Some(after) => (true, after),
        None => (false, after_kind),
    };
    let hashes = after_raw.len() - after_raw.trim_start_matches('#').len();
    let content = after_raw[hashes..].strip_prefix('"').filter(|_| is_raw || hashes == 0)?;
    let begins = rest.len() - content.len();

    let end = if is_raw { format!("\"{}", "#".repeat(hashes)) } else { "\"".to_owned() };
    let length = if is_raw { content.find(&end)? } else { unescaped_quote(content)? };
    Some((begins + length + end.len(), &content[..length]))
}

fn unescaped_quote(content: &str) -> Option<usize> {
    let mut is_escaped = false;
    for (at, c) in content.char_indices() {
        match c {
            '"' if !is_escaped => return Some(at),
            _ => is_escaped = c == '\\' && !is_escaped,
        }
    }
    None
}

/// Returns the length of the character or lifetime that `rest` begins with.
fn quote(rest: &str) -> usize {
    let mut after = rest.char_indices().skip(1);
    match (after.next(), after.next()) {
        (Some((_, '\\')), Some((at, escaped))) => {
            let from = at + escaped.len_utf8();
            rest[from..].find('\'').map_or(rest.len(), |end| from + end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        (_, _) => 1 + word(&rest[1..]),
    }
}

/// Returns the tokens without what is compiled for tests only.
pub(crate) fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let end = attribute(tokens, at);
        if is_for_tests(&tokens[at..end]) {
            at = item(tokens, end);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Returns the names of the modules in files of their own that are compiled for tests only.
pub(crate) fn test_modules(tokens: &[Token]) -> Vec<String> {
    let mut names = Vec::new();
    for at in 0..tokens.len() {
        let end = attribute(tokens, at);
        if is_for_tests(&tokens[at..end])
            && let [keyword, name, mark, ..] = &tokens[end..]
            && keyword.is_word("mod")
            && mark.is_mark(';')
        {
            names.extend(name.word().map(str::to_owned));
        }
    }
    names
}

/// Returns where the attribute that begins at `at` ends; `at` itself where none begins.
fn attribute(tokens: &[Token], at: usize) -> usize {
    let begins = tokens[at].is_mark('#') && tokens.get(at + 1).is_some_and(|next| next.is_mark('['));
    if begins { closing(tokens, at + 1) } else { at }
}

fn is_for_tests(attribute: &[Token]) -> bool {
    let words: Vec<&str> = attribute.iter().filter_map(Token::word).collect();
    words.first() == Some(&"cfg") && words.contains(&"test") && !words.contains(&"not")
}

/// Returns where the item that begins at `at`, perhaps with further attributes, ends.
fn item(tokens: &[Token], mut at: usize) -> usize {
    while at < tokens.len() {
        let token = &tokens[at];
        let end = attribute(tokens, at);
        if end > at {
            at = end;
        } else if token.is_mark('{') {
            return closing(tokens, at);
        } else if token.is_mark('(') || token.is_mark('[') {
            at = closing(tokens, at);
        } else if token.is_mark(';') {
            return at + 1;
        } else {
            at += 1;
        }
    }
    at
}

/// Returns what comes after the bracket that closes the one at `at`.
pub(crate) fn closing(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token.kind {
            Kind::Mark('(' | '[' | '{') => depth += 1,
            Kind::Mark(')' | ']' | '}') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return index + 1;
                }
            }
            Kind::Mark(_) | Kind::Word(_) | Kind::Text(_) => {}
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let shown = |token: &Token| match &token.kind {
            Kind::Word(word) => word.clone(),
            Kind::Text(text) => format!("«{text}»"),
            Kind::Mark(mark) => mark.to_string(),
        };
        let found: Vec<String> = tokens(text).iter().map(shown).collect();
        assert_eq!(found.join(" "), expected, "{text}");
    }

    #[test]
    fn test_tokens_comments_of_every_kind_are_left_out() {
        check("a // println!()\nb /* c /* d */ e */ f", "a b f");
        check("/// a\n//! b\nc", "c");
    }

    #[test]
    fn test_tokens_strings_hide_what_looks_like_code() {
        check(r#"a("// \" b", c)"#, r#"a ( «// \" b» , c )"#);
        check(r###"r#"a " b"# b"c" br##"d"# e"##"###, r##"«a " b» «c» «d"# e»"##);
        check("r#type", "r # type");
    }

    #[test]
    fn test_tokens_characters_and_lifetimes_are_left_out() {
        check(r"['a', '\'', '\\', '\u{7f}', '{', 'é', b'x']", "[ , , , , , , b ]");
        check("fn f<'a>(x: &'static str)", "fn f < > ( x : & str )");
    }

    #[test]
    fn test_tokens_lines_are_counted_through_strings_and_comments() {
        let found = tokens("\"a\nb\"\n/* c\n */ d");

        assert_eq!(found.last().map(|token| token.line), Some(4));
    }

    #[test]
    fn test_without_tests_module_and_its_attributes_are_gone() {
        let found = without_tests(&tokens("a #[cfg(test)] #[expect(x)] mod tests { fn f() { } } b"));

        assert_eq!(found.iter().filter_map(Token::word).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn test_without_tests_item_without_braces_is_gone() {
        let found = without_tests(&tokens("#[cfg(test)] const A: [u8; 2] = [1, 2]; b"));

        assert_eq!(found.iter().filter_map(Token::word).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn test_without_tests_other_conditions_stay() {
        let found = without_tests(&tokens("#[cfg(not(test))] a; #[cfg(feature = \"test\")] b;"));

        assert!(found.iter().any(|token| token.is_word("a")) && found.iter().any(|token| token.is_word("b")));
    }

    #[test]
    fn test_test_modules_in_files_of_their_own_are_named() {
        assert_eq!(test_modules(&tokens("mod a; #[cfg(test)] mod b; #[cfg(test)] mod c { }")), ["b"]);
    }
}
