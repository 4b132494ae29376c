//! Locks between processes.

use std::process::{Command, Stdio};
use std::time::Duration;

use maqet_adapters_linux::FileLocks;
use maqet_domain::port::{LockError, LockName, Locks};

use crate::kit::{TIMEOUT, folder, wait};

fn vm() -> LockName {
    LockName::Vm("0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11".parse().unwrap())
}

#[test]
fn test_lock_in_use_names_its_holder() {
    wait(async {
        let folder = folder();
        let locks = FileLocks::new(folder.path().join("locks"));
        let _held = locks.lock(&vm(), "start", TIMEOUT).await.unwrap();

        let refused = locks.lock(&vm(), "stop", Duration::from_millis(30)).await.err().unwrap();

        let LockError::InUse { holder: Some(holder), waited, .. } = refused else { panic!("{refused:?}") };
        assert_eq!((holder.operation.as_str(), holder.pid), ("start", Some(std::process::id())));
        assert!(waited >= Duration::from_millis(30));
    });
}

#[test]
fn test_lock_released_is_acquired_by_waiter() {
    wait(async {
        let folder = folder();
        let locks = FileLocks::new(folder.path().join("locks"));
        let held = locks.lock(&vm(), "start", TIMEOUT).await.unwrap();

        let release = async {
            tokio::task::yield_now().await;
            drop(held);
        };
        let ((), second) = tokio::join!(release, async { locks.lock(&vm(), "stop", TIMEOUT).await });

        assert!(second.is_ok());
        assert_eq!(locks.holder(&vm()).await.unwrap().operation, "stop");
    });
}

#[test]
fn test_held_lists_only_locks_in_use() {
    wait(async {
        let folder = folder();
        let locks = FileLocks::new(folder.path().join("locks"));
        let other = LockName::Vm("1d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11".parse().unwrap());
        drop(locks.lock(&other, "stop", TIMEOUT).await.unwrap());
        let before = locks.held().await;
        let _held = locks.lock(&vm(), "start", TIMEOUT).await.unwrap();

        let held = locks.held().await;

        assert!(before.is_empty(), "{before:?}");
        let reported: Vec<_> = held.into_iter().map(|(name, holder)| (name, holder.operation)).collect();
        assert_eq!(reported, [(vm(), "start".to_owned())]);
    });
}

#[test]
fn test_lock_is_left_in_its_folder_unless_it_was_retired() {
    wait(async {
        let (folder, other) = (folder(), folder());
        let (locks, others) = (FileLocks::new(folder.path().into()), FileLocks::new(other.path().into()));
        let LockName::Vm(id) = vm() else { unreachable!() };
        let name = LockName::ThrowAway(id);

        let never = locks.is_left(&name).await;
        let mut guard = locks.lock(&name, "run", TIMEOUT).await.unwrap();
        let held = locks.is_left(&name).await;
        drop(guard);
        let left = (locks.is_left(&name).await, others.is_left(&name).await);
        guard = locks.lock(&name, "cleanup", TIMEOUT).await.unwrap();
        guard.retire();
        drop(guard);

        assert_eq!((never, held, left), (false, false, (true, false)));
        assert!(!locks.is_left(&name).await);
    });
}

#[test]
fn test_holder_of_free_lock_is_none() {
    wait(async {
        let folder = folder();
        let locks = FileLocks::new(folder.path().join("locks"));
        assert_eq!(locks.holder(&vm()).await, None);
        drop(locks.lock(&vm(), "start", TIMEOUT).await.unwrap());

        assert_eq!(locks.holder(&vm()).await, None);
    });
}

#[test]
fn test_holder_with_empty_note_is_unknown() {
    wait(async {
        let folder = folder();
        let locks = FileLocks::new(folder.path().join("locks"));
        let held = locks.lock(&vm(), "start", TIMEOUT).await.unwrap();
        let file = std::fs::read_dir(folder.path().join("locks")).unwrap().next().unwrap().unwrap().path();
        for left in ["", "{\"pid\": 1"] {
            std::fs::write(&file, left).unwrap();

            // A process that another test starts has a copy of the lock for a moment, until it executes its program.
            let mut holder = locks.holder(&vm()).await.unwrap();
            for _ in 0..1000 {
                if holder.pid.is_none() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
                holder = locks.holder(&vm()).await.unwrap();
            }

            assert_eq!((holder.operation.as_str(), holder.pid), ("unknown", None));
        }
        std::fs::write(&file, "").unwrap();
        drop(held);

        assert_eq!(locks.holder(&vm()).await, None);
    });
}

#[test]
fn test_holder_without_note_is_found_by_its_process() {
    wait(async {
        let folder = folder();
        let locks = FileLocks::new(folder.path().join("locks"));
        drop(locks.lock(&vm(), "start", TIMEOUT).await.unwrap());
        let path = std::fs::read_dir(folder.path().join("locks")).unwrap().next().unwrap().unwrap().path();
        let file = std::fs::File::open(path).unwrap();
        file.lock().unwrap();
        let mut stranger = Command::new("sleep").arg("1000").stdin(file).spawn().unwrap();

        let holder = locks.holder(&vm()).await;
        stranger.kill().unwrap();
        stranger.wait().unwrap();

        let reported = holder.map(|holder| (holder.operation, holder.pid));
        assert_eq!(reported, Some(("unknown".to_owned(), Some(stranger.id()))));
    });
}

#[test]
fn test_holder_queries_do_not_block_locking() {
    let folder = folder();
    let locks = FileLocks::new(folder.path().join("locks"));
    let done = std::sync::atomic::AtomicBool::new(false);

    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                wait(locks.holder(&vm()));
            }
        });
        let refused = (0..300).filter(|_| wait(locks.lock(&vm(), "start", Duration::ZERO)).is_err()).count();
        done.store(true, std::sync::atomic::Ordering::Relaxed);

        assert_eq!(refused, 0);
    });
}

#[test]
fn test_lock_of_killed_holder_is_free() {
    wait(async {
        let folder = folder();
        let locks = FileLocks::new(folder.path().join("locks"));
        drop(locks.lock(&vm(), "start", TIMEOUT).await.unwrap());
        let file = std::fs::read_dir(folder.path().join("locks")).unwrap().next().unwrap().unwrap().path();
        let note = r#"{"pid": 1, "operation": "start", "since": "2024-01-01T00:00:00Z",
            "process": {"pid": 1, "start_ticks": 999999999, "boot_id": "gone"}}"#;
        std::fs::write(&file, note).unwrap();
        // flock(1) takes the lock as another maqet process would, and prints a line then.
        let mut other = Command::new("flock")
            .arg(&file)
            .args(["-c", "echo locked; exec sleep 1000"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(other.stdout.take().unwrap()), &mut line).unwrap();
        let refused = locks.lock(&vm(), "stop", Duration::from_millis(30)).await.is_err();
        let seen = locks.holder(&vm()).await.is_some();

        kill_with_children(&mut other);
        let taken = locks.lock(&vm(), "stop", TIMEOUT).await;

        assert!(refused && seen);
        assert!(taken.is_ok());
    });
}

/// Kills flock(1) and its command, which has the lock file open as well.
fn kill_with_children(parent: &mut std::process::Child) {
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", parent.id())).unwrap();
    let _ = parent.kill();
    for pid in children.split_whitespace() {
        let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    parent.wait().unwrap();
}
