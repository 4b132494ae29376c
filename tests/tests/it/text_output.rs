//! The text output of commands, as shown to users.

use insta::assert_snapshot;
use maqet_testkit::process::kill_naming;
use maqet_testkit::{TestHome, guest};

use crate::output::{stable, unaligned};

/// A home with the VM `web`, which has a disk and never runs its CPUs.
fn with_web() -> TestHome {
    let home = TestHome::new();
    home.add(&format!("{}storage: [{{name: hdd, size: 8M}}]\n", guest::paused_yaml("web")));
    home
}

fn text(home: &TestHome, arguments: &[&str]) -> String {
    let finished = home.maqet(arguments).run().ok();
    stable(home, &format!("{}{}", finished.stdout, finished.stderr))
}

#[test]
fn test_text_add_and_rm_names_the_vm_and_its_disk() {
    let home = TestHome::new();
    home.write("vm.yaml", "name: web\naccel: tcg\nstorage: [{name: hdd, size: 8M}]\n");

    let added = text(&home, &["add", "vm.yaml"]);
    home.json(&["snapshot", "create", "web", "hdd", "clean"]);
    let removed = text(&home, &["rm", "web"]);

    assert_snapshot!(added, @"defined `web` ([id])");
    assert_snapshot!(removed, @"
    removed `web`
      kept disk: [home]/data/maqet/storage/web/hdd.qcow2
    ");
}

#[test]
fn test_text_start_and_stop_report_the_status() {
    let home = with_web();

    let output = [
        ["start", "web"].as_slice(),
        &["start", "web"],
        &["resume", "web"],
        &["pause", "web"],
        &["pause", "web"],
        &["stop", "web"],
        &["stop", "web"],
    ]
    .map(|arguments| text(&home, arguments));

    assert_snapshot!(output.concat(), @"
    `web` is paused (pid [pid])
    `web` is already paused (pid [pid])
    `web` is running
    `web` is paused
    `web` is already paused
    `web` is stopped: QEMU was asked to quit
    `web` is already stopped
    ");
}

#[test]
fn test_text_status_of_each_state_is_one_line() {
    let home = with_web();

    let defined = text(&home, &["status", "web"]);
    home.json(&["start", "web"]);
    let paused = text(&home, &["status", "web"]);
    home.json(&["stop", "web", "--force"]);
    let stopped = text(&home, &["status", "web"]);

    assert_snapshot!(defined, @"
    web: defined
      id                [id]
      defined           [time]
    ");
    assert_snapshot!(paused, @"
    web: paused (not resumed since the start)
      pid               [pid]
      id                [id]
      defined           [time]
      started           [time]
      serial log        [home]/state/maqet/[id]/boot-1/serial.log
      QEMU log          [home]/state/maqet/[id]/boot-1/qemu.log
      external monitor  [home]/run/maqet/[short-id]/b1/qmp-free.sock
    ");
    assert_snapshot!(stopped, @"
    web: stopped (QEMU was terminated by a signal)
      id                [id]
      defined           [time]
      started           [time]
      stopped           [time]
      serial log        [home]/state/maqet/[id]/boot-1/serial.log
      QEMU log          [home]/state/maqet/[id]/boot-1/qemu.log
    ");
}

#[test]
fn test_text_info_shows_definition_and_disk() {
    let home = with_web();

    assert_snapshot!(text(&home, &["info", "web"]), @"
    web ([id]), defined [time]
      drive hdd: qcow2 [home]/data/maqet/storage/web/hdd.qcow2 (created at the first start)

    accel: tcg
    memory: 32M
    arguments:
    - S
    storage:
    - name: hdd
      size: 8M
    ");
}

#[test]
fn test_text_apply_shows_the_differences() {
    let home = with_web();

    let planned = text(&home, &["apply", "web", "--memory", "64M", "--set", "labels.tier=front", "--dry-run"]);
    let applied = text(&home, &["apply", "web", "--memory", "64M"]);
    let again = text(&home, &["apply", "web", "--memory", "64M"]);

    assert_snapshot!(planned, @r#"
    would change `web`:
      memory: 32M -> 64M
      labels: (unset) -> {"tier":"front"}
    "#);
    assert_snapshot!(applied, @"
    changed `web`:
      memory: 32M -> 64M
    ");
    assert_snapshot!(again, @"`web` unchanged");
}

#[test]
fn test_text_snapshots_are_a_table() {
    let home = with_web();

    let none = text(&home, &["snapshot", "ls", "web"]);
    let created = text(&home, &["snapshot", "create", "web", "hdd", "clean"]);
    let listed = text(&home, &["snapshot", "ls", "web"]);
    let loaded = text(&home, &["snapshot", "load", "web", "hdd", "clean"]);
    let removed = text(&home, &["snapshot", "rm", "web", "hdd", "clean"]);

    assert_snapshot!([none, created, listed, loaded, removed].concat(), @"
    DRIVE  NAME  CREATED  CONTENTS
    created snapshot `clean` of drive `hdd` of `web`
    DRIVE  NAME   CREATED               CONTENTS
    hdd    clean  [time]  disk
    loaded snapshot `clean` of drive `hdd` of `web`
    kept the state before as snapshot `before-load`
    removed snapshot `clean` of drive `hdd` of `web`
    note: this cannot be undone: the snapshot is deleted
    ");
}

#[test]
fn test_text_cleanup_lists_what_it_does() {
    let home = with_web();
    home.json(&["start", "web"]);
    assert_eq!(kill_naming(home.root()).len(), 1);

    let planned = text(&home, &["cleanup", "--dry-run"]);
    let done = text(&home, &["cleanup"]);
    let again = text(&home, &["cleanup"]);

    assert_snapshot!(planned, @"would reconcile web (QEMU has exited, but the end of the run is not recorded)");
    assert_snapshot!(done, @"reconciled web (QEMU has exited, but the end of the run is not recorded)");
    assert_snapshot!(again, @"nothing to clean up");
}

#[test]
fn test_text_events_are_one_line_each() {
    let home = with_web();
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);

    assert_snapshot!(text(&home, &["events", "web", "--type", "vm.*"]), @"
    [time]  web  vm.defined
    [time]  web  vm.started  boot=1
    [time]  web  vm.stopped  reason=host-signal  method=sigkill
    ");
}

#[test]
fn test_text_config_check_reports_validity() {
    let home = TestHome::new();
    home.write("vm.yaml", "name: web\nmemory: 64M\n");

    assert_snapshot!(text(&home, &["config", "check", "vm.yaml"]), @"configuration is valid");
}

#[test]
fn test_text_config_show_has_origins() {
    let home = TestHome::new();
    home.write("config/maqet/maqet.conf", "timeouts: {start: 2m}\ndefaults: {memory: 1G}\n");

    assert_snapshot!(unaligned(&text(&home, &["config", "show", "--origin"])), @"
    KEY  VALUE  ORIGIN
    database  sqlite:[home]/data/maqet/maqet.db  default
    directories.config  [home]/config/maqet  variable `XDG_CONFIG_HOME`
    directories.data  [home]/data/maqet  variable `XDG_DATA_HOME`
    directories.runtime  [home]/run/maqet  variable `XDG_RUNTIME_DIR`
    directories.state  [home]/state/maqet  variable `XDG_STATE_HOME`
    defaults.memory  1G  [home]/config/maqet/maqet.conf:2:20
    timeouts.start  120s  [home]/config/maqet/maqet.conf:1:19
    timeouts.power_down  30s  default
    timeouts.quit  10s  default
    timeouts.term  5s  default
    timeouts.kill  5s  default
    timeouts.lock  10s  default
    timeouts.qmp  30s  default
    timeouts.freeze  90s  default
    timeouts.hook  30s  default
    timeouts.wait  60s  default
    logs.serial  16M  default
    logs.qemu  4M  default
    logs.qmp  8M  default
    logs.maqet  256K  default
    logs.hooks  1M  default
    logs.boots  10  default
    ");
}
