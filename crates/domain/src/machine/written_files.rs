//! Files that QEMU writes besides images: logs, the output of ports, recordings, sockets and memory. QEMU has no lock for
//! them, and empties or replaces most of them without a question.

use std::path::{Path, PathBuf};

use super::keys::{CHARACTER_DEVICES, file_of_character_device, listener_of_character_device, log_of_character_device};
use super::switches::UserSwitch;
use super::{Machine, Serial};
use crate::config::{KeyPath, Node};
use crate::qemu::{OptionString, switch_values};

/// What QEMU does to a file that it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrittenAs {
    /// It holds the guest's memory; created if it does not exist. Private memory leaves the content as it is.
    Memory {
        /// Whether what the guest writes gets into the file.
        is_shared: bool,
    },
    /// It is emptied, or created.
    Output,
    /// It is written as it is, if it exists: a pipe, a port of the host.
    Port,
    /// It is removed, for a socket of this name.
    Socket,
}

/// The keys of which the value is the argument of a switch that can name such a file.
const KEYS: [&str; 2] = ["display", "serial"];

/// The file in QEMU's directory that the audio backend `wav` writes without a `path` (7.2, 10.0).
const DEFAULT_WAV: &str = "/qemu.wav";

/// A file that QEMU writes for a switch of the user, or a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenFile {
    /// The switch, without hyphens.
    pub switch: String,
    /// Its path, which is absolute.
    pub path: PathBuf,
    /// What QEMU does to it.
    pub written_as: WrittenAs,
}

impl Machine {
    /// Returns the files that QEMU writes for the user's switches and the keys, besides images.
    pub fn written_files(&self) -> Vec<WrittenFile> {
        let serial = if let Serial::Qemu(text) = &self.serial { Some(("serial", text.as_str())) } else { None };
        let display = if self.has_switch("nographic") { None } else { Some(("display", self.display.as_str())) };
        let keys = [display, serial].into_iter().flatten().filter(|(switch, _)| !self.has_switch(switch));
        let switches = self.user_switches().filter_map(|(name, argument)| Some((name, argument?)));
        keys.chain(switches).flat_map(|(name, argument)| written_files(name, argument)).collect()
    }

    /// Returns them with their positions in the definition.
    pub fn written_files_in<'d>(&self, definition: &'d Node) -> Vec<(KeyPath, &'d Node, WrittenFile)> {
        let switches = self.switches_in(definition).into_iter();
        let switches = switches.filter(|switch| !switch.is_key || KEYS.contains(&switch.name.as_str()));
        let files = |switch: UserSwitch<'d>| {
            let files = written_files(&switch.name, &switch.argument).into_iter();
            files.map(move |file| (switch.at.clone(), switch.node, file))
        };
        switches.flat_map(files).collect()
    }
}

/// Returns the files that a command line names for something else than to be such a file.
pub fn files_used_otherwise(args: &[String]) -> Vec<PathBuf> {
    let of_switch = |(switch, argument): (&str, &str)| {
        let written = written_files(switch, argument);
        let options = OptionString::parse(switch, argument);
        let values = options.iter().map(|option| option.value.strip_prefix("file:").unwrap_or(&option.value));
        let paths = values.map(PathBuf::from).filter(|path| path.is_absolute());
        let others = paths.filter(|path| written.iter().all(|file| file.path != *path));
        others.collect::<Vec<_>>()
    };
    switch_values(args).flat_map(of_switch).collect()
}

fn written_files(switch: &str, argument: &str) -> Vec<WrittenFile> {
    let options = OptionString::parse(switch, argument);
    let is_server = || options.is_on("server") == Some(true) && options.is_on("abstract") != Some(true);
    let output = |path| vec![(path, WrittenAs::Output)];
    let of_network = || [options.get("addr.path").filter(|_| is_server()), options.get("local.path")];
    let log = if CHARACTER_DEVICES.contains(&switch) { log_of_character_device(argument) } else { None };
    let found: Vec<(Option<&str>, WrittenAs)> = match (switch, options.head()) {
        ("D", _) => output(Some(argument)),
        ("mem-path", _) => vec![(Some(argument), WrittenAs::Memory { is_shared: false })],
        ("object", "memory-backend-file") => {
            let is_shared = options.is_on("share") == Some(true) && options.is_on("readonly") != Some(true);
            vec![(options.get("mem-path"), WrittenAs::Memory { is_shared })]
        }
        ("object", "filter-dump") | ("trace", _) => output(options.get("file")),
        ("device", _) => output(options.get("pcap")),
        ("audiodev" | "audio", "wav") => output(options.get("path").or(Some(DEFAULT_WAV))),
        ("icount", _) if options.get("rr") == Some("record") => output(options.get("rrfile")),
        ("chardev", kind) => {
            let path = match kind {
                "file" => Some(WrittenAs::Output),
                "serial" | "tty" | "parallel" | "parport" | "pipe" => Some(WrittenAs::Port),
                "socket" if is_server() => Some(WrittenAs::Socket),
                _ => None,
            };
            let path = path.map(|written_as| (options.get("path"), written_as));
            path.into_iter().chain(output(options.get("logfile"))).collect()
        }
        ("netdev", "stream" | "dgram") => of_network().map(|path| (path, WrittenAs::Socket)).to_vec(),
        ("vnc" | "incoming", head) => vec![(head.strip_prefix("unix:"), WrittenAs::Socket)],
        ("display", _) => vec![(options.get("vnc").and_then(|screen| screen.strip_prefix("unix:")), WrittenAs::Socket)],
        ("spice", _) if options.is_on("unix") == Some(true) => vec![(options.get("addr"), WrittenAs::Socket)],
        (name, _) if CHARACTER_DEVICES.contains(&name) => vec![
            (file_of_character_device(argument), WrittenAs::Output),
            (listener_of_character_device(argument), WrittenAs::Socket),
            (log.as_deref(), WrittenAs::Output),
            (argument.strip_prefix("pipe:").or(Some(argument)), WrittenAs::Port),
        ],
        _ => Vec::new(),
    };
    let absolute = found.into_iter().filter_map(|(path, written_as)| Some((Path::new(path?), written_as)));
    let absolute = absolute.filter(|(path, _)| path.is_absolute());
    let file =
        |(path, written_as): (&Path, _)| WrittenFile { switch: switch.to_owned(), path: path.to_owned(), written_as };
    absolute.map(file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::reading::read;

    fn shown(definition: &str) -> Vec<String> {
        let show = |file: WrittenFile| {
            let kind = match file.written_as {
                WrittenAs::Memory { is_shared } if is_shared => "shared memory",
                WrittenAs::Memory { .. } => "memory",
                WrittenAs::Output => "output",
                WrittenAs::Port => "port",
                WrittenAs::Socket => "socket",
            };
            format!("{} {kind} {}", file.switch, file.path.display())
        };
        read(definition).0.written_files().into_iter().map(show).collect()
    }

    #[test]
    fn test_written_files_are_those_of_every_switch() {
        assert_eq!(
            shown(
                r#"{"serial": "file:/a", "args": ["-D", "/b", "-mem-path", "/c", "-parallel", "file:/d"],
                "arguments": [{"object": "memory-backend-file,id=m,size=1G,mem-path=/e"}, {"chardev": "file,id=f,path=/f"},
                    {"chardev": "null,id=n,logfile=/g"}, {"object": "filter-dump,id=d,netdev=n,file=/h"},
                    {"object": "memory-backend-file,id=m,size=1G,mem-path=/i,share=on"},
                    {"audiodev": "wav,id=w,path=/j"}, {"icount": "shift=1,rr=record,rrfile=/k"}, {"trace": "file=/l"},
                    {"device": "usb-tablet,pcap=/m"}, {"debugcon": "file:/n"}, {"monitor": "mon:file:/o"},
                    {"audio": "driver=wav,model=hda,path=/p"}, {"audiodev": "wav,id=v"}, {"qmp": "tcp:127.0.0.1:1,server=on,logfile=/q"},
                    {"gdb": "unix:/x,logfile=/r"}]}"#
            ),
            [
                "serial output /a",
                "D output /b",
                "mem-path memory /c",
                "parallel output /d",
                "object memory /e",
                "chardev output /f",
                "chardev output /g",
                "object output /h",
                "object shared memory /i",
                "audiodev output /j",
                "icount output /k",
                "trace output /l",
                "device output /m",
                "debugcon output /n",
                "monitor output /o",
                "audio output /p",
                "audiodev output /qemu.wav",
                "qmp output /q",
                "gdb output /r",
            ]
        );
        assert_eq!(
            shown(
                r#"{"arguments": [{"monitor": "unix:/a,server=on,wait=off"}, {"serial": "pipe:/b"}, {"serial": "/dev/c"},
                {"chardev": "socket,id=s,path=/d,server=on"}, {"chardev": "tty,id=t,path=/e"}, {"vnc": "unix:/f"},
                {"netdev": "stream,id=n,server=on,addr.type=unix,addr.path=/g"}, {"spice": "unix=on,addr=/h"},
                {"qmp": "unix:/i,server=yes,wait=off"}], "display": "vnc=unix:/z,share=ignore"}"#
            ),
            [
                "display socket /z", "monitor socket /a", "serial port /b", "serial port /dev/c", "chardev socket /d",
                "chardev port /e", "vnc socket /f", "netdev socket /g", "spice socket /h", "qmp socket /i",
            ]
        );
        // What is only read, or connected to.
        let read = r#"{"arguments": [{"chardev": "socket,id=s,path=/x"}, {"object": "secret,id=s,file=/x"},
            {"kernel": "/x"}, {"debugcon": "file:relative"}, {"icount": "shift=1,rr=replay,rrfile=/x"},
            {"monitor": "unix:/x"}, {"audiodev": "oss,id=w,path=/x"}, {"spice": "addr=/x"},
            {"chardev": "socket,id=a,path=/x,server=on,abstract=on"}, {"audio": "driver=pa,path=/x"},
            {"parallel": "file:,logfile=/x"}, {"display": "gtk,vnc=/x"}, {"nographic": null}],
            "display": "vnc=unix:/x"}"#;
        assert_eq!(shown(read), [""; 0]);
    }

    #[test]
    fn test_files_used_otherwise_are_those_not_written_so() {
        let args = [
            "-serial",
            "file:/a",
            "-drive",
            "file=/a,,b,format=raw",
            "-hda",
            "file:/c",
            "-kernel",
            "/k",
            "-D",
            "/l",
            "-blockdev",
            r#"{"driver":"raw","file":{"driver":"file","filename":"/d"}}"#,
            "-bios",
            "name",
        ];
        let args = args.map(str::to_owned);

        let expected = ["/a,b", "/c", "/k", "/d"].map(PathBuf::from);
        assert_eq!(files_used_otherwise(&args), expected);
    }
}
