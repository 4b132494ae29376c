use super::*;

/// Parses with the definition of all commands.
fn parse(argv: &[&str]) -> Command {
    let argv: Vec<OsString> = argv.iter().map(OsString::from).collect();
    Cli::parse_with(Cli::definition(&Environment::default()), &argv).unwrap().command
}

/// Returns the definition of all commands, as clap completes it.
fn built_definition() -> clap::Command {
    let mut definition = Cli::definition(&Environment::default());
    definition.build();
    definition
}

#[test]
fn test_definition_is_valid() {
    Cli::definition(&Environment::default()).debug_assert();
}

#[test]
fn test_qmp_short_and_long_form_are_equal() {
    let short = parse(&["maqet", "qmp", "web", "query-status"]);
    let long = parse(&["maqet", "qmp", "run", "web", "query-status"]);

    let Command::Qmp(QmpArgs { command: None, run: Some(short) }) = short else { panic!("{short:?}") };
    let Command::Qmp(QmpArgs { command: Some(QmpSubcommand::Run(long)), .. }) = long else { panic!("{long:?}") };
    assert_eq!((short.vm, short.command), (long.vm, long.command));
}

#[test]
fn test_definitions_of_single_commands_are_complete() {
    fn names(definition: &clap::Command) -> Vec<&str> {
        definition.get_subcommands().map(clap::Command::get_name).collect()
    }
    let whole = Cli::definition(&Environment::default());
    let qmp = whole.find_subcommand("qmp").unwrap();

    assert_eq!(DEFINITIONS.map(|(name, _)| name), *names(&whole));
    assert_eq!(qmp::DEFINITIONS.map(|(name, _)| name), *names(qmp));
}

#[test]
fn test_list_of_commands_equals_the_help_of_each() {
    let line = |command: &clap::Command| {
        let aliases: Vec<&str> = command.get_visible_aliases().collect();
        (command.get_name().to_owned(), command.get_about().map(ToString::to_string), aliases.join(" "))
    };
    let whole = Cli::definition(&Environment::default());
    let short = Cli::definition_of_none(&Environment::default());

    assert_eq!(
        short.get_subcommands().map(line).collect::<Vec<_>>(),
        whole.get_subcommands().map(line).collect::<Vec<_>>()
    );
}

#[test]
fn test_parse_with_one_command_equals_parse_with_all() {
    let outcome = |result: Result<Cli, clap::Error>| match result {
        Ok(cli) => format!("{cli:?}"),
        Err(error) => error.to_string(),
    };
    let environment = Environment::default();
    for line in [
        "",
        "--help",
        "-h",
        "-q --version",
        "--frce",
        "--format json --help",
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
        "exec ls web",
        "exec ls -- true",
        "exec web -t -- ls",
        "exec web ls",
        "exec --timeout 5s ls web",
        "exec attach web",
        "exec help stop",
        "exec",
        "qmp run help help",
        "snapshot help create",
        "qmp web run",
        "qmp keys web ctrl-c --hold 5ms -q",
        "qmp --timeout 5s run web query-status",
        "qmp --timeout 5s web query-status --format json",
        "qmp device-add web virtio-net-pci id=a",
        "qmp device-ad web virtio-net-pci",
        "qmp run web",
        "snapshot",
        "snapshot create web hdd one",
        "snapshot web create",
        "config help",
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
        let argv: Vec<OsString> = ["maqet"].into_iter().chain(line.split_whitespace()).map(OsString::from).collect();

        let with_all = Cli::parse_with(Cli::definition(&environment), &argv);
        assert_eq!(outcome(Cli::parse(&argv, &environment)), outcome(with_all), "{line}");
    }
}

#[test]
fn test_parse_builds_one_command_if_arguments_name_it() {
    let is_alone = |line: &str| {
        let argv: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        Cli::definition_of_one(&argv, &Environment::default()).is_some()
    };

    assert_eq!(["maqet -v ls", "maqet --help", "maqet sttus web"].map(is_alone), [true, false, false]);
}

#[test]
fn test_suggestion_for_nested_command_has_its_path() {
    let nested = suggest::nested;

    assert_eq!(nested("device-add").as_deref(), Some("qmp device-add"));
    assert_eq!(nested("create").as_deref(), Some("snapshot create"));
    assert_eq!(nested("schema").as_deref(), Some("config schema"));
    assert_eq!(nested("frobnicate"), None);
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
fn test_short_forms_equal_their_long_forms() {
    let help_and_arguments = |path: &str| {
        let command = path.split('.').fold(built_definition(), |command, name| {
            command.find_subcommand(name).unwrap_or_else(|| panic!("no command `{path}`")).clone()
        });
        let arguments: Vec<String> = command.get_arguments().map(|argument| format!("{argument:?}")).collect();
        (command.get_long_about().or(command.get_about()).map(ToString::to_string), arguments)
    };
    for (short, long) in SHORT_FORMS {
        assert_eq!(help_and_arguments(short), help_and_arguments(long), "{short}");
    }

    let Command::Keys(short) = parse(&["maqet", "keys", "web", "ctrl-c", "-"]) else { panic!() };
    let long = parse(&["maqet", "qmp", "keys", "web", "ctrl-c", "-"]);
    let Command::Qmp(QmpArgs { command: Some(QmpSubcommand::Keys(long)), .. }) = long else { panic!("{long:?}") };
    assert_eq!((short.vm, short.chords), (long.vm, long.chords));
}

#[test]
fn test_every_command_and_option_has_help() {
    fn check(command: &clap::Command, path: &str) {
        assert!(command.get_about().is_some(), "`{path}` has no help");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "`{}` of `{path}` has no help", argument.get_id());
        }
        command.get_subcommands().for_each(|sub| check(sub, &format!("{path} {}", sub.get_name())));
    }
    check(&Cli::definition(&Environment::default()), "maqet");
}

/// Commands that are a session and not an operation; programs have `App::qmp_shell`, and `Exec` on a terminal.
const SESSIONS: [&str; 2] = ["qmp.shell", "shell"];

/// Commands that are an operation, and have sub-commands that are others.
const WITH_OPERATIONS_BELOW: [&str; 1] = [".exec"];

/// Returns the paths of all commands that are operations, with dots between: of all without sub-commands, and a few others.
fn leaves(command: &clap::Command, path: &str) -> Vec<String> {
    let mut below: Vec<String> =
        command.get_subcommands().flat_map(|sub| leaves(sub, &format!("{path}.{}", sub.get_name()))).collect();
    if WITH_OPERATIONS_BELOW.contains(&path) {
        below.push(path.trim_start_matches('.').to_owned());
    }
    if below.is_empty() { vec![path.trim_start_matches('.').to_owned()] } else { below }
}

#[test]
fn test_command_paths_equal_operation_names() {
    let mut paths = leaves(&Cli::definition(&Environment::default()), "");
    paths.retain(|path| !SHORT_FORMS.iter().any(|(short, _)| short == path) && !SESSIONS.contains(&path.as_str()));
    let mut names = maqet::operation::table().unwrap().names();
    paths.sort_unstable();
    names.sort_unstable();

    assert_eq!(paths, names);
}

/// Returns the help of every command as one page; the global options only at the top.
fn reference() -> String {
    let mut page =
        "# The command line\n\nWritten by `UPDATE_DOCS=1 cargo test -p maqet-cli`. Every command also takes \
                    the global options of `maqet`.\n"
            .to_owned();
    let mut definition = Cli::definition(&Environment::default()).term_width(100);
    definition.build();
    describe(&mut definition, &mut page);
    page
}

fn describe(command: &mut clap::Command, page: &mut String) {
    use std::fmt::Write;

    let name = command.get_bin_name().unwrap_or("maqet").to_owned();
    if name != "maqet" {
        *command = command.clone().mut_args(|arg| {
            let is_common = arg.is_global_set() || arg.get_id() == "help";
            arg.hide(is_common)
        });
    }
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    write!(page, "\n## `{name}`\n\n```text\n{}\n```\n", lines.join("\n").trim_end()).unwrap();
    for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
        describe(sub, page);
    }
}

#[test]
fn test_help_equals_the_reference_page() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/cli.md");
    let expected = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &expected).unwrap();
    }

    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == expected, "docs/reference/cli.md is stale; run `UPDATE_DOCS=1 cargo test -p maqet-cli`");
}
