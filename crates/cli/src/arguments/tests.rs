use clap::CommandFactory;

use super::*;

#[test]
fn test_arguments_definition_is_sound() {
    Arguments::command().debug_assert();
}

#[test]
fn test_arguments_qmp_short_and_long_form_say_the_same() {
    let short = Arguments::try_parse_from(["maqet", "qmp", "web", "query-status"]).unwrap();
    let long = Arguments::try_parse_from(["maqet", "qmp", "run", "web", "query-status"]).unwrap();

    let Command::Qmp(Qmp { command: None, run: Some(short) }) = short.command else { panic!("{short:?}") };
    let Command::Qmp(Qmp { command: Some(QmpCommand::Run(long)), .. }) = long.command else { panic!("{long:?}") };
    assert_eq!((short.vm, short.command), (long.vm, long.command));
}

/// Returns the leaves of the tree of commands, with dots between.
fn leaves(command: &clap::Command, path: &str) -> Vec<String> {
    let below: Vec<String> = command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help")
        .flat_map(|sub| leaves(sub, &format!("{path}.{}", sub.get_name())))
        .collect();
    if below.is_empty() { vec![path.trim_start_matches('.').to_owned()] } else { below }
}

#[test]
fn test_arguments_paths_equal_the_names_of_operations() {
    let mut paths = leaves(&Arguments::command(), "");
    let mut names = maqet::operation::table().names();
    paths.sort_unstable();
    names.sort_unstable();

    assert_eq!(paths, names);
}

/// Returns the help of every command as one page.
fn reference() -> String {
    let mut page = "# The command line\n\nWritten by `UPDATE_DOCS=1 cargo test -p maqet-cli`.\n".to_owned();
    let mut command = Arguments::command().term_width(100);
    command.build();
    describe(&mut command, &mut page);
    page
}

fn describe(command: &mut clap::Command, page: &mut String) {
    use std::fmt::Write;

    let name = command.get_bin_name().unwrap_or("maqet").to_owned();
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    write!(page, "\n## `{name}`\n\n```text\n{}\n```\n", lines.join("\n").trim_end()).unwrap();
    for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
        describe(sub, page);
    }
}

#[test]
fn test_arguments_help_equals_the_reference_page() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/cli.md");
    let expected = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &expected).unwrap();
    }

    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == expected, "docs/reference/cli.md is old; write it with `UPDATE_DOCS=1 cargo test -p maqet-cli`");
}
