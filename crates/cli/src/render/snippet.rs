//! What is wrong in a configuration, shown where it stands.

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use maqet::ConfigError;
use maqet::config::Sources;
use maqet::domain::config::{Place, Problem};

use super::printable::{in_place, printable};

/// Returns the problems as a compiler would show them.
pub(crate) fn render(config: &ConfigError) -> String {
    let rendered: Vec<String> = config.problems.iter().map(|problem| one(problem, &config.sources)).collect();
    let total = match rendered.len() {
        1 => String::new(),
        many => format!("\n\n{many} problems, nothing was changed"),
    };
    rendered.join("\n\n") + &total
}

fn one(problem: &Problem, sources: &Sources) -> String {
    let title = match problem.path.as_str() {
        "" => problem.message.clone(),
        path => format!("`{}`: {}", path.escape_debug(), problem.message),
    };
    let title = match &problem.place {
        Some(place) if shown(place, sources).is_none() => format!("{place}: {title}"),
        Some(_) | None => title,
    };
    let mut group = Group::with_title(Level::ERROR.primary_title(printable(&title).into_owned()));
    if let Some((place, text)) = problem.place.as_ref().and_then(|place| shown(place, sources)) {
        group = group.element(snippet(place, text, AnnotationKind::Primary, "here"));
    }
    if let Some((place, text)) = problem.other.as_ref().and_then(|place| shown(place, sources)) {
        group = group.element(snippet(place, text, AnnotationKind::Context, "the other one"));
    }
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(printable(help).into_owned()));
    }
    Renderer::styled().render(&[group])
}

fn snippet<'a>(place: &'a Place, text: &'a str, kind: AnnotationKind, label: &'a str) -> Snippet<'a, Annotation<'a>> {
    Snippet::source(in_place(text))
        .path(printable(&place.source))
        .annotation(kind.span(range(place, text)).label(label))
}

/// Returns the bytes a place is about, on character borders and within the text.
fn range(place: &Place, text: &str) -> std::ops::Range<usize> {
    let start = offset(place, text);
    let mut end = (start + place.length.max(1)).min(text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    start..end
}

/// Some places know their line and column only.
fn offset(place: &Place, text: &str) -> usize {
    if place.offset > 0 && text.is_char_boundary(place.offset) {
        return place.offset.min(text.len());
    }
    let line = usize::try_from(place.line.saturating_sub(1)).unwrap_or_default();
    let column = usize::try_from(place.column.saturating_sub(1)).unwrap_or_default();
    let begins: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let within: usize = text[begins..].chars().take(column).map(char::len_utf8).sum();
    (begins + within).min(text.len())
}

fn shown<'a>(place: &'a Place, sources: &'a Sources) -> Option<(&'a Place, &'a str)> {
    sources.text(&place.source).filter(|_| place.line > 0).map(|text| (place, text))
}
