//! The state that a real QEMU saves, taken apart and loaded by another one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use maqet_adapters_qemu::{LocalCheckpoints, QemuMonitors};
use maqet_domain::checkpoint::{CheckpointName, STATE_FILE};
use maqet_domain::port::{CheckpointFiles, Hypervisor, Monitors, TakenApart, UnfinishedCheckpoint};
use maqet_domain::qmp::QmpCommand;
use maqet_domain::vm::RunPaths;
use serde_json::{Value, json};

use crate::kit::{Bench, TIMEOUT, wait};

const MEMORY: u64 = 64 << 20;

// The machines have no generation ID: it is in the memory, and another one after each load.

/// What the guest sees here is not its memory: video memory and ROMs.
const HOLE: std::ops::Range<usize> = 0xa_0000..0x10_0000;

async fn execute(paths: &RunPaths, name: &'static str, arguments: Value) -> Result<Value, String> {
    let arguments = arguments.as_object().unwrap().iter();
    let command = arguments.fold(QmpCommand::new(name), |command, (name, value)| command.with(name, value.clone()));
    QemuMonitors.execute(paths, &command, TIMEOUT).await.map_err(|error| error.to_string())
}

/// Waits until a migration has completed.
async fn completed(paths: &RunPaths) {
    loop {
        let status = execute(paths, "query-migrate", json!({})).await.unwrap()["status"].clone();
        match status.as_str() {
            Some("completed") => return,
            Some("failed") => panic!("the migration failed"),
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Starts a machine whose firmware runs for a moment, and stops it.
async fn booted(bench: &Bench, machine: &str) {
    let definition = json!({"memory": "64M", "generation_id": false, "args": ["-machine", machine, "-vga", "std"]});
    bench.hypervisor.launch(&bench.launch_of(&definition.to_string())).await.unwrap();
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        execute(&bench.paths, "stop", json!({})).await.unwrap();
        let memory = memory_of(&bench.paths, &bench.folder.path().join("booting")).await;
        // The firmware has moved itself to the end of the memory.
        if memory[HOLE.end..].iter().any(|byte| *byte != 0) {
            return;
        }
        execute(&bench.paths, "cont", json!({})).await.unwrap();
    }
}

/// Reads the memory of a guest.
async fn memory_of(paths: &RunPaths, file: &Path) -> Vec<u8> {
    let arguments = json!({"val": 0, "size": MEMORY, "filename": file});
    execute(paths, "pmemsave", arguments).await.unwrap();
    let memory = fs::read(file).unwrap();
    fs::remove_file(file).unwrap();
    memory
}

/// Saves the state of a machine to the stream of an unfinished checkpoint.
async fn save(bench: &Bench, checkpoint: &UnfinishedCheckpoint, is_background: bool) {
    let socket = bench.folder.path().join("out");
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    let stream = checkpoint.stream.clone();
    let copied = thread::spawn(move || {
        let mut from = listener.accept().unwrap().0;
        io::copy(&mut from, &mut File::options().write(true).open(stream).unwrap()).unwrap()
    });
    let capability = json!({"capability": "background-snapshot", "state": is_background});
    execute(&bench.paths, "migrate-set-capabilities", json!({"capabilities": [capability]})).await.unwrap();
    execute(&bench.paths, "migrate", json!({"uri": format!("unix:{}", socket.display())})).await.unwrap();
    completed(&bench.paths).await;
    copied.join().unwrap();
}

async fn take_apart(checkpoint: &UnfinishedCheckpoint) -> TakenApart {
    LocalCheckpoints.take_apart(&checkpoint.directory, "pc.ram", &|_| {}).await.unwrap()
}

/// Loads a machine whose memory is mapped from the file, and returns what its memory has.
async fn loaded(checkpoint: &UnfinishedCheckpoint, machine: &str) -> Vec<u8> {
    let bench = Bench::new();
    let ram = checkpoint.directory.join("ram");
    let object = format!("memory-backend-file,id=pc.ram,size=64M,mem-path={},share=off", ram.display());
    let machine = format!("{machine},memory-backend=pc.ram");
    let args = json!(["-machine", machine, "-vga", "std", "-object", object, "-incoming", "defer", "-S"]);
    let definition = json!({"memory": "64M", "generation_id": false, "args": args});
    bench.hypervisor.launch(&bench.launch_of(&definition.to_string())).await.unwrap();
    let socket = bench.folder.path().join("in");
    execute(&bench.paths, "migrate-incoming", json!({"uri": format!("unix:{}", socket.display())})).await.unwrap();
    let state = checkpoint.directory.join(STATE_FILE);
    let sent = thread::spawn(move || {
        io::copy(&mut File::open(state).unwrap(), &mut UnixStream::connect(socket).unwrap()).unwrap()
    });
    completed(&bench.paths).await;
    sent.join().unwrap();
    memory_of(&bench.paths, &bench.folder.path().join("memory")).await
}

async fn saved_memory_is_that_of_the_machine(machine: &str, is_background: bool) {
    let bench = Bench::new();
    booted(&bench, machine).await;
    let directory = bench.folder.path().join("checkpoints/vm");
    let checkpoint = LocalCheckpoints.begin(&directory, &CheckpointName::parse("booted").unwrap()).await.unwrap();
    // Before: QEMU 7.2 lets the guest run once a background snapshot has begun.
    let expected = memory_of(&bench.paths, &bench.folder.path().join("memory")).await;

    save(&bench, &checkpoint, is_background).await;
    let taken = take_apart(&checkpoint).await;

    assert!(taken.machine_type.starts_with("pc-"), "{taken:?}");
    assert_eq!((taken.ram.block.as_str(), taken.ram.bytes), ("pc.ram", MEMORY));
    let ram = checkpoint.directory.join("ram");
    let saved = fs::read(&ram).unwrap();
    assert!(saved[..HOLE.start] == expected[..HOLE.start] && saved[HOLE.end..] == expected[HOLE.end..]);
    // Most of it has never been written.
    let blocks = fs::metadata(&ram).unwrap().blocks() * 512;
    assert!(blocks <= taken.ram.used_bytes + (64 << 10) && blocks < MEMORY / 8, "{blocks} {taken:?}");
    assert!(taken.state.bytes < 1 << 20, "{taken:?}");
    assert!(loaded(&checkpoint, machine).await == expected);
    // Nothing was written to it, and the same comes out again.
    assert_eq!(take_apart(&checkpoint).await.ram.crc32, taken.ram.crc32);
}

#[test]
fn test_saved_pc_is_taken_apart_and_loaded() {
    wait(saved_memory_is_that_of_the_machine("pc", false));
}

#[test]
fn test_saved_q35_is_taken_apart_and_loaded() {
    wait(saved_memory_is_that_of_the_machine("q35", false));
}

#[test]
fn test_background_snapshot_of_pc_is_taken_apart_and_loaded() {
    wait(saved_memory_is_that_of_the_machine("pc", true));
}

#[test]
fn test_background_snapshot_of_q35_is_taken_apart_and_loaded() {
    wait(saved_memory_is_that_of_the_machine("q35", true));
}
