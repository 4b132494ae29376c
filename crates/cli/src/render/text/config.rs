//! Results of `maqet config`.

use std::borrow::Cow;
use std::io::{self, Write};

use maqet::operation::{ConfigChecked, DefaultValue, KeyInfo, ShownSetting};

use super::table::write_table;
use super::{PLAIN, TextOutput};

impl TextOutput for ConfigChecked {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "configuration is valid")
    }
}

impl TextOutput for Vec<ShownSetting> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.iter().all(|setting| setting.origin.is_none()) {
            let rows = self.iter().map(|setting| (PLAIN, [&setting.key, &setting.value].map(Cow::from)));
            return write_table(out, &["KEY", "VALUE"], 0, rows);
        }
        let rows = self.iter().map(|setting| {
            let origin = setting.origin.as_deref().unwrap_or_default();
            (PLAIN, [&setting.key, &setting.value, origin].map(Cow::from))
        });
        write_table(out, &["KEY", "VALUE", "ORIGIN"], 0, rows)
    }
}

impl TextOutput for Vec<KeyInfo> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        self.iter().try_for_each(|key| writeln!(out, "{}\n    {}: {}", key.key, key.summary, key.value))
    }
}

impl TextOutput for Vec<DefaultValue> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows = self.iter().map(|default| (PLAIN, [&default.key, &default.value].map(Cow::from)));
        write_table(out, &["KEY", "VALUE"], 0, rows)
    }
}
