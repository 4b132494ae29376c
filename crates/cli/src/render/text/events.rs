//! Events, a line each.

use std::io::{self, Write};

use maqet::ShownEvent;
use maqet::domain::qmp::QmpEvent;
use serde_json::Value;

use super::TextOutput;
use crate::render::sanitize::escape_control;

impl TextOutput for ShownEvent {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let vm = self.vm.as_deref().unwrap_or("-");
        let host = self.host.as_ref().map(|host| format!("  host={}", escape_control(host))).unwrap_or_default();
        writeln!(out, "{:.3}  {vm}  {}{host}{}", self.at, escape_control(&self.kind), fields(&self.data))
    }
}

impl TextOutput for Vec<ShownEvent> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        self.iter().try_for_each(|event| event.write(out))
    }
}

/// Returns an event of QEMU as a line, where the VM is known from the context.
pub(crate) fn event_line(event: &QmpEvent) -> String {
    format!("{:.3}  {}{}", event.at, escape_control(&event.name), fields(&event.data))
}

fn fields(data: &Value) -> String {
    let Value::Object(data) = data else { return String::new() };
    let field = |(key, value): (&String, &Value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("  {}={}", escape_control(key), escape_control(&value))
    };
    data.iter().map(field).collect()
}
