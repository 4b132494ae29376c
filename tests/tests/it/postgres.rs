//! The command line on a PostgreSQL server.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use maqet_testkit::TestHome;
use maqet_testkit::guest::paused_yaml;
use maqet_testkit::postgres::{PASSWORD, PASSWORD_ROLE, PostgresSchema, server};
use maqet_testkit::wait::{LONG, until};
use maqet_testkit::{Finished, Maqet};

/// A host of its own, with a schema of the server as its database.
pub(crate) struct Host {
    pub(crate) home: TestHome,
    url: String,
    name: &'static str,
}

impl Host {
    pub(crate) fn new(name: &'static str, schema: &PostgresSchema) -> Self {
        Self { home: TestHome::new(), url: schema.url.clone(), name }
    }

    pub(crate) fn maqet<const N: usize>(&self, arguments: [&str; N]) -> Maqet {
        self.any(&arguments)
    }

    pub(crate) fn any(&self, arguments: &[&str]) -> Maqet {
        self.home.maqet(arguments).env("MAQET_DATABASE", &self.url).env("MAQET_HOST", self.name)
    }

    #[track_caller]
    pub(crate) fn ok<const N: usize>(&self, arguments: [&str; N]) -> Finished {
        self.maqet(arguments).run().ok()
    }

    #[track_caller]
    pub(crate) fn add(&self, name: &str) {
        let file = self.home.write(format!("{name}.yaml"), paused_yaml(name));
        self.ok(["add", file.to_str().unwrap()]);
    }
}

#[test]
fn test_postgres_vm_lives_from_add_to_rm() {
    let server = server();
    let host = Host::new("a", &server.schema());

    host.add("web");
    host.ok(["start", "web"]);
    let status = host.maqet(["status", "web", "--format", "json"]).run().ok().json_value();
    host.ok(["doctor"]);
    host.ok(["stop", "--force", "web"]);
    let events = host.ok(["events", "web"]).stdout;
    host.ok(["rm", "web"]);

    assert_eq!(status["status"], "paused");
    for kind in ["vm.defined", "vm.started", "vm.stopped"] {
        assert!(events.contains(kind), "{kind}: {events}");
    }
    assert_eq!(host.ok(["ls", "--format", "json"]).stdout.trim(), "[]");
    assert!(!host.home.data().join("maqet.db").exists());
}

/// A server can be far away.
#[test]
fn test_postgres_doctor_asks_as_often_for_many_vms_as_for_one() {
    let server = server();
    let schema = server.schema();
    let url = schema.url.replace("options=", "options=-clog_statement%3Dall%20");
    let host = Host::new("a", &PostgresSchema { url, ..schema });
    let asked = || {
        let before = server.messages().len();
        host.ok(["doctor"]);
        let messages = server.messages();
        let executed =
            messages[before..].lines().filter_map(|line| Some(line.split_once("LOG:  execute ")?.1.to_owned()));
        executed.collect::<Vec<String>>()
    };

    host.add("vm-1");
    let of_one = asked();
    for number in 2..6 {
        host.add(&format!("vm-{number}"));
    }

    assert_eq!(asked(), of_one);
    assert!(!of_one.is_empty());
}

#[test]
fn test_postgres_hosts_do_not_touch_each_others_vms() {
    let server = server();
    let schema = server.schema();
    let (here, there) = (Host::new("a", &schema), Host::new("b", &schema));
    here.add("web");
    here.ok(["start", "web"]);

    let refused = there.maqet(["start", "web"]).run().code(4);
    there.add("web");
    there.ok(["start", "web"]);
    there.ok(["stop", "--all", "--force"]);
    there.ok(["doctor", "--fix"]);
    there.ok(["cleanup"]);

    assert!(refused.stderr.starts_with("error: VM `web` belongs to user `"), "{}", refused.stderr);
    assert!(refused.stderr.contains("` of host `a`\n"), "{}", refused.stderr);
    let status = here.maqet(["status", "web", "--format", "json"]).run().ok().json_value();
    assert_eq!(status["status"], "paused");
    assert_eq!(here.home.processes().iter().filter(|process| process.is_qemu()).count(), 1);
    here.ok(["stop", "--force", "web"]);
}

#[test]
fn test_postgres_list_shows_the_vms_of_other_hosts() {
    let server = server();
    let schema = server.schema();
    let (here, there) = (Host::new("a", &schema), Host::new("b", &schema));
    here.add("web");
    here.ok(["start", "web"]);
    there.add("db");
    let listed = |arguments| {
        let list = there.ok(arguments).json_value();
        let texts = |vm: &serde_json::Value| ["host", "name", "status"].map(|key| vm[key].as_str().map(str::to_owned));
        list.as_array().unwrap().iter().map(texts).collect::<Vec<_>>()
    };
    let vm = |host: &str, name: &str, status: &str| [host, name, status].map(|text| Some(text.to_owned()));

    let own = there.ok(["ls", "--format", "json"]).json_value();
    let all = listed(["ls", "--host", "*", "--format", "json"]);
    let others = listed(["ls", "--host", "a", "--format", "json"]);
    let none = listed(["ls", "--owner", "no-such-user", "--format", "json"]);
    let table = there.ok(["ls", "--host", "*"]).stdout;
    here.ok(["stop", "--force", "web"]);

    assert_eq!(own.as_array().map(Vec::len), Some(1));
    assert_eq!(own[0].get("host"), None);
    assert_eq!(all, [vm("b", "db", "defined"), vm("a", "web", "running")]);
    assert_eq!(others, [vm("a", "web", "running")]);
    assert_eq!(none, Vec::<[Option<String>; 3]>::new());
    assert!(table.lines().next().is_some_and(|line| line.ends_with("HOST  OWNER")), "{table}");
}

#[test]
fn test_postgres_events_reach_other_hosts_at_once() {
    let server = server();
    let schema = server.schema();
    let (here, there) = (Host::new("a", &schema), Host::new("b", &schema));
    here.add("web");
    let arguments = ["events", "--follow", "--since", "0s", "--type", "vm.defined", "--format", "json"];
    // Of a role of its own: other tests use the server, too.
    let role = format!("follower_{}", schema.name);
    server.query(&format!("CREATE ROLE {role} LOGIN SUPERUSER"));
    let url = schema.url.replace("user=maqet", &format!("user={role}"));
    let follower = there.maqet(arguments).env("MAQET_DATABASE", url).into_command().stdout(Stdio::piped()).spawn();
    let mut follower = follower.unwrap();
    // Follows once it has asked the server again and again without news.
    until(LONG, "the follower", || {
        // What a connection asks once it listens.
        let listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT current_schema()%'";
        (server.query(&format!("{listening} AND usename = '{role}'")) != "0").then_some(())
    });

    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut delay = |name: String| {
        here.add(&name);
        let line = lines.next().unwrap();
        let seen = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let recorded: i64 = server.query(&format!("SELECT max(at) FROM {}.event", schema.name)).parse().unwrap();
        assert!(line.contains(&format!("\"vm\":\"{name}\"")) && line.contains("\"host\":\"a\""), "{line}");
        seen.saturating_sub(recorded.unsigned_abs().into()) / 1_000_000
    };
    // Another load of the machine may delay one of them, and all of a moment.
    let is_soon = (0..6).any(|round| {
        let mut took: Vec<u128> = (0..5).map(|number| delay(format!("db{}", 5 * round + number))).collect();
        println!("events of another host were seen after {took:?} ms");
        took.sort_unstable();
        took[3] < 200
    });
    follower.kill().unwrap();
    follower.wait().unwrap();

    assert!(is_soon, "the events came late");
    assert!(there.ok(["events", "db0"]).stdout.contains("  host=a"));
}

#[test]
fn test_postgres_settings_file_password_is_never_shown() {
    let server = server();
    let schema = server.schema();
    let home = TestHome::new();
    let encoded = PASSWORD.bytes().map(|byte| format!("%{byte:02x}")).collect::<Vec<_>>().concat();
    let url = schema.url.replace("user=maqet", &format!("user={PASSWORD_ROLE}&password={encoded}"));
    home.write("config/maqet/maqet.conf", format!("database: '{url}'\n"));
    let yaml = home.write("web.yaml", paused_yaml("web"));

    let added = home.maqet(["-vvv", "add"]).arg(&yaml).run().ok();
    let shown = home.maqet(["config", "show", "--origin"]).run().ok();
    let checked = home.maqet(["-vvv", "doctor"]).run().ok();

    for output in [added, shown, checked] {
        let text = format!("{}{}", output.stdout, output.stderr);
        assert!(!text.contains(&encoded) && !text.contains(PASSWORD), "{text}");
    }
    assert_eq!(home.maqet(["ls", "--format", "json"]).run().ok().json_value()[0]["name"], "web");
}

#[test]
fn test_postgres_password_not_encoded_is_in_no_message() {
    let home = TestHome::new();

    for password in
        ["geh@im", "geh%im", "geh:im", "geh/im", "geh?im", "geh?i=m", "5/geh@im", "geh%zzim", "geh&im", "geh@im/x"]
    {
        for url in [
            format!("postgres://me:{password}@127.0.0.1:1/maqet"),
            format!("postgres://127.0.0.1:1/d?password={password}"),
        ] {
            for arguments in [&["ls"][..], &["config", "show", "--origin"], &["-vvv", "doctor"]] {
                let finished = home.maqet(arguments).args(["--database", &url]).run();
                let text = format!("{}{}", finished.stdout, finished.stderr);
                assert!(!text.contains("geh"), "{url}: {text}");
            }
        }
    }
}

#[test]
fn test_postgres_server_away_is_explained() {
    let home = TestHome::new();
    let url = format!("postgres:///maqet?host={}", home.root().display());

    let list = home.maqet(["ls", "--database", &url]).run().code(69);
    let help = home.maqet(["--help", "--database", &url]).run().ok();
    let invalid = home.maqet(["ls", "--database", "postgres://db/x?sslmode=maybe"]).run().code(2);

    assert!(list.stderr.starts_with("error: cannot reach database `postgres:///maqet?host="), "{}", list.stderr);
    assert!(list.stderr.contains("hint: check that the server runs"), "{}", list.stderr);
    assert!(help.stdout.contains("Usage"));
    assert!(invalid.stderr.contains("invalid database URL: `sslmode` is `maybe`"), "{}", invalid.stderr);
}

#[test]
fn test_postgres_tables_lost_are_rebuilt_from_copies() {
    let server = server();
    let schema = server.schema();
    let host = Host::new("a", &schema);
    host.add("web");
    host.ok(["start", "web"]);
    server.query(&format!("DROP SCHEMA {0} CASCADE; CREATE SCHEMA {0}", schema.name));

    let lost = host.maqet(["ls"]).run().code(1);
    host.ok(["doctor", "--fix"]);

    assert!(lost.stderr.contains("but copies of 1 of its VMs exist"), "{}", lost.stderr);
    let status = host.maqet(["status", "web", "--format", "json"]).run().ok().json_value();
    assert_eq!(status["status"], "paused");
    host.ok(["stop", "--force", "web"]);
}
