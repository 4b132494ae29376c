//! Many commands on one session with the QEMU of a running VM: nothing is opened, found or greeted between them.
//!
//! Run it with `cargo run --release -p maqet --example one_session -- VM COMMAND TIMES`. It prints the last answer and
//! how many microseconds all of them took; `cargo xtask bench --only qmp` measures with it.

use std::time::{Duration, Instant};

use maqet::domain::qmp::QmpCommand;
use maqet::{Environment, Maqet, Overrides, Settings};

/// How long each command may take.
const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [vm, command, times] = words.as_slice() else { return Err("give a VM, a command and how often".into()) };
    let times: u32 = times.parse()?;
    let maqet = Maqet::open(Settings::discover(&Environment::from_process(), &Overrides::default())?).await?;
    let command = QmpCommand::new(command);
    let mut session = maqet.app().monitor_session(vm).await?;
    let mut answer = session.execute(&command, DEADLINE).await?;

    let began = Instant::now();
    for _ in 0..times {
        answer = session.execute(&command, DEADLINE).await?;
    }
    let took = began.elapsed();

    println!("{answer}\n{}", took.as_micros());
    Ok(())
}
