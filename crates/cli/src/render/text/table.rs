//! Tables with aligned columns.

use std::borrow::Cow;
use std::io::{self, Write};

use anstyle::Style;
use unicode_width::UnicodeWidthStr;

use super::super::is_coloured;
use super::super::sanitize::escape_control;

/// The number of spaces between two columns.
const GAP: usize = 2;

/// Writes a table: a line of headings, then rows with a style for the cell in column `styled`.
///
/// A list of 1,000 VMs has to be fast, and table crates take several times as long.
pub(super) fn write_table<'a, R: AsMut<[Cow<'a, str>]>>(
    out: &mut dyn Write,
    headings: &[impl AsRef<str>],
    styled: usize,
    rows: impl IntoIterator<Item = (Style, R)>,
) -> io::Result<()> {
    let mut rows: Vec<(Style, R)> = rows.into_iter().collect();
    let mut widths: Vec<usize> = headings.iter().map(|heading| width(heading.as_ref())).collect();
    for (_, cells) in &mut rows {
        for (widest, cell) in widths.iter_mut().zip(cells.as_mut()) {
            if let Cow::Owned(escaped) = escape_control(cell) {
                *cell = Cow::Owned(escaped);
            }
            *widest = (*widest).max(width(cell));
        }
    }
    write_row(out, headings, &widths, None)?;
    let is_coloured = is_coloured();
    rows.iter_mut()
        .try_for_each(|(style, cells)| write_row(out, cells.as_mut(), &widths, is_coloured.then_some((styled, *style))))
}

fn write_row(
    out: &mut dyn Write,
    cells: &[impl AsRef<str>],
    widths: &[usize],
    styled: Option<(usize, Style)>,
) -> io::Result<()> {
    let last = cells.iter().rposition(|cell| !cell.as_ref().is_empty()).unwrap_or_default();
    for (index, (cell, widest)) in cells.iter().zip(widths).enumerate().take(last + 1) {
        let cell = cell.as_ref();
        match styled {
            Some((column, style)) if column == index => write!(out, "{style}{cell}{style:#}")?,
            Some(_) | None => out.write_all(cell.as_bytes())?,
        }
        if index < last {
            write_spaces(out, widest - width(cell) + GAP)?;
        }
    }
    out.write_all(b"\n")
}

fn write_spaces(out: &mut dyn Write, mut count: usize) -> io::Result<()> {
    const SPACES: [u8; 64] = [b' '; 64];
    while count > 0 {
        let length = count.min(SPACES.len());
        out.write_all(&SPACES[..length])?;
        count -= length;
    }
    Ok(())
}

/// Returns how many columns of a terminal a text takes.
fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.width() }
}

#[cfg(test)]
mod tests {
    use anstyle::AnsiColor;

    use super::*;

    #[test]
    fn test_row_colours_only_the_styled_column() {
        let mut out = Vec::new();
        let green = AnsiColor::Green.on_default();

        write_row(&mut out, &["web", "running", "7"], &[4, 8, 1], Some((1, green))).unwrap();

        assert_eq!(String::from_utf8(out).unwrap(), "web   \u{1b}[32mrunning\u{1b}[0m   7\n");
    }

    #[test]
    fn test_table_escapes_control_characters_in_cells() {
        let mut out = Vec::new();
        let row = ["x\u{1b}[31mRED\nfake", "1"].map(Cow::from);

        write_table(&mut out, &["NAME", "SIZE"], 0, [(Style::new(), row)]).unwrap();

        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "NAME                  SIZE\nx\\u{1b}[31mRED\\nfake  1\n");
    }
}
