//! The commands of guides, in the order of the page.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use maqet_testkit::TestHome;
use maqet_testkit::guest::paused_yaml;
use maqet_testkit::postgres::PostgresServer;

/// Runs the commands of a page.
struct Shell<'a> {
    home: &'a TestHome,
    /// More variables.
    variables: Vec<(&'a str, String)>,
}

impl<'a> Shell<'a> {
    /// A shell that finds the binary under test as `maqet`.
    fn new(home: &'a TestHome) -> Self {
        fs::create_dir(home.path("bin")).unwrap();
        symlink(home.maqet([""; 0]).into_command().get_program(), home.path("bin/maqet")).unwrap();
        Self { home, variables: Vec::new() }
    }

    /// Runs a line, and returns what it printed.
    #[track_caller]
    fn run(&self, line: &str) -> String {
        let path = format!("{}:{}", self.home.path("bin").display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).current_dir(self.home.root()).stdin(Stdio::null());
        shell.env_clear().envs(self.home.environment()).env("PATH", &path).env("HOME", self.home.root());
        let done = shell.envs(self.variables.iter().map(|(name, value)| (name, value))).output().unwrap();
        assert!(done.status.success(), "{line}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    /// Runs all commands of a page; `adapt` changes a line, or leaves it out. Returns the commands of maqet that ran.
    #[track_caller]
    fn run_all(&self, page: &str, adapt: impl Fn(&str) -> Option<String>) -> BTreeSet<String> {
        let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
        let lines: Vec<String> = blocks.flat_map(str::lines).filter_map(adapt).collect();
        for line in &lines {
            self.run(line);
        }
        let words = lines.iter().map(|line| line.split(' ').skip_while(|word| *word != "maqet").nth(1));
        words.flatten().map(str::to_owned).collect()
    }
}

#[test]
fn test_commands_of_the_guide_on_undo_work() {
    let home = TestHome::new();
    home.add(&paused_yaml("web"));
    home.json(&["apply", "web", "--set", "labels.role=new"]);

    let ran = Shell::new(&home).run_all(include_str!("../../../docs/guide/undo.md"), |line| Some(line.to_owned()));

    assert_eq!(ran, ["apply", "history", "redo", "undo"].map(str::to_owned).into());
    assert!(home.maqet(["history"]).run().ok().stdout.contains("took back"));
}

#[test]
fn test_commands_of_the_guide_on_metrics_work() {
    let home = TestHome::new();
    home.add(&paused_yaml("web"));
    let folder = home.root().to_str().unwrap().to_owned();

    let ran = Shell::new(&home).run_all(include_str!("../../../docs/guide/metrics.md"), |line| {
        let line = line.replace("/var/lib/prometheus/node-exporter", &folder);
        // The binary of the tests may have been built without the feature, and sends nothing then.
        (!line.starts_with("cargo ")).then_some(line)
    });

    assert!(ran.contains("metrics"), "{ran:?}");
    assert!(fs::read_to_string(home.path("maqet.prom")).unwrap().contains("maqet_database_up 1"));
    assert!(fs::read_to_string(home.path("maqet.log")).unwrap().contains("\"start\""));
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_commands_of_the_guide_on_shared_hosts_work() {
    let server = PostgresServer::start_on_tcp("");
    let address = server.tcp();
    let home = TestHome::new();
    home.add(&paused_yaml("web"));
    let mut shell = Shell::new(&home);
    // Of the administrator, who is `maqet` on a server of the tests.
    let admin = [("PGHOST", "127.0.0.1"), ("PGPORT", address.rsplit(':').next().unwrap()), ("PGUSER", "maqet")];
    shell.variables.extend(admin.map(|(name, value)| (name, value.to_owned())));
    let folder = home.root().to_str().unwrap().to_owned();
    let adapt = |text: &str| {
        text.replace(
            "postgres://maqet@db.example/maqet?sslmode=verify-full",
            &format!("postgres://guide@{address}/guide"),
        )
        .replace("db.example:5432:maqet:maqet:", &format!("{address}:guide:guide:"))
        .replace("--owner maqet maqet", "--owner guide guide")
        .replace("--if-exists maqet", "--if-exists guide")
        .replace("maqet.dump maqet", "maqet.dump guide")
        .replace("createuser --pwprompt maqet", "printf 'PASSWORD\\nPASSWORD\\n' | createuser --pwprompt guide")
        .replace("/var/lib/prometheus/node-exporter", &folder)
        // It never ends.
        .replace(" --follow", "")
    };
    let page = include_str!("../../../docs/guide/shared-hosts.md");
    let (set_up, rest) = page
        .split_once("The first command creates the tables.")
        .or_else(|| page.split_once("If you have VMs already"))
        .unwrap();

    shell.run_all(set_up, |line| Some(adapt(line)));
    shell.run(&adapt("maqet database move --to 'postgres://maqet@db.example/maqet?sslmode=verify-full'"));
    let settings = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    // The name of a host is that under which the VM was added.
    let settings: String = settings.filter(|block| block.starts_with("database:")).map(adapt).collect();
    home.write("config/maqet/maqet.conf", settings);
    // There is no other host, and no database is lost; `hosts` and `databases_moved` test that.
    let is_elsewhere = |line: &str| line.starts_with("maqet host evict ") || line.contains("--database old.db ");
    let ran = shell.run_all(rest, |line| (!is_elsewhere(line)).then(|| adapt(line)));

    assert!(ran.len() >= 7, "{ran:?}");
    assert!(home.path("maqet.dump").exists() && home.path("maqet-backup.db").exists());
    assert_eq!(home.json(&["ls"])[0]["name"], "web");
    assert!(home.maqet(["config", "show"]).run().ok().stdout.contains(&address));
}

/// The service and the job of the guide on VMs that outlive a shell: the tools that read them find nothing wrong.
#[test]
fn test_files_of_the_guide_on_services_are_valid() {
    let page = include_str!("../../../docs/guide/after-logout.md");
    let block = |start: &str| page.split(start).nth(1).unwrap().split("```").next().unwrap();
    let home = TestHome::new();
    let maqet = home.maqet([""; 0]).into_command().get_program().to_owned();
    let unit = block("```ini\n").replace("%h/.cargo/bin/maqet", &maqet.to_string_lossy());
    let file = home.write("vm-web.service", unit);
    let job =
        home.write("job.sh", block("A Slurm job that boots a VM and lets it work until it powers off:\n\n```sh\n"));

    let syntax = Command::new("sh").arg("-n").arg(job).output().unwrap();
    assert!(syntax.status.success(), "{syntax:?}");
    match Command::new("systemd-analyze").args(["verify"]).arg(&file).env("HOME", home.root()).output() {
        // Unknown keys are printed, with exit code 0.
        Ok(verified) => assert_eq!(String::from_utf8_lossy(&verified.stderr), "", "{verified:?}"),
        Err(error) => eprintln!("SKIPPED: the unit is not verified, as systemd-analyze cannot be run: {error}"),
    }
}

#[test]
fn test_commands_of_the_guide_on_checkpoints_work() {
    let home = TestHome::new();
    home.add(&(paused_yaml("web") + "storage: [{name: hdd, size: 4M}]\n"));
    home.json(&["start", "web"]);
    home.json(&["resume", "web"]);

    let ran =
        Shell::new(&home).run_all(include_str!("../../../docs/guide/checkpoints.md"), |line| Some(line.to_owned()));

    assert_eq!(ran, ["checkpoint"].map(str::to_owned).into());
    assert_eq!(home.json(&["checkpoint", "ls"])["checkpoints"], serde_json::json!([]));
    home.json(&["stop", "web", "--force"]);
}
