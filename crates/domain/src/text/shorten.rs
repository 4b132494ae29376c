//! Values from outside, as they appear in messages.

/// Returns a text as it stands in a message: quoted, on one line, and of a length that can be read.
pub fn shortened(text: &str) -> String {
    let shown: String = text.chars().take(40).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("`{}{more}`", shown.escape_debug())
}
