//! Files of the host that a start needs besides those under `storage` and `firmware`: what it reads, writes and listens at.

use std::path::{Path, PathBuf};

use super::Machine;
use super::keys::file_options::files_of;
use super::written_files::{WrittenAs, WrittenFile};
use crate::first_boot::Seed;
use crate::network::NetworkSpec;
use crate::qemu::OptionString;

/// What a program is to do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileAccess {
    /// Read it; list it, if it is a directory.
    Read,
    /// Write to it, or create it in a directory that exists.
    Write,
    /// Create it, in a directory that exists, in place of what is there.
    Replace,
    /// Connect to it, once another program has created it.
    Connect,
}

/// A file of the host that a start needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedFile {
    /// What of the definition names it: a key, or a switch.
    pub user: String,
    /// Its path, which is absolute.
    pub path: PathBuf,
    /// What is done with it.
    pub access: FileAccess,
}

impl Machine {
    /// Returns the files of the host that a start needs, besides those under `storage` and `firmware`.
    pub fn used_files(&self) -> Vec<UsedFile> {
        let file = |user: &str, path: PathBuf, access| UsedFile { user: user.to_owned(), path, access };
        let read = |user: &'static str| move |path: PathBuf| file(user, path, FileAccess::Read);
        let seed = self.seed.iter().flat_map(Seed::host_files);
        let mut used: Vec<UsedFile> = seed.map(read("`seed`")).collect();
        used.extend(self.credentials.host_files().into_iter().map(read("`credentials`")));
        let sockets = self.network.iter().filter_map(NetworkSpec::own_socket);
        used.extend(sockets.map(|(_, path)| file("`network`", path.into(), FileAccess::Replace)));
        used.extend(self.written_files().into_iter().map(written_file));
        used.extend(self.read_files());
        used.retain(|file| file.path.is_absolute());
        used
    }

    /// Returns the files that the user's switches name and do not write.
    fn read_files(&self) -> Vec<UsedFile> {
        let written: Vec<PathBuf> = self.written_files().into_iter().map(|file| file.path).collect();
        let mut read = Vec::new();
        for (switch, argument) in self.user_switches() {
            let argument = argument.unwrap_or_default();
            let options = OptionString::parse(switch, argument);
            let files = files_of(switch, argument, &options).into_iter().map(Path::new);
            let files = files.filter(|path| written.iter().all(|other| other != path));
            let access = match switch {
                "chardev" | "netdev" | "nic" | "net" => FileAccess::Connect,
                _ => FileAccess::Read,
            };
            let file = |path: &Path| UsedFile { user: format!("`-{switch}`"), path: path.to_owned(), access };
            read.extend(files.map(file));
        }
        read
    }
}

fn written_file(file: WrittenFile) -> UsedFile {
    let WrittenFile { switch, path, written_as } = file;
    let access = match written_as {
        WrittenAs::Memory { .. } | WrittenAs::Output => FileAccess::Write,
        // It is not created.
        WrittenAs::Port => FileAccess::Read,
        WrittenAs::Socket => FileAccess::Replace,
    };
    let is_key = matches!(switch.as_str(), "display" | "serial");
    let user = if is_key { format!("`{switch}`") } else { format!("`-{switch}`") };
    UsedFile { user, path, access }
}

#[cfg(test)]
mod tests {
    use crate::machine::reading::read;

    #[test]
    fn test_used_files_are_those_of_every_key_and_switch() {
        let definition = r#"{"serial": "file:/log",
            "network": [{"name": "net0", "mode": "stream", "listen": "/run/socket"}], "seed": {"user_data": "/seed"},
            "arguments": [{"kernel": "/kernel"}, {"initrd": "/initrd"}, {"chardev": "socket,id=c,path=/in"},
                {"chardev": "socket,id=d,path=/out,server=on,wait=off"}, {"drive": "file=/image,format=raw"}]}"#;

        let files = read(definition).0.used_files();

        let shown: Vec<String> =
            files.iter().map(|file| format!("{} {} {:?}", file.user, file.path.display(), file.access)).collect();
        assert_eq!(
            shown,
            [
                "`seed` /seed Read",
                "`network` /run/socket Replace",
                "`serial` /log Write",
                "`-chardev` /out Replace",
                "`-kernel` /kernel Read",
                "`-initrd` /initrd Read",
                "`-chardev` /in Connect",
                "`-drive` /image Read",
            ]
        );
    }
}
