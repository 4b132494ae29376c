//! Results of `maqet host`.

use std::borrow::Cow;
use std::io::{self, Write};

use maqet::operation::{Evicted, HostInfo};

use super::table::write_table;
use super::{PLAIN, TextOutput, UNUSUAL, whole_seconds};
use crate::render::sanitize::escape_control;

impl TextOutput for Vec<HostInfo> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows = self.iter().map(|info| {
            let (style, status) = match info.away_since {
                Some(since) => (UNUSUAL, format!("away since {since:.0}")),
                None if info.is_own => (PLAIN, "this host".to_owned()),
                None if info.seen_at.is_none() => (PLAIN, "unknown".to_owned()),
                None => (PLAIN, "active".to_owned()),
            };
            let (vms, running) = (info.vms.to_string(), info.running.to_string());
            let seen = info.seen_at.as_ref().map(whole_seconds).unwrap_or_default();
            let cells = [info.host.clone(), info.owner.clone(), status, vms, running, seen];
            (style, cells.map(Cow::from))
        });
        write_table(out, &["HOST", "OWNER", "STATUS", "VMS", "RUNNING", "SEEN"], 2, rows)
    }
}

impl TextOutput for Evicted {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for vm in &self.vms {
            writeln!(out, "moved `{}` from host `{}` to this one", vm.name, escape_control(&self.host))?;
            if vm.was_running {
                writeln!(out, "  it was running when last recorded; start it with `maqet start {}`", vm.name)?;
            }
        }
        Ok(())
    }
}
