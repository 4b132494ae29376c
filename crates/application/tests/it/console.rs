//! `console`, with a mocked console.

use std::path::Path;

use async_trait::async_trait;
use maqet_application::operation::{Console, table};
use maqet_application::{App, Error};
use maqet_domain::port::{ConsoleError, ConsoleStream};
use maqet_domain::qmp::RunState;
use maqet_domain::{Explain, Fault};
use serde_json::json;

use crate::operations::start;
use crate::world::{World, launched};

/// A console on which the guest prints one text.
struct Saying(&'static str);

#[async_trait]
impl ConsoleStream for Saying {
    fn input(&self) -> &Path {
        Path::new("/r/b1/serial.in")
    }

    fn log_position(&self) -> Option<u64> {
        None
    }

    async fn read(&self) -> Result<Vec<u8>, ConsoleError> {
        Ok(self.0.into())
    }

    async fn write(&self, bytes: &[u8]) -> Result<usize, ConsoleError> {
        Ok(bytes.len())
    }

    fn end(&self) {}
}

fn console() -> Console {
    Console::new("web")
}

async fn started(world: &mut World, yaml: &str) -> App {
    world.hypervisor.expect_launch().returning(|_| Ok(launched(7, RunState::Running)));
    world.alive(RunState::Running);
    let app = world.app();
    app.run(World::yaml(yaml)).await.unwrap();
    app.run(start("web")).await.unwrap();
    app
}

#[tokio::test]
async fn test_console_of_running_vm_is_returned() {
    let mut world = World::new();
    world.consoles.expect_attach().returning(|_| Ok(Box::new(Saying("login: "))));
    let app = started(&mut world, "name: web\n").await;

    let attached = app.run(console()).await.unwrap();
    let output = table().unwrap().call(&app, "console", json!({"vm": "web"})).await.unwrap();

    assert_eq!(attached.stream.read().await.unwrap(), b"login: ");
    assert_eq!((&output["name"], &output["boot"]), (&json!("web"), &json!(1)));
    assert_eq!(output["input"], "/r/b1/serial.in");
    assert_eq!(output.get("stream"), None);
}

#[tokio::test]
async fn test_console_of_stopped_vm_is_refused() {
    let mut world = World::new();
    world.consoles.expect_attach().never();
    let app = world.app();
    app.run(World::empty("web")).await.unwrap();

    let error = app.run(console()).await.unwrap_err();

    assert_eq!((error.code(), error.fault()), ("vm.status-conflict", Fault::State));
    assert_eq!(error.hints(), ["start it with `maqet start web`"]);
}

#[tokio::test]
async fn test_console_unavailable_reports_serial_port_target() {
    let mut world = World::new();
    let missing = || ConsoleError::Unavailable { path: "/r/serial.in".into(), serial: None };
    world.consoles.expect_attach().returning(move |_| Err(missing()));
    let app = started(&mut world, "name: web\nserial: none\n").await;

    let error = app.run(console()).await.unwrap_err();

    let Error::Console { source, .. } = &error else { panic!("{error:?}") };
    assert!(source.to_string().ends_with("the definition has `serial: none`"), "{source}");
    assert_eq!((error.code(), error.fault()), ("console.unavailable", Fault::State));
    assert!(error.hints()[0].contains("maqet apply web --set"), "{:?}", error.hints());
}
