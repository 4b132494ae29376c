//! `inspect`, with a mocked kernel and QEMU.

use std::time::Duration;

use maqet_application::operation::{Inspect, InspectedDisk, VmInspection};
use maqet_domain::Timestamp;
use maqet_domain::port::{ImageInfo, ProcessUsage};
use maqet_domain::qmp::QmpError;
use maqet_domain::qmp::RunState;
use maqet_domain::size::ByteSize;
use maqet_domain::vm::MonitorAnswer;
use serde_json::{Value, json};

use crate::operations::start;
use crate::world::{World, launched};

const DISK: &str = "name: web\nstorage: [{name: hdd, file: /d/hdd.qcow2, size: 1G}, {name: new, size: 1G}]\n";

fn usage() -> ProcessUsage {
    ProcessUsage {
        binary: Some("/usr/bin/qemu".into()),
        is_binary_deleted: false,
        started_at: Timestamp::UNIX_EPOCH,
        uptime: Duration::from_secs(200),
        threads: 5,
        cpu_time: Duration::from_secs(100),
        rss: ByteSize::from_mib(3),
        swapped: ByteSize::default(),
        huge_pages: ByteSize::default(),
        pss: None,
    }
}

/// Replies like QEMU 7.2 with the disk `hdd` and one that is not in the definition.
fn answer(command: &str) -> Value {
    let block = |node: &str, file: &str| {
        json!({"device": "", "qdev": node, "inserted": {"node-name": node, "file": file, "drv": "qcow2", "ro": false,
               "image": {"virtual-size": 1024, "actual-size": 512}}})
    };
    match command {
        "query-version" => json!({"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": ""}),
        "query-kvm" => json!({"enabled": true, "present": true}),
        "qom-get" => json!("pc-q35-7.2-machine"),
        "query-cpus-fast" => json!([{}, {}]),
        "query-memory-size-summary" => json!({"base-memory": 4096, "plugged-memory": 1024}),
        "query-block" => json!([block("hdd", "/d/hdd.qcow2"), block("plugged", "/d/plugged.qcow2")]),
        "query-chardev" => json!([{"label": "qmp-s1", "filename": "unix:/r/x"}]),
        other => panic!("unexpected command `{other}`"),
    }
}

async fn inspect(world: &mut World) -> VmInspection {
    world.hypervisor.expect_launch().returning(|_| Ok(launched(7, RunState::Running)));
    world.images.expect_create().returning(|_| Ok(()));
    world.stats.expect_cpu_time().returning(|_| Some(Duration::from_secs(100)));
    world.stats.expect_usage().returning(|_| Some(usage()));
    let app = world.app();
    app.run(World::yaml(DISK)).await.unwrap();
    app.run(start("web")).await.unwrap();

    app.run(Inspect::new("web")).await.unwrap()
}

fn named<'a>(found: &'a VmInspection, name: &str) -> &'a InspectedDisk {
    found.disks.iter().find(|disk| disk.name == name).unwrap()
}

#[tokio::test]
async fn test_inspect_running_vm_merges_kernel_and_qemu_data() {
    let mut world = World::new();
    world.alive(RunState::Running);
    world.monitors.expect_execute().returning(|_, command, _| Ok(answer(&command.execute)));

    let found = inspect(&mut world).await;

    let machine = found.machine.as_ref().unwrap();
    assert_eq!((machine.qemu_version.as_str(), machine.r#type.as_str()), ("7.2.22", "pc-q35-7.2"));
    assert_eq!((machine.accelerator, machine.vcpus, machine.memory_bytes), ("kvm", 2, 5120));
    let process = found.process.as_ref().unwrap();
    assert!((process.cpu.percent_since_start - 50.0).abs() < 0.01, "{:?}", process.cpu);
    assert!(process.cpu.percent.abs() < 0.01 && process.cpu.sample_seconds >= 0.25, "{:?}", process.cpu);
    assert_eq!((process.rss_bytes, process.pss_bytes), (3 << 20, None));
    assert_eq!((named(&found, "hdd").allocated_bytes, named(&found, "hdd").attached), (Some(512), Some(true)));
    assert_eq!((named(&found, "plugged").r#type, named(&found, "plugged").attached), (None, Some(true)));
    assert_eq!(named(&found, "new").attached, Some(false));
}

#[tokio::test]
async fn test_inspect_failed_monitor_still_shows_the_rest() {
    let mut world = World::new();
    world.alive(RunState::Running);
    world.monitors.expect_execute().returning(|_, _, _| Err(QmpError::ConnectionClosed { command: "x".to_owned() }));

    let found = inspect(&mut world).await;

    assert_eq!(found.machine, None);
    assert!(found.process.is_some());
    assert_eq!((named(&found, "hdd").attached, named(&found, "hdd").virtual_bytes), (None, None));
}

#[tokio::test]
async fn test_inspect_unresponsive_vm_is_queried_once() {
    let mut world = World::new();
    world.answers(MonitorAnswer::TimedOut);
    world.monitors.expect_execute().never();

    let found = inspect(&mut world).await;

    assert_eq!((found.vm.status, found.machine), ("unreachable", None));
}

#[tokio::test]
async fn test_inspect_vm_never_started_reads_its_images() {
    let mut world = World::new();
    world.there.push("/d/hdd.qcow2".into());
    world.images.expect_info().times(1).returning(|_| {
        Ok(ImageInfo {
            format: "qcow2".to_owned(),
            virtual_size: ByteSize::from_mib(1024),
            actual_size: ByteSize::from_mib(1),
            snapshots: Vec::new(),
        })
    });
    let app = world.app();
    app.run(World::yaml(DISK)).await.unwrap();

    let found = app.run(Inspect::new("web")).await.unwrap();

    assert_eq!((&found.process, &found.machine, found.sockets.len()), (&None, &None, 0));
    let hdd = named(&found, "hdd");
    assert_eq!((hdd.virtual_bytes, hdd.allocated_bytes), (Some(1 << 30), Some(1 << 20)));
    assert_eq!((hdd.format.as_deref(), hdd.attached, &hdd.problem), (Some("qcow2"), None, &None));
    assert_eq!(named(&found, "new").problem.as_deref(), Some("created at the first start"));
}

#[tokio::test]
async fn test_inspect_readonly_drive_is_detected_in_every_form() {
    let mut world = World::new();
    let app = world.app();
    let storage = "[{name: a}, {name: b, readonly: true}, {name: cd, type: iso, file: /d/cd.iso}, {name: src, type: \
                   virtfs, path: /d/s, options: {readonly: true}}]";
    app.run(World::yaml(&format!("name: web\nstorage: {storage}\n"))).await.unwrap();

    let found = app.run(Inspect::new("web")).await.unwrap();

    assert_eq!(["a", "b", "cd", "src"].map(|name| named(&found, name).readonly), [false, true, true, true]);
}
