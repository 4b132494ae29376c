//! Files that QEMU creates if they do not exist.

use std::path::{Path, PathBuf};

use super::keys::file_of_character_device;
use super::{Machine, Serial};
use crate::qemu::OptionString;

/// A file that QEMU creates unless it exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedFile {
    /// Its path, which is absolute.
    pub path: PathBuf,
    /// Whether the guest's memory is in it.
    pub is_memory: bool,
}

impl Machine {
    /// Returns the files that QEMU creates for the user's switches and the key `serial`.
    pub fn created_files(&self) -> Vec<CreatedFile> {
        let serial = if let Serial::Qemu(text) = &self.serial { Some(("serial", text.as_str())) } else { None };
        let switches = self.user_switches().filter_map(|(name, argument)| Some((name, argument?)));
        serial.into_iter().chain(switches).filter_map(|(name, argument)| created_file(name, argument)).collect()
    }
}

fn created_file(switch: &str, argument: &str) -> Option<CreatedFile> {
    let options = OptionString::parse(switch, argument);
    let (path, is_memory) = match (switch, options.head()) {
        ("D", _) => (Some(argument), false),
        ("mem-path", _) => (Some(argument), true),
        ("object", "memory-backend-file") => (options.get("mem-path"), true),
        ("object", "filter-dump") => (options.get("file"), false),
        ("chardev", "file") => (options.get("path"), false),
        ("chardev", _) => (options.get("logfile"), false),
        (name, _) => (file_of_character_device(name, argument), false),
    };
    let path = path.map(Path::new).filter(|path| path.is_absolute())?;
    Some(CreatedFile { path: path.to_owned(), is_memory })
}

#[cfg(test)]
mod tests {
    use crate::machine::reading::read;

    #[test]
    fn test_created_files_are_those_that_need_not_exist() {
        let definition = r#"{"serial": "file:/a", "args": ["-D", "/b", "-mem-path", "/c", "-parallel", "file:/d"],
            "arguments": [{"object": "memory-backend-file,id=m,size=1G,mem-path=/e"}, {"chardev": "file,id=f,path=/f"},
                {"chardev": "null,id=n,logfile=/g"}, {"object": "filter-dump,id=d,netdev=n,file=/h"},
                {"monitor": "unix:/x,server=on"}, {"serial": "pipe:/x"}, {"chardev": "socket,id=s,path=/x"},
                {"object": "secret,id=s,file=/x"}, {"kernel": "/x"}, {"debugcon": "file:relative"}]}"#;

        let files = read(definition).0.created_files();

        let shown: Vec<String> = files
            .iter()
            .map(|file| format!("{}{}", file.path.display(), if file.is_memory { "!" } else { "" }))
            .collect();
        assert_eq!(shown, ["/a", "/b", "/c!", "/d", "/e!", "/f", "/g", "/h"]);
    }
}
