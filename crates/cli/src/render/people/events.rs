//! Events, a line each.

use std::io::{self, Write};

use maqet::ShownEvent;
use serde_json::Value;

use super::People;
use crate::render::printable::printable;

impl People for ShownEvent {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let at = format!("{:.3}", self.at);
        let vm = self.vm.as_deref().unwrap_or("-");
        write!(out, "{at}  {vm}  {}", printable(&self.kind))?;
        if let Value::Object(data) = &self.data {
            for (key, value) in data {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                write!(out, "  {}={}", printable(key), printable(&value))?;
            }
        }
        writeln!(out)
    }
}

impl People for Vec<ShownEvent> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        self.iter().try_for_each(|event| event.write(out))
    }
}
