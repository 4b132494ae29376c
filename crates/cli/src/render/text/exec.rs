//! Results of `maqet exec` and `maqet ssh-config`.

use std::borrow::Cow;
use std::io::{self, Write};

use maqet::domain::guest::DetachedCommand;
use maqet::operation::{DetachedEnded, ExecResult, SshConfigured};

use super::table::write_table;
use super::{PLAIN, TextOutput, whole_seconds};
use crate::render::sanitize::escape_control;

impl TextOutput for ExecResult {
    /// The captured output, or the ID of a detached command.
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if let Some(id) = &self.detached {
            return writeln!(out, "{}", short(id));
        }
        out.write_all(self.stdout.as_deref().unwrap_or_default().as_bytes())?;
        out.flush()?;
        anstream::eprint!("{}", self.stderr.as_deref().unwrap_or_default());
        Ok(())
    }
}

impl TextOutput for Vec<DetachedCommand> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows = self.iter().map(|command| {
            let state = match command.exit_code {
                Some(code) => format!("{} ({code})", command.state),
                None => command.state.to_string(),
            };
            let id = short(&command.id).to_owned();
            let started = whole_seconds(&command.started_at);
            (PLAIN, [id, state, started, command.user.clone(), command.command.clone()].map(Cow::from))
        });
        write_table(out, &["ID", "STATE", "STARTED", "USER", "COMMAND"], 0, rows)
    }
}

impl TextOutput for DetachedEnded {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let what = if self.stopped { "stopped" } else { "had ended already:" };
        let how = match self.command.exit_code {
            Some(code) => format!("exit code {code}"),
            None => self.command.state.to_string(),
        };
        writeln!(out, "{what} `{}` ({how})", short(&self.command.id))
    }
}

/// Returns so much of an ID that it is unique.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

impl TextOutput for SshConfigured {
    /// A block for the configuration of ssh.
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Host {}", self.name)?;
        writeln!(out, "  HostName {}", self.host)?;
        writeln!(out, "  Port {}", self.port)?;
        writeln!(out, "  User {}", self.user)?;
        if let Some(key) = &self.key {
            // `%` begins a token.
            writeln!(out, "  IdentityFile \"{}\"", escape_control(&key.replace('%', "%%")))?;
            writeln!(out, "  IdentitiesOnly yes")?;
        }
        writeln!(out, "  StrictHostKeyChecking no")?;
        writeln!(out, "  UserKnownHostsFile /dev/null")?;
        writeln!(out, "  LogLevel ERROR")
    }
}
