//! Keyboard and screen of a guest, with an in-memory store and a mocked world.

use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::world::{World, launched};
use async_trait::async_trait;
use maqet_application::operation::{QmpKeys, QmpScreendump, QmpType, Start};
use maqet_application::{App, Error, HumanDuration, KeyboardError, ProgressUnit, ScreenError};
use maqet_domain::Explain;
use maqet_domain::keyboard::Layout;
use maqet_domain::picture::Ppm;
use maqet_domain::port::{MockMonitorSession, PictureError, PictureFile};
use maqet_domain::qmp::RunState;
use maqet_domain::qmp::{ErrorClass, QmpCommand, QmpError};
use maqet_domain::vm::Status;
use serde_json::{Value, json};

type SentCommands = Arc<Mutex<Vec<String>>>;

/// A session in which the VM is running for this many queries, and paused from then on.
fn session(sent: &SentCommands, pauses_after: usize) -> MockMonitorSession {
    let sent = Arc::clone(sent);
    let mut queries = 0;
    let mut session = MockMonitorSession::new();
    session.expect_execute().returning(move |command, _| {
        if command.execute == "query-status" {
            queries += 1;
            return Ok(json!({ "status": if queries > pauses_after { "paused" } else { "running" } }));
        }
        if command.execute == "qom-list" {
            return Ok(json!([{ "name": "device[7]", "type": "child<i8042>" }]));
        }
        let keys = command.arguments["keys"].as_array().unwrap();
        let names: Vec<&str> = keys.iter().map(|key| key["data"].as_str().unwrap()).collect();
        sent.lock().unwrap().push(names.join("-"));
        Ok(json!({}))
    });
    session
}

async fn started(mut world: World, state: RunState) -> App {
    world.hypervisor.expect_launch().returning(move |_| Ok(launched(7, RunState::Running)));
    world.alive(state);
    let app = world.app();
    app.run(World::empty("web")).await.unwrap();
    Box::pin(app.run(Start::new("web"))).await.unwrap();
    app
}

async fn typing(pauses_after: usize) -> (App, SentCommands) {
    let (mut world, sent) = (World::new(), SentCommands::default());
    let log = Arc::clone(&sent);
    world.monitors.expect_session().returning(move |_, _| Ok(Box::new(session(&log, pauses_after))));
    let state = if pauses_after == usize::MAX { RunState::Running } else { RunState::Paused };
    (Box::pin(started(world, state)).await, sent)
}

fn text(text: &str) -> QmpType {
    let delay: HumanDuration = "1ms".parse().unwrap();
    QmpType::new("web", text).layout(Layout::De).delay(delay)
}

fn keys(keys: &[&str]) -> QmpKeys {
    let hold: HumanDuration = "1ms".parse().unwrap();
    QmpKeys::new("web", keys.iter().copied()).hold(hold)
}

fn taken(sent: &SentCommands) -> Vec<String> {
    std::mem::take(&mut sent.lock().unwrap())
}

#[tokio::test]
async fn test_type_text_sends_layout_keys_with_progress() {
    let (app, sent) = typing(usize::MAX).await;
    let mut progress = app.watch_progress();

    let typed = app.run(text("Zé\r\n@").enter(true)).await.unwrap();

    assert_eq!(taken(&sent), ["shift-y", "equal", "e", "ret", "alt_r-q", "ret"]);
    assert_eq!((typed.characters, typed.chords), (5, 6));
    let first = progress.next().await.unwrap();
    assert_eq!((first.job.operation, first.job.vm.as_str()), ("qmp.type", "web"));
    assert_eq!((first.unit, first.done, first.total), (ProgressUnit::Keys, 1, Some(6)));
}

#[tokio::test]
async fn test_type_unsupported_character_sends_nothing() {
    let (app, sent) = typing(usize::MAX).await;

    let refused = app.run(text("abc\u{1f600}")).await.unwrap_err();

    assert_eq!((refused.code(), taken(&sent)), ("keys.character-unsupported", Vec::new()));
}

#[tokio::test]
async fn test_type_vm_paused_meanwhile_reports_characters_sent() {
    let (app, sent) = typing(2).await;

    let refused = app.run(text("abcd")).await.unwrap_err();

    let Error::Keyboard(KeyboardError::Unavailable { status, pressed, total, .. }) = refused else {
        panic!("{refused}")
    };
    assert_eq!((status, pressed, total), (Status::Paused, 2, 4));
    assert_eq!(taken(&sent), ["a", "b"]);
}

#[tokio::test]
async fn test_keys_qemu_exiting_reports_keys_sent() {
    let mut world = World::new();
    // The connection is lost, but QEMU does not exit.
    world.processes.expect_wait_for_exit().returning(|_, _| false);
    world.monitors.expect_session().returning(|_, _| {
        let mut session = MockMonitorSession::new();
        let mut pressed = 0;
        session.expect_execute().returning(move |command, _| {
            pressed += usize::from(command.execute == "send-key");
            match pressed {
                2 => Err(QmpError::ConnectionClosed { command: command.execute.clone() }),
                _ if command.execute == "qom-list" => Ok(json!([{ "name": "k", "type": "child<usb-kbd>" }])),
                _ => Ok(json!({ "status": "running" })),
            }
        });
        Ok(Box::new(session))
    });
    let app = started(world, RunState::Running).await;

    let cut = app.run(keys(&["ctrl-c", "enter"])).await.unwrap_err();

    assert_eq!(
        (cut.code(), cut.to_string()),
        ("qmp.connection-failed", "cannot send keys to VM `web` (1 of 2 sent)".to_owned())
    );
}

#[tokio::test]
async fn test_keys_none_or_invalid_are_refused() {
    let (app, sent) = typing(usize::MAX).await;

    let nothing = app.run(keys(&[])).await.unwrap_err();
    let nonsense = app.run(keys(&["a", "ctrl-kk"])).await.unwrap_err();
    let zero: HumanDuration = "0".parse().unwrap();
    let no_time = app.run(keys(&["a"]).hold(zero)).await.unwrap_err();
    let too_long = app.run(text(&"x".repeat((64 << 10) + 1))).await.unwrap_err();

    let codes = [nothing, nonsense, no_time, too_long].map(|error| error.code());
    assert_eq!(codes, ["keys.required", "keys.key-not-found", "keys.interval-invalid", "keys.text-too-large"]);
    assert_eq!(taken(&sent), Vec::<String>::new());
}

/// A file for a screenshot into which QEMU writes this.
struct Written(&'static [u8]);

#[async_trait]
impl PictureFile for Written {
    fn path(&self) -> &Path {
        Path::new("/r/picture")
    }

    fn read(&self) -> Result<Vec<u8>, PictureError> {
        Ok(self.0.to_vec())
    }
}

fn screendump(file: &str) -> QmpScreendump {
    QmpScreendump::new("web", file)
}

/// A QEMU without PNG support that writes `picture`; with the requested formats.
async fn old_qemu(picture: &'static [u8]) -> (App, Arc<Mutex<Vec<Value>>>) {
    let (mut world, formats) = (World::new(), Arc::new(Mutex::new(Vec::new())));
    let log = Arc::clone(&formats);
    world.monitors.expect_execute().returning(move |_, command: &QmpCommand, _| {
        if command.execute == "qom-get" {
            return Ok(json!("/machine/vga"));
        }
        log.lock().unwrap().push(command.arguments.get("format").cloned().unwrap_or_default());
        if command.arguments.contains_key("format") {
            let description = "Parameter 'format' is unexpected".to_owned();
            return Err(QmpError::Refused {
                command: command.execute.clone(),
                class: ErrorClass::Generic,
                description,
            });
        }
        Ok(json!({}))
    });
    world.pictures.expect_new_file().returning(move |_, _| Box::new(Written(picture)));
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x02\0\0\0\x01\x08";
    world.pictures.expect_to_png().returning(move |ppm| match Ppm::parse(ppm) {
        Some(_) => Ok(png.to_vec()),
        None => Err(PictureError::InvalidImage { length: ppm.len() }),
    });
    world.pictures.expect_save().withf(move |_, bytes| bytes == png).returning(|_, _| Ok(()));
    (Box::pin(started(world, RunState::Running)).await, formats)
}

#[tokio::test]
async fn test_screendump_without_png_support_is_converted() {
    let (app, formats) = old_qemu(b"P6\n2 1\n255\n\x01\x02\x03\x04\x05\x06").await;

    let taken = app.run(screendump("/c/screen.png")).await.unwrap();

    assert_eq!((taken.width, taken.height, json!(taken.format)), (2, 1, json!("png")));
    assert_eq!(*formats.lock().unwrap(), [json!("png"), Value::Null]);
}

#[tokio::test]
async fn test_screendump_truncated_image_is_not_written() {
    let (app, _) = old_qemu(b"P6\n2 1\n255\n\x01\x02").await;

    let refused = app.run(screendump("/c/screen.png")).await.unwrap_err();

    assert!(
        matches!(refused, Error::Screen(ScreenError::Picture(PictureError::InvalidImage { length: 13 }))),
        "{refused}"
    );
}
