//! Problems of a configuration, shown with their source lines.

use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use maqet::config::Sources;
use maqet::domain::config::{Problem, SourceLocation};

use super::sanitize::{escape_control, mask_control};

/// How many problems are shown; the JSON output has all of them.
const MAX_PROBLEMS: usize = 50;

/// The longest line that is shown, in bytes; of a long one, the renderer shows the part around the mark.
const MAX_LINE_BYTES: usize = 16 << 10;

/// The longest mark, in bytes; a longer one would hide where it starts.
const MAX_MARK_BYTES: usize = 100;

/// Returns the problems as a compiler would show them.
pub(crate) fn render(problems: &[Problem], sources: &Sources) -> String {
    let mut rendered: Vec<String> = problems.iter().take(MAX_PROBLEMS).map(|problem| one(problem, sources)).collect();
    if problems.len() > MAX_PROBLEMS {
        rendered.push(format!("… and {} more", problems.len() - MAX_PROBLEMS));
    }
    if problems.len() > 1 {
        rendered.push(format!("{} problems; nothing was changed", problems.len()));
    }
    rendered.join("\n\n")
}

fn one(problem: &Problem, sources: &Sources) -> String {
    let mut title = problem.title();
    let location = problem.location.as_ref();
    let other = problem.other.as_ref();
    let line = location.and_then(|location| source_line(location, sources));
    let other_line = other.and_then(|other| source_line(other, sources));
    if let (Some(location), None) = (location, line) {
        title = format!("{location}: {title}");
    }
    if let (Some(other), None) = (other, other_line) {
        title = format!("{title} (see also {other})");
    }
    let mut group = Group::with_title(Level::ERROR.primary_title(escape_control(&title).into_owned()));
    if let (Some(location), Some(line)) = (location, line) {
        group = group.element(snippet(location, line, AnnotationKind::Primary, "here"));
    }
    if let (Some(other), Some(line)) = (other, other_line) {
        group = group.element(snippet(other, line, AnnotationKind::Context, "see also"));
    }
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(escape_control(help).into_owned()));
    }
    Renderer::styled().render(&[group])
}

fn snippet<'a>(
    location: &'a SourceLocation,
    line: &'a str,
    kind: AnnotationKind,
    label: &'a str,
) -> Snippet<'a, Annotation<'a>> {
    Snippet::source(mask_control(line))
        .line_start(usize::try_from(location.line).unwrap_or(1))
        .path(escape_control(&location.source))
        .annotation(kind.span(byte_range(location, line)).label(label))
}

/// Returns the bytes of the line that the location covers, on character boundaries.
fn byte_range(location: &SourceLocation, line: &str) -> Range<usize> {
    let column = usize::try_from(location.column.saturating_sub(1)).unwrap_or_default();
    let start = line.char_indices().nth(column).map_or(line.len(), |(at, _)| at);
    let mut end = start.saturating_add(location.length.clamp(1, MAX_MARK_BYTES)).min(line.len());
    while !line.is_char_boundary(end) {
        end += 1;
    }
    start..end
}

/// Returns the line of the location, if its text is known, and the line is not too long and has no secret.
fn source_line<'a>(location: &SourceLocation, sources: &'a Sources) -> Option<&'a str> {
    if sources.is_hidden(&location.source, location.line) {
        return None;
    }
    let above = usize::try_from(location.line.checked_sub(1)?).ok()?;
    let line = lines(sources.text(&location.source)?).nth(above).unwrap_or_default();
    (line.len() <= MAX_LINE_BYTES).then_some(line)
}

/// Returns the lines as YAML counts them: a single carriage return ends one, too.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

#[cfg(test)]
mod tests {
    use maqet::Document;
    use maqet::config::read;
    use maqet::domain::config::{Diagnostics, KeyPath, Node};

    use super::*;

    /// Renders the problems of a text in which every top-level key is unknown.
    fn render_unknown_keys(text: &str) -> String {
        let node: Node = read("f.yaml", text).unwrap();
        let mut diagnostics = Diagnostics::default();
        for (key, node) in node.entries() {
            diagnostics.unknown_key(&KeyPath::top(key), node, &["memory"]);
        }
        let mut sources = Sources::default();
        sources.add(&Document::new("f.yaml", "/", text));
        let rendered = render(&diagnostics.into_problems(), &sources);
        anstream::adapter::strip_str(&rendered).to_string()
    }

    #[test]
    fn test_snippet_shows_only_the_line_of_the_problem() {
        let rendered = render_unknown_keys("\n# above\n'größe ö': 1\n# below\n");

        insta::assert_snapshot!(rendered, @r"
        error: unknown key `größe ö`
         --> f.yaml:3:1
          |
        3 | 'größe ö': 1
          | ^^^^^^^^^ here
          |
          = help: known keys: memory
        ");
    }

    #[test]
    fn test_snippet_understands_all_line_endings() {
        for text in ["a: 1\nbc: 2\nd: 3\n", "a: 1\r\nbc: 2\r\nd: 3\r\n", "a: 1\rbc: 2\rd: 3\r"] {
            let rendered = render_unknown_keys(text);

            assert!(rendered.contains("2 | bc: 2\n  | ^^ here\n"), "{text:?}: {rendered}");
        }
    }

    #[test]
    fn test_snippet_of_long_line_shows_the_part_around_the_mark() {
        let rendered = render_unknown_keys(&format!("{{ a: {}, mark: 1 }}\n", "x".repeat(5000)));

        assert!(rendered.contains("mark: 1 }\n") && rendered.contains("^^^^ here"), "{rendered}");
        assert!(rendered.lines().all(|line| line.len() < 400), "{rendered}");
    }

    #[test]
    fn test_snippets_of_many_problems_are_limited_and_counted() {
        let lines: Vec<String> = (0..5000).map(|number| format!("k{number}: 1\n")).collect();

        let rendered = render_unknown_keys(&lines.concat());

        assert_eq!(rendered.matches("error: ").count(), MAX_PROBLEMS);
        assert!(rendered.ends_with("\n\n… and 4950 more\n\n5000 problems; nothing was changed"), "{rendered}");
    }

    #[test]
    fn test_snippet_of_very_long_line_is_omitted() {
        let rendered = render_unknown_keys(&format!("? {}\n: 1\n", "x".repeat(100_000)));

        assert!(
            rendered.starts_with("error: f.yaml:1:3: unknown key `xxx") && rendered.len() < 1000,
            "{}",
            rendered.len()
        );
    }
}
