//! `logs`, with log files that the test writes.

use std::sync::{Arc, Mutex};

use maqet_application::operation::{LogKind, Logs, Stop};
use maqet_application::{App, Error, limits};
use maqet_domain::port::{Chunk, RecordError};
use maqet_domain::qmp::RunState;
use maqet_domain::vm::BootNumber;
use maqet_domain::{Explain, Fault};

use crate::operations::start;
use crate::world::{World, launched};

/// The one file behind all logs of a test.
type File = Arc<Mutex<Option<Vec<u8>>>>;

fn file(world: &mut World, content: Option<&[u8]>, boots: &[u32]) -> File {
    let file = Arc::new(Mutex::new(content.map(<[u8]>::to_vec)));
    let there = file.clone();
    world.records.expect_read().returning(move |path, offset, limit| match &*there.lock().unwrap() {
        Some(bytes) => {
            let begin = bytes.len().min(usize::try_from(offset).unwrap());
            let end = bytes.len().min(begin + limit);
            Ok(Chunk { offset, bytes: bytes[begin..end].to_vec(), length: bytes.len().try_into().unwrap() })
        }
        None => Err(RecordError::NotFound { path: path.to_owned() }),
    });
    let boots: Vec<BootNumber> = boots.iter().copied().map(BootNumber).collect();
    world.records.expect_boots().returning(move |_| boots.clone());
    file
}

async fn running(world: &mut World) -> App {
    world.hypervisor.expect_launch().returning(|_| Ok(launched(7, RunState::Running)));
    world.alive(RunState::Running);
    let app = world.app();
    app.run(World::empty("web")).await.unwrap();
    app.run(start("web")).await.unwrap();
    app
}

fn logs() -> Logs {
    Logs::new("web")
}

#[track_caller]
fn check(error: &Error, code: &str, fault: Fault) {
    let explanation = error.explain();
    assert_eq!((explanation.code, explanation.fault), (code, fault), "{error}");
}

async fn last_lines(content: &[u8], lines: usize) -> String {
    let mut world = World::new();
    file(&mut world, Some(content), &[1]);
    let app = running(&mut world).await;
    app.run(logs().lines(lines)).await.unwrap().text
}

#[tokio::test]
async fn test_logs_lines_are_counted_from_the_end() {
    assert_eq!(last_lines(b"one\ntwo\nthree\n", 2).await, "two\nthree\n");
    assert_eq!(last_lines(b"one\ntwo\nlogin: ", 2).await, "two\nlogin: ");
    assert_eq!(last_lines(b"one\n", 5).await, "one\n");
    assert_eq!(last_lines(b"one\ntwo\n", 0).await, "");
    assert_eq!(last_lines(b"", 3).await, "");
}

#[tokio::test]
async fn test_logs_lines_longer_than_a_chunk_are_found() {
    let long = "x".repeat(limits::LOG_CHUNK_BYTES * 2 + 17);

    let text = last_lines(format!("first\n{long}\nlast\n").as_bytes(), 2).await;

    assert_eq!(text, format!("{long}\nlast\n"));
}

#[tokio::test]
async fn test_logs_long_log_is_returned_from_its_end() {
    let mut world = World::new();
    let content = [vec![b'a'; limits::MAX_LOG_TEXT_BYTES], b"end".to_vec()].concat();
    file(&mut world, Some(&content), &[1]);
    let app = running(&mut world).await;

    let log = app.run(logs()).await.unwrap();

    assert_eq!((log.offset, log.length), (3, u64::try_from(content.len()).unwrap()));
    assert_eq!(log.text.len(), limits::MAX_LOG_TEXT_BYTES);
    assert!(log.text.ends_with("aend"));
}

#[tokio::test]
async fn test_logs_unavailable_explain_why() {
    let mut world = World::new();
    file(&mut world, None, &[]);
    let app = world.app();
    app.run(World::empty("web")).await.unwrap();

    check(&app.run(logs()).await.unwrap_err(), "log.run-not-found", Fault::State);
    check(&app.run(logs().boot(BootNumber(3))).await.unwrap_err(), "log.boot-not-found", Fault::NotFound);
    let maqet = logs().log(LogKind::Maqet);
    check(&app.run(maqet.clone()).await.unwrap_err(), "log.not-found", Fault::NotFound);
    check(&app.run(maqet.boot(BootNumber(3))).await.unwrap_err(), "log.boot-unsupported", Fault::Usage);
}

#[tokio::test]
async fn test_logs_redirected_serial_port_names_its_target() {
    let mut world = World::new();
    world.hypervisor.expect_launch().returning(|_| Ok(launched(7, RunState::Running)));
    world.alive(RunState::Running);
    let file = file(&mut world, Some(b""), &[1]);
    let app = world.app();
    app.run(World::yaml("name: web\nserial: none\n")).await.unwrap();
    app.run(start("web")).await.unwrap();

    let error = app.run(logs()).await.unwrap_err();
    let qemu = app.run(logs().log(LogKind::Qemu)).await.unwrap();
    *file.lock().unwrap() = Some(b"of an older definition".to_vec());
    let older = app.run(logs()).await.unwrap();

    assert!(error.to_string().contains("`serial: none`"), "{error}");
    check(&error, "log.unavailable", Fault::State);
    assert_eq!((qemu.text.as_str(), older.text.as_str()), ("", "of an older definition"));
}

#[tokio::test]
async fn test_logs_of_failed_start_are_the_newest() {
    let mut world = World::new();
    file(&mut world, Some(b"why it failed"), &[1, 2]);
    let app = running(&mut world).await;

    let log = app.run(logs().log(LogKind::Qemu)).await.unwrap();

    assert_eq!(log.about.boot, Some(BootNumber(2)));
    assert!(log.about.file.ends_with("/boot-2/qemu.log"), "{}", log.about.file);
}

#[tokio::test]
async fn test_follow_ends_after_vm_stopped_and_log_read() {
    let mut world = World::new();
    let file = file(&mut world, Some(b"one"), &[1]);
    world.processes.expect_signal().returning(|_, _| Ok(()));
    world.processes.expect_wait_for_exit().returning(|_, _| true);
    let app = running(&mut world).await;
    let mut reader = logs().open(&app).await.unwrap();

    let first = reader.follow().await.unwrap();
    app.run(Stop::new("web").force(true)).await.unwrap();
    file.lock().unwrap().as_mut().unwrap().extend(b"two");
    let second = reader.follow().await.unwrap();
    let end = reader.follow().await.unwrap();

    assert_eq!((first, second, end), (Some(b"one".to_vec()), Some(b"two".to_vec()), None));
}

#[tokio::test]
async fn test_follow_truncated_log_continues() {
    let mut world = World::new();
    let file = file(&mut world, Some(b"one\ntwo\n"), &[1]);
    let app = running(&mut world).await;
    let mut reader = logs().log(LogKind::Maqet).lines(1).open(&app).await.unwrap();

    let first = reader.follow().await.unwrap();
    *file.lock().unwrap() = Some(b"two\nx\n".to_vec());
    let second = reader.follow().await.unwrap();
    *file.lock().unwrap() = Some(b"new".to_vec());
    let third = reader.follow().await.unwrap();

    let texts = [first, second, third].map(|piece| String::from_utf8(piece.unwrap()).unwrap());
    assert_eq!(texts, ["two\n", "x\n", "new"]);
}

#[tokio::test]
async fn test_log_records_changing_operations_only() {
    let mut world = World::new();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let written = lines.clone();
    world.journal.expect_append().returning(move |file, line| {
        assert!(file.ends_with("maqet.log"), "{}", file.display());
        written.lock().unwrap().push(line.to_owned());
        Ok(())
    });
    file(&mut world, Some(b""), &[1]);
    let app = running(&mut world).await;

    app.run(logs()).await.unwrap();
    app.run(maqet_application::operation::Rm::new("web")).await.unwrap_err();

    let lines = lines.lock().unwrap();
    let expected = ["add web: done in ", "start: done in ", "rm: failed after "];
    assert_eq!(lines.len(), expected.len(), "{lines:?}");
    for (line, words) in lines.iter().zip(expected) {
        assert!(line.starts_with("1970-01-01T00:00:00.000Z ") && line.contains(words), "{line}");
        assert!(line.ends_with("; pid 1, user me"), "{line}");
    }
    assert!(lines[2].contains("vm.status-conflict: cannot remove: VM `web` is running"), "{}", lines[2]);
}
