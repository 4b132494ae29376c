//! Runs a QMP command many times in one session, without reconnecting in between.
//!
//! Run it with `cargo run --release -p maqet --example one_session -- VM COMMAND TIMES`. It prints the last reply and
//! the total time in microseconds; `cargo xtask bench --only qmp` uses it.

use std::time::{Duration, Instant};

use maqet::domain::qmp::QmpCommand;
use maqet::{Environment, Maqet, Overrides, Settings};

/// The timeout of each command.
const TIMEOUT: Duration = Duration::from_secs(30);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [vm, command, times] = args.as_slice() else { return Err("usage: one_session VM COMMAND TIMES".into()) };
    let times: u32 = times.parse()?;
    let maqet = Maqet::open(Settings::discover(&Environment::from_process(), &Overrides::default())?).await?;
    let command = QmpCommand::new(command);
    let mut session = maqet.app().monitor_session(vm).await?;
    let mut reply = session.execute(&command, TIMEOUT).await?;

    let start = Instant::now();
    for _ in 0..times {
        reply = session.execute(&command, TIMEOUT).await?;
    }
    let elapsed = start.elapsed();

    println!("{reply}\n{}", elapsed.as_micros());
    Ok(())
}
