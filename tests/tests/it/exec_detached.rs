//! Detached commands in a real Debian guest.

use crate::debian::Booted;

#[test]
fn test_detached_command_is_listed_followed_and_stopped() {
    let booted = Booted::get();
    let _turn = booted.turn();
    output_and_exit_code_are_kept_for_those_who_attach(&booted);
    stop_ends_the_command_and_all_it_started(&booted);
    what_cannot_run_is_refused(&booted);
}

fn detach(booted: &Booted, script: &str) -> String {
    booted.exec(["--detach", "--", "sh", "-c", script]).run().ok().stdout.trim().to_owned()
}

fn attach(booted: &Booted, id: &str) -> maqet_testkit::Maqet {
    booted.0.maqet(["exec", "attach", "deb", id])
}

/// Returns the state and the exit code of a command, as `exec ls` says.
fn state(booted: &Booted, id: &str) -> (String, Option<u64>) {
    let listed = booted.0.json(&["exec", "ls", "deb"]);
    let mut commands = listed.as_array().unwrap().iter();
    let command = commands.find(|command| command["id"].as_str().unwrap().starts_with(id)).unwrap();
    (command["state"].as_str().unwrap().to_owned(), command["exit_code"].as_u64())
}

fn output_and_exit_code_are_kept_for_those_who_attach(booted: &Booted) {
    let script = "echo first; echo apart >&2; until [ -e /run/go ]; do sleep 0.1; done; echo last; exit 7";
    let id = detach(booted, script);

    assert_eq!(state(booted, &id), ("running".to_owned(), None));
    let running = attach(booted, &id[..8]).spawn();
    booted.shell("touch /run/go").ok();
    let followed = running.wait();
    let again = attach(booted, &id).run();

    assert_eq!((followed.code, followed.stdout.as_str()), (Some(7), "first\nlast\n"), "{}", followed.stderr);
    assert_eq!((again.code, again.stdout.as_str(), again.stderr.as_str()), (Some(7), "first\nlast\n", "apart\n"));
    assert_eq!(state(booted, &id), ("exited".to_owned(), Some(7)));
}

fn stop_ends_the_command_and_all_it_started(booted: &Booted) {
    let polite = detach(booted, "trap 'echo ending; exit 3' TERM; touch /run/polite; sleep 986 & wait");
    let stubborn = detach(booted, "trap '' TERM; touch /run/stubborn; sleep 986; sleep 986");
    // Without its trap, a command is killed by the signal.
    let are_ready = "until [ -e /run/polite ] && [ -e /run/stubborn ]; do sleep 0.1; done";
    booted.exec(["--timeout", "60s", "--", "sh", "-c", are_ready]).run().ok();
    let stop = |id: &str, more: &[&str]| booted.0.maqet(["exec", "stop", "deb", id]).args(more).run().ok().stdout;

    assert_eq!(stop(&polite, &[]), format!("stopped `{polite}` (exit code 3)\n"));
    assert_eq!(stop(&polite, &[]), format!("had ended already: `{polite}` (exit code 3)\n"));
    assert_eq!(stop(&stubborn, &["--kill-after", "1s"]), format!("stopped `{stubborn}` (killed)\n"));
    assert_eq!(attach(booted, &polite).run().stdout, "ending\n");
    assert_eq!(attach(booted, &stubborn).run().code, Some(137));
    let left = booted.shell("grep -ls '^sleep.986' /proc/[0-9]*/cmdline | wc -l");
    assert_eq!(left.stdout, "0\n");
}

fn what_cannot_run_is_refused(booted: &Booted) {
    let missing = booted.exec(["--detach", "--", "nope"]).run();
    let unknown = attach(booted, "nope").env("MAQET_FORMAT", "json").run();

    assert_eq!((missing.code, missing.stdout.as_str()), (Some(127), ""));
    assert_eq!(
        (unknown.json_error()["error"]["code"].as_str(), unknown.code),
        (Some("guest.command-not-found"), Some(125))
    );
}
