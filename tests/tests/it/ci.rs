//! The files of the guide on CI: tools that read them find nothing wrong, and those for GitLab do what its runner expects.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use maqet_testkit::TestHome;
use maqet_testkit::guest::{AfterMarker, BootSector};

use crate::debian::Booted;

/// The exit codes that GitLab's runner gives its programs.
const SYSTEM_FAILURE: i32 = 92;
const BUILD_FAILURE: i32 = 91;

fn guide(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide/ci").join(name)
}

fn content(name: &str) -> String {
    std::fs::read_to_string(guide(name)).unwrap()
}

/// Returns a shell that finds the binary under test as `maqet`, as GitLab's runner would start it for job 77.
fn shell(home: &TestHome, script: &Path) -> Command {
    let maqet = home.maqet([""; 0]).into_command().get_program().to_owned();
    let bin = home.path("bin");
    if std::fs::create_dir(&bin).is_ok() {
        std::os::unix::fs::symlink(maqet, bin.join("maqet")).unwrap();
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.arg(script).current_dir(home.root()).env_clear().envs(home.environment()).env("PATH", path);
    shell.env("CUSTOM_ENV_CI_JOB_ID", "77");
    shell.env("SYSTEM_FAILURE_EXIT_CODE", SYSTEM_FAILURE.to_string());
    shell.env("BUILD_FAILURE_EXIT_CODE", BUILD_FAILURE.to_string());
    shell
}

#[track_caller]
fn run(mut shell: Command) -> Output {
    shell.output().unwrap()
}

#[test]
fn test_files_of_the_guide_on_ci_are_valid() {
    let home = TestHome::new();
    for name in ["gitlab-prepare.sh", "gitlab-run.sh", "gitlab-cleanup.sh", "slurm-array.sh"] {
        let syntax = Command::new("sh").arg("-n").arg(guide(name)).output().unwrap();
        assert!(syntax.status.success(), "{name}: {syntax:?}");
        let checked = Command::new("shellcheck").arg(guide(name)).output();
        let checked = checked.expect("shellcheck is installed (`apt install shellcheck`)");
        assert!(checked.status.success(), "{name}: {}", String::from_utf8_lossy(&checked.stdout));
    }
    let maqet = home.maqet([""; 0]).into_command().get_program().to_string_lossy().into_owned();
    let unit = home.write("nightly.service", content("nightly.service").replace("/usr/local/bin/maqet", &maqet));
    match Command::new("systemd-analyze").args(["verify"]).arg(&unit).env("HOME", home.root()).output() {
        // It complains about other units of the host, too.
        Ok(verified) => {
            let complaints = String::from_utf8_lossy(&verified.stderr);
            let of_unit = complaints.lines().any(|line| line.contains("nightly.service"));
            assert!(verified.status.success() && !of_unit, "{verified:?}");
        }
        Err(error) => eprintln!("SKIPPED: the unit is not verified, as systemd-analyze cannot be run: {error}"),
    }
}

/// The command lines of `run` in the files are accepted: only the definition is missing.
#[test]
fn test_commands_in_the_files_of_the_guide_on_ci_are_accepted() {
    let home = TestHome::new();
    let workflow = content("github-actions.yaml");
    let step = workflow.split("run: >-").nth(1).unwrap().split("- name:").next().unwrap().replace('\n', " ");
    let unit = content("nightly.service");
    let service = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/")).unwrap();
    let guide = include_str!("../../../docs/guide/ci.md");
    let first = guide.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();

    for line in [&step, service, first] {
        let script = home.write("step.sh", format!("MAQET_FORMAT=json {}\n", line.trim()));
        let ran = run(shell(&home, &script));
        let errors = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.code() == Some(125) && errors.contains("\"config.unavailable\""), "{line}: {ran:?}");
    }
}

/// A VM that does not boot is a failure of the system, and cleanup removes what there is.
#[test]
fn test_gitlab_job_whose_vm_does_not_boot_leaves_nothing() {
    let home = TestHome::new();
    let image = BootSector::new("up", AfterMarker::Sleep).write(&home);
    home.write("definitions/default.yaml", BootSector::yaml("x", &image) + "storage: {name: data, size: 1M}\n");
    let prepare = || {
        let mut prepare = shell(&home, &guide("gitlab-prepare.sh"));
        prepare.env("MAQET_CI_DEFINITIONS", home.path("definitions")).env("MAQET_CI_BOOT_TIMEOUT", "0s");
        prepare
    };

    let started = run(prepare());
    let vms = home.json(&["ls"]);
    let cleaned = run(shell(&home, &guide("gitlab-cleanup.sh")));
    let again = run(shell(&home, &guide("gitlab-cleanup.sh")));
    let mut outside = prepare();
    outside.env("CUSTOM_ENV_CI_JOB_IMAGE", "../../etc/x");
    let outside = run(outside);

    assert_eq!(started.status.code(), Some(SYSTEM_FAILURE), "{started:?}");
    assert_eq!(vms[0]["name"], "gitlab-77");
    assert_eq!([cleaned.status.code(), again.status.code()], [Some(0), Some(0)], "{cleaned:?} {again:?}");
    assert_eq!(outside.status.code(), Some(SYSTEM_FAILURE), "{outside:?}");
    assert_eq!(
        (home.json(&["ls"]), home.json(&["storage", "trash", "ls"])),
        (serde_json::json!([]), serde_json::json!([]))
    );
    assert_eq!(home.qemu_pids(), [0; 0]);
}

/// The code of a script is that of the job; that of a VM which is gone is not.
#[test]
fn test_gitlab_job_has_the_code_of_its_script() {
    let booted = Booted::get();
    let _turn = booted.turn();
    let home = &booted.0;
    let script =
        |name: &str| home.write(name, content("gitlab-run.sh").replace("vm=gitlab-$CUSTOM_ENV_CI_JOB_ID", "vm=deb"));
    let stage = |job: &str| {
        let mut stage = shell(home, &script("gitlab-run.sh"));
        stage.arg(home.write("job.sh", job)).arg("build_script").env("BUILD_EXIT_CODE_FILE", home.path("code"));
        run(stage)
    };

    let good = stage("echo \"from $(uname -s)\"\n");
    let failed = stage("exit 3\n");
    let code = std::fs::read_to_string(home.path("code")).unwrap();
    let mut gone = shell(home, &guide("gitlab-run.sh"));
    gone.arg(home.path("job.sh")).arg("build_script");
    let gone = run(gone);

    assert_eq!((good.status.code(), &*String::from_utf8_lossy(&good.stdout)), (Some(0), "from Linux\n"), "{good:?}");
    assert_eq!((failed.status.code(), code.as_str()), (Some(BUILD_FAILURE), "3\n"), "{failed:?}");
    assert_eq!(gone.status.code(), Some(SYSTEM_FAILURE), "{gone:?}");
}
