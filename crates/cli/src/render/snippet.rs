//! What is wrong in a configuration, shown where it stands.

use std::borrow::Cow;
use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use maqet::ConfigError;
use maqet::config::Sources;
use maqet::domain::config::{Problem, SourceLocation};

use super::sanitize::{escape_control, mask_control};

/// How many problems are shown; the JSON has them all, and nobody mends more before trying again.
const SHOWN: usize = 50;

/// The longest line of which the part around the mark is shown, in bytes: up to 50 of them are looked through.
const LONGEST_LINE: usize = 16 << 10;

/// The longest mark, in bytes; a longer one hides where it begins.
const LONGEST_MARK: usize = 100;

/// The longest key that is shown whole, in characters.
const LONGEST_KEY: usize = 200;

/// Returns the problems as a compiler would show them.
pub(crate) fn render(config: &ConfigError) -> String {
    let problems = config.problems.iter().take(SHOWN);
    let mut rendered: Vec<String> = problems.map(|problem| one(problem, &config.sources)).collect();
    if let Some(more) = config.problems.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        rendered.push(format!("… and {more} more"));
    }
    let total = match config.problems.len() {
        1 => String::new(),
        many => format!("\n\n{many} problems, nothing was changed"),
    };
    rendered.join("\n\n") + &total
}

fn one(problem: &Problem, sources: &Sources) -> String {
    let title = match problem.path.as_str() {
        "" => problem.message.clone(),
        path => format!("`{}`: {}", shortened(path).escape_debug(), problem.message),
    };
    let title = match &problem.place {
        Some(place) if shown(place, sources).is_none() => format!("{place}: {title}"),
        Some(_) | None => title,
    };
    let title = match &problem.other {
        Some(other) if shown(other, sources).is_none() => format!("{title} (the other is at {other})"),
        Some(_) | None => title,
    };
    let mut group = Group::with_title(Level::ERROR.primary_title(escape_control(&title).into_owned()));
    if let Some((place, text)) = problem.place.as_ref().and_then(|place| shown(place, sources)) {
        group = group.element(snippet(place, text, AnnotationKind::Primary, "here"));
    }
    if let Some((place, text)) = problem.other.as_ref().and_then(|place| shown(place, sources)) {
        group = group.element(snippet(place, text, AnnotationKind::Context, "the other one"));
    }
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(escape_control(help).into_owned()));
    }
    Renderer::styled().render(&[group])
}

fn shortened(path: &str) -> Cow<'_, str> {
    match path.char_indices().nth(LONGEST_KEY) {
        Some((end, _)) => Cow::Owned(format!("{}…", &path[..end])),
        None => Cow::Borrowed(path),
    }
}

fn snippet<'a>(
    place: &'a SourceLocation,
    line: &'a str,
    kind: AnnotationKind,
    label: &'a str,
) -> Snippet<'a, Annotation<'a>> {
    Snippet::source(mask_control(line))
        .line_start(usize::try_from(place.line).unwrap_or(1))
        .path(escape_control(&place.source))
        .annotation(kind.span(range(place, line)).label(label))
}

/// Returns the bytes of its line that a place is about, on character borders.
fn range(place: &SourceLocation, line: &str) -> Range<usize> {
    let column = usize::try_from(place.column.saturating_sub(1)).unwrap_or_default();
    let start = line.char_indices().nth(column).map_or(line.len(), |(at, _)| at);
    let mut end = start.saturating_add(place.length.clamp(1, LONGEST_MARK)).min(line.len());
    while !line.is_char_boundary(end) {
        end += 1;
    }
    start..end
}

/// Returns the line a place is on, if it is in a text we have and can be read.
fn shown<'a>(place: &'a SourceLocation, sources: &'a Sources) -> Option<(&'a SourceLocation, &'a str)> {
    let above = usize::try_from(place.line.checked_sub(1)?).ok()?;
    let line = lines(sources.text(&place.source)?).nth(above).unwrap_or_default();
    (line.len() <= LONGEST_LINE).then_some((place, line))
}

/// Returns the lines as YAML counts them: a carriage return alone ends one, too.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

#[cfg(test)]
mod tests {
    use maqet::Document;
    use maqet::config::read;
    use maqet::domain::config::{Diagnostics, KeyPath, Node};

    use super::*;

    /// Returns what is told of a text of which every top-level key is unknown.
    fn told(text: &str) -> String {
        let node: Node = read("f.yaml", text).unwrap();
        let mut report = Diagnostics::default();
        for (key, node) in node.entries() {
            report.unknown_key(&KeyPath::top(key), node, &[]);
        }
        let mut sources = Sources::default();
        sources.add(&Document { name: "f.yaml".to_owned(), folder: "/".into(), text: text.to_owned() });
        let told = render(&ConfigError::new(report.into_problems(), sources));
        anstream::adapter::strip_str(&told).to_string()
    }

    #[test]
    fn test_snippet_shows_the_line_and_its_number_alone() {
        let told = told("\n# above\n'größe ö': 1\n# below\n");

        assert!(told.contains("--> f.yaml:3:1\n"), "{told}");
        assert!(told.contains("3 | 'größe ö': 1\n  | ^^^^^^^^^ here\n"), "{told}");
        assert!(!told.contains("above") && !told.contains("below"), "{told}");
    }

    #[test]
    fn test_snippet_of_a_line_that_any_system_ends_is_that_line() {
        for text in ["a: 1\nbc: 2\nd: 3\n", "a: 1\r\nbc: 2\r\nd: 3\r\n", "a: 1\rbc: 2\rd: 3\r"] {
            let told = told(text);

            assert!(told.contains("2 | bc: 2\n  | ^^ here\n"), "{text:?}: {told}");
        }
    }

    #[test]
    fn test_snippet_of_a_long_line_shows_the_part_around_the_mark() {
        let told = told(&format!("{{ a: {}, mark: 1 }}\n", "x".repeat(5000)));

        assert!(told.contains("mark: 1 }\n") && told.contains("^^^^ here"), "{told}");
        assert!(told.lines().all(|line| line.len() < 400), "{told}");
    }

    #[test]
    fn test_snippet_of_many_problems_shows_some_and_counts_all() {
        let lines: Vec<String> = (0..5000).map(|number| format!("k{number}: 1\n")).collect();

        let told = told(&lines.concat());

        assert_eq!(told.matches("error: ").count(), SHOWN);
        assert!(told.ends_with("\n\n… and 4950 more\n\n5000 problems, nothing was changed"), "{told}");
    }

    #[test]
    fn test_snippet_of_a_line_too_long_to_read_is_left_out() {
        let told = told(&format!("? {}\n: 1\n", "x".repeat(100_000)));

        assert!(told.starts_with("error: f.yaml:1:3: `xxx") && told.len() < 1000, "{}", told.len());
    }
}
