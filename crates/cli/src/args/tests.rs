use clap::CommandFactory;

use super::*;

#[test]
fn test_arguments_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn test_arguments_qmp_short_and_long_form_say_the_same() {
    let short = Cli::try_parse_from(["maqet", "qmp", "web", "query-status"]).unwrap();
    let long = Cli::try_parse_from(["maqet", "qmp", "run", "web", "query-status"]).unwrap();

    let Command::Qmp(QmpArgs { command: None, run: Some(short) }) = short.command else { panic!("{short:?}") };
    let Command::Qmp(QmpArgs { command: Some(QmpSubcommand::Run(long)), .. }) = long.command else {
        panic!("{long:?}")
    };
    assert_eq!((short.vm, short.command), (long.vm, long.command));
}

#[test]
fn test_arguments_read_by_one_command_are_what_all_commands_read() {
    let told = |result: Result<Cli, clap::Error>| match result {
        Ok(arguments) => format!("{arguments:?}"),
        Err(error) => error.to_string(),
    };
    let environment = Environment::default();
    for line in [
        "",
        "ls",
        "list --format json",
        "--format json ls",
        "--format ls ls",
        "--config status ls -q",
        "--config status status web",
        "--config status",
        "-v stop web --force -v",
        "--data-dir=/d qmp web query-status",
        "qmp run web query-status a.b=c",
        "qmp nothing",
        "qmp",
        "qmp --help",
        "qmp keys --help",
        "qmp help",
        "qmp help run",
        "qmp help query-status",
        "qmp help run web",
        "qmp -q help run",
        "qmp --timeout 5s help run",
        "qmp web help",
        "qmp run help help",
        "snapshot help create",
        "qmp web run",
        "qmp keys web ctrl-c --hold 5ms -q",
        "qmp --timeout 5s run web query-status",
        "qmp --timeout 5s web query-status --format json",
        "qmp device-add web virtio-net-pci id=a",
        "qmp device-ad web virtio-net-pci",
        "qmp run web",
        "snapshot create web hdd one",
        "snapshot web create",
        "help ls",
        "ls --help",
        "--version",
        "sttus web",
        "status",
        "stop web --frce",
        "-- ls",
        "- ls",
        "ls status",
    ] {
        let words: Vec<OsString> = ["maqet"].into_iter().chain(line.split_whitespace()).map(OsString::from).collect();

        let by_all = Cli::parsed(Cli::command(), &words, &environment);
        assert_eq!(told(Cli::read(&words, &environment)), told(by_all), "{line}");
    }
    let named = |line: &str| Cli::about_one(&line.split(' ').map(OsString::from).collect::<Vec<_>>()).is_some();
    assert_eq!(["maqet -v list", "maqet --help", "maqet sttus web"].map(named), [true, false, false]);
}

#[test]
fn test_arguments_command_of_another_one_is_told_with_its_place() {
    let told = Cli::elsewhere;

    assert_eq!(told("device-add").as_deref(), Some("write `maqet qmp device-add`"));
    assert_eq!(told("create").as_deref(), Some("write `maqet snapshot create`"));
    assert_eq!(told("schema").as_deref(), Some("write `maqet config schema`"));
    assert_eq!(told("frobnicate"), None);
}

/// Commands that are another one under another path.
const SHORT_FORMS: [(&str, &str); 5] = [
    ("keys", "qmp.keys"),
    ("type", "qmp.type"),
    ("screenshot", "qmp.screendump"),
    ("qmp.pause", "pause"),
    ("qmp.resume", "resume"),
];

#[test]
fn test_arguments_short_forms_take_the_arguments_of_what_they_stand_for() {
    let told = |path: &str| {
        let command = path.split('.').fold(whole_tree(), |command, name| {
            command.find_subcommand(name).unwrap_or_else(|| panic!("there is no `{path}`")).clone()
        });
        let arguments: Vec<String> = command.get_arguments().map(|one| format!("{one:?}")).collect();
        (command.get_long_about().or(command.get_about()).map(ToString::to_string), arguments)
    };
    for (short, long) in SHORT_FORMS {
        assert_eq!(told(short), told(long), "{short}");
        assert!(told(short).0.is_some(), "{short}");
    }

    let long = Cli::try_parse_from(["maqet", "qmp", "keys", "web", "ctrl-c", "-"]).unwrap();
    let short = Cli::try_parse_from(["maqet", "keys", "web", "ctrl-c", "-"]).unwrap();
    let Command::Qmp(QmpArgs { command: Some(QmpSubcommand::Keys(long)), .. }) = long.command else {
        panic!("{long:?}")
    };
    let Command::Keys(short) = short.command else { panic!("{short:?}") };
    assert_eq!((short.vm, short.chords), (long.vm, long.chords));
}

/// A command's words stand twice: in the list, before its arguments are built, and with its arguments.
#[test]
fn test_arguments_words_in_the_list_are_those_of_the_command() {
    fn compare(listed: &clap::Command, built: &clap::Command, path: &str) {
        assert!(listed.get_about().is_some(), "`{path}` has no words in the list of commands");
        assert_eq!(
            listed.get_about().map(ToString::to_string),
            built.get_about().map(ToString::to_string),
            "`{path}` has other words in the list of commands than in its own help"
        );
        let mut listed = listed.clone();
        // Builds this command, and leaves those below it as they are listed; to find what is near to a wrong flag, clap
        // would build them, too.
        let _ = listed.try_get_matches_from_mut([path, "--help"]);
        for below in built.get_subcommands().filter(|below| below.get_name() != "help") {
            let name = below.get_name();
            let of_list = listed.find_subcommand(name).unwrap_or_else(|| panic!("`{path}` lists no `{name}`"));
            compare(of_list, below, &format!("{path} {name}"));
        }
    }
    compare(&Cli::command(), &whole_tree(), "maqet");
}

/// Returns the tree of commands with the arguments of all, which a run builds for one command only.
fn whole_tree() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    command
}

/// Commands that are a conversation, which has no arguments that say it all; programs have `App::qmp_shell`.
const CONVERSATIONS: [&str; 1] = ["qmp.shell"];

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
    let mut paths = leaves(&whole_tree(), "");
    paths.retain(|path| !SHORT_FORMS.iter().any(|(short, _)| short == path) && !CONVERSATIONS.contains(&path.as_str()));
    let mut names = maqet::operation::table().names();
    paths.sort_unstable();
    names.sort_unstable();

    assert_eq!(paths, names);
}

/// Returns the help of every command as one page.
fn reference() -> String {
    let mut page = "# The command line\n\nWritten by `UPDATE_DOCS=1 cargo test -p maqet-cli`.\n".to_owned();
    let mut command = Cli::command().term_width(100);
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
