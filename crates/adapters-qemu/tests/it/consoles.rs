//! The serial console of a real QEMU: one client at a time, and available at once for the next.

use maqet_adapters_qemu::{QemuConsoles, QemuMonitors};
use maqet_domain::port::{ConsoleError, Consoles, Monitors};
use maqet_domain::qmp::QmpCommand;

use crate::kit::{Bench, TIMEOUT, wait};

#[test]
fn test_attach_twenty_times_in_a_row_always_works() {
    let bench = Bench::new();
    wait(async {
        bench.start().await;

        for number in 0..20 {
            let console = QemuConsoles.attach(&bench.paths).await;
            let console = console.unwrap_or_else(|error| panic!("attempt {number}: {error}"));
            console.write(b"x").await.unwrap();
        }
    });
}

#[test]
fn test_attach_while_in_use_names_the_holder() {
    let bench = Bench::new();
    wait(async {
        bench.start().await;
        let first = QemuConsoles.attach(&bench.paths).await.unwrap();

        let second = QemuConsoles.attach(&bench.paths).await.err().unwrap();
        drop(first);
        let third = QemuConsoles.attach(&bench.paths).await;

        let ConsoleError::InUse { holder: Some(holder) } = second else { panic!("{second:?}") };
        assert_eq!((holder.pid, holder.operation.as_str()), (Some(std::process::id()), "console"));
        assert!(third.is_ok());
    });
}

#[test]
fn test_attached_console_closes_with_qemu() {
    let bench = Bench::new();
    wait(async {
        bench.start().await;
        let console = QemuConsoles.attach(&bench.paths).await.unwrap();

        QemuMonitors.execute(&bench.paths, &QmpCommand::new("quit"), TIMEOUT).await.unwrap();
        let output = tokio::time::timeout(TIMEOUT, console.read()).await.unwrap().unwrap();

        assert_eq!(output, b"");
        drop(console);
        let gone = QemuConsoles.attach(&bench.paths).await.err().unwrap();
        assert!(matches!(gone, ConsoleError::Unavailable { .. }), "{gone:?}");
    });
}

#[test]
fn test_ended_console_without_output_is_closed() {
    let bench = Bench::new();
    wait(async {
        bench.start().await;
        let console = QemuConsoles.attach(&bench.paths).await.unwrap();

        console.end();
        let output = tokio::time::timeout(TIMEOUT, console.read()).await.unwrap().unwrap();

        assert_eq!(output, b"");
    });
}

#[test]
fn test_attach_without_console_fails_and_creates_nothing() {
    let bench = Bench::new();
    wait(async {
        let missing = QemuConsoles.attach(&bench.paths).await.err().unwrap();

        assert!(matches!(missing, ConsoleError::Unavailable { .. }), "{missing:?}");
        assert!(!bench.paths.sockets.exists());
    });
}
