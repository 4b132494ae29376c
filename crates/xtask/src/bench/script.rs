//! What a command sends to a server of PostgreSQL, as a script for `pgbench`: from the log of the server, so that it is what the
//! adapter sends.

use crate::Result;
use crate::failure::Failure;

/// Settings of a server whose log can be read by [`script`].
pub(super) const SETTINGS: &str = "log_statement = 'all'\nlog_line_prefix = ''\n";

/// Returns a script that executes the statements in `log`, each time for another VM than the one with this `id` and `name`.
pub(super) fn script(log: &str, id: &str, name: &str) -> Result<String> {
    let mut script = "\\set number random(1, 1000000000000)\n".to_owned();
    let mut messages = messages(log).into_iter().peekable();
    while let Some(message) = messages.next() {
        let statement = if let Some(statement) = message.strip_prefix("LOG:  statement: ") {
            statement.to_owned()
        } else if let Some((_, statement)) =
            message.strip_prefix("LOG:  execute ").and_then(|execution| execution.split_once(": "))
        {
            let detail = messages.next_if(|message| message.starts_with("DETAIL:  "));
            let listed = detail.as_deref().and_then(|detail| detail.split_once("parameters: "));
            with_values(statement, &values(listed.map_or("", |(_, listed)| listed), id, name))
        } else {
            continue;
        };
        script.push_str(statement.trim_end_matches(';'));
        script.push_str(";\n");
    }
    if script.contains(":number::text") && script.contains("COMMIT;\n") {
        Ok(script)
    } else {
        Err(Failure::new("the log of the server does not have the statements of the command"))
    }
}

/// Returns the messages of a log; one that has several lines is continued with tabs.
fn messages(log: &str) -> Vec<String> {
    let mut messages: Vec<String> = Vec::new();
    for line in log.lines() {
        match (line.strip_prefix('\t'), messages.last_mut()) {
            (Some(more), Some(last)) => {
                last.push('\n');
                last.push_str(more);
            }
            _ => messages.push(line.to_owned()),
        }
    }
    messages
}

/// Returns the values in a list like `$1 = 'it''s', $2 = NULL`, as SQL.
fn values(listed: &str, id: &str, name: &str) -> Vec<String> {
    let mut values = Vec::new();
    let mut rest = listed;
    while let Some((_, after)) = rest.split_once(" = ") {
        let length = literal_length(after);
        let (literal, left) = after.split_at(length);
        values.push(match literal {
            _ if literal.trim_matches('\'') == id => "md5(:number::text)::uuid".to_owned(),
            _ if literal.trim_matches('\'') == name => "('vm-' || :number)".to_owned(),
            _ => literal.to_owned(),
        });
        rest = left;
    }
    values
}

/// Returns the length of the literal with which a text begins.
fn literal_length(text: &str) -> usize {
    if !text.starts_with('\'') {
        return text.find(',').unwrap_or(text.len());
    }
    let mut quotes = text.match_indices('\'').skip(1).peekable();
    while let Some((at, _)) = quotes.next() {
        // Two of them are one in the text.
        if quotes.next_if(|(next, _)| *next == at + 1).is_none() {
            return at + 1;
        }
    }
    text.len()
}

/// Puts values into a statement in the place of its parameters.
fn with_values(statement: &str, values: &[String]) -> String {
    let mut parts = statement.split('$');
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.find(|character: char| !character.is_ascii_digit()).unwrap_or(part.len());
        let (number, rest) = part.split_at(digits);
        match number.parse::<usize>().ok().and_then(|number| values.get(number.checked_sub(1)?)) {
            Some(value) => whole.push_str(value),
            None => whole.extend(["$", number]),
        }
        whole.push_str(rest);
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "LOG:  database system is ready to accept connections\n\
        LOG:  statement: BEGIN\n\
        LOG:  execute <unnamed>: INSERT INTO vm (id, name, at, pid)\n\
        \tVALUES ($1, $2, $3, $4)\n\
        DETAIL:  parameters: $1 = '1-2', $2 = 'b', $3 = 'it''s, $1 = ''b''', $4 = NULL\n\
        LOG:  execute <unnamed>: SELECT $$x$$, pg_notify('maqet_event', '')\n\
        LOG:  statement: COMMIT\n";

    #[test]
    fn test_script_executes_what_was_logged_for_another_vm() {
        let script = script(LOG, "1-2", "b").unwrap();

        assert_eq!(
            script,
            "\\set number random(1, 1000000000000)\n\
            BEGIN;\n\
            INSERT INTO vm (id, name, at, pid)\n\
            VALUES (md5(:number::text)::uuid, ('vm-' || :number), 'it''s, $1 = ''b''', NULL);\n\
            SELECT $$x$$, pg_notify('maqet_event', '');\n\
            COMMIT;\n"
        );
    }

    #[test]
    fn test_script_without_the_vm_is_an_error() {
        assert!(script(LOG, "3-4", "b").is_err());
        assert!(script("", "1-2", "b").is_err());
    }
}
