//! What maqet reaches inside a guest: the channels of a VM, the protocol of the guest agent, and commands.
//!
//! The [channels](channel) are virtio-serial ports that a VM has by default. The agent answers on one of them in a
//! [protocol] of JSON lines, and starts [commands](command) whose streams are other ports.

pub mod archive;
mod channel;
mod command;
pub mod copy;
mod detached;
mod exit_record;
pub mod file;
mod info;
mod progress;
mod protocol;
mod scripts;
mod ssh;
mod stage;
mod status;
mod thaw;
mod tool;

pub use self::channel::{GuestStream, PORT_SETS, PortSet, channel_ids, is_open};
pub use self::command::{
    EnvironmentVariable, ExecFailure, ExecWay, GuestCommand, InvalidEnvironmentVariable, InvalidUserName, Nonce,
    ProcessSignal, TerminalSize, UserName, started_process,
};
pub use self::detached::{
    DetachedCommand, DetachedState, follow_detached, list_detached, remove_detached, signal_detached,
};
pub use self::exit_record::ExitRecord;
pub use self::info::{AgentVersion, GuestAddress, GuestInterface, GuestSystem};
pub use self::progress::{CloudInit, GuestBoot};
pub use self::protocol::{AgentCommand, AgentDecoder, AgentReply, InvalidReply, SYNC_DELIMITER};
pub use self::ssh::{SshLogin, SshStreams, begun_process};
pub use self::stage::BootStage;
pub use self::status::{CommandStatus, ExitStatus};
pub use self::thaw::{can_thaw_later, end_thaw_later, has_thawed, thaw_later};
pub use self::tool::{GuestTool, had_exited};

/// The controller of the channels.
pub const CONTROLLER: &str = "maqet-serial";

/// The port of the guest agent, and its character device.
pub const AGENT_PORT: &str = "maqet-agent";

/// The console that getty(8) may take, which is connected to nothing.
pub const FIRST_CONSOLE: &str = "maqet-hvc0";

/// The console that is named to the guest.
pub const CONSOLE: &str = "maqet-hvc1";
