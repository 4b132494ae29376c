//! The port [`Host`]: facts about this host and the calling user.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use maqet_domain::history::Actor;
use maqet_domain::machine::UsbDevice;
use maqet_domain::port::{Host, HostFacts, Kvm, PortObstacle};
use maqet_domain::qmp::wording::Endpoint;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::system::uname;

use crate::limits::MAX_CPUINFO_BYTES;
use crate::port_user::{port_obstacle, socket_obstacle};
use crate::usb_access::{UsbDirectories, refused_file};

const USB_LIST: &str = "/sys/bus/usb/devices";

const USB_FILES: &str = "/dev/bus/usb";

/// This host; each fact is determined once, when it is first needed.
#[derive(Debug, Default)]
pub struct LocalHost {
    login_name: Option<String>,
    name: Option<String>,
    facts: OnceLock<HostFacts>,
    actor: OnceLock<Actor>,
}

impl LocalHost {
    /// Creates it; `login_name` is used for a user without an entry in `/etc/passwd`.
    pub const fn new(login_name: Option<String>) -> Self {
        Self { login_name, name: None, facts: OnceLock::new(), actor: OnceLock::new() }
    }

    /// Gives it a name that is not that of the kernel.
    #[must_use]
    pub fn with_name(self, name: Option<String>) -> Self {
        Self { name, ..self }
    }

    fn user(&self) -> String {
        let uid = rustix::process::getuid().as_raw();
        let passwd = fs::read("/etc/passwd").unwrap_or_default();
        user_name(uid, &passwd).or_else(|| self.login_name.clone()).unwrap_or_else(|| uid.to_string())
    }
}

impl Host for LocalHost {
    fn facts(&self) -> HostFacts {
        let is_root = || rustix::process::geteuid().is_root();
        let read = || HostFacts { architecture: architecture().to_owned(), kvm: kvm(), is_root: is_root() };
        self.facts.get_or_init(read).clone()
    }

    fn cpu_flags(&self) -> Vec<String> {
        cpu_flags()
    }

    fn port_obstacle(&self, endpoint: &Endpoint) -> Option<PortObstacle> {
        port_obstacle(endpoint)
    }

    fn socket_obstacle(&self, path: &Path) -> Option<PortObstacle> {
        socket_obstacle(path)
    }

    fn has_interface(&self, name: &str) -> Option<bool> {
        // That of this network namespace; `/sys` may be of another one.
        has_interface(&fs::read_to_string("/proc/self/net/dev").ok()?, name)
    }

    fn refused_usb_file(&self, device: &UsbDevice) -> Option<PathBuf> {
        let directories = UsbDirectories { list: Path::new(USB_LIST), files: Path::new(USB_FILES) };
        // As the user that QEMU runs as; a file that does not exist, as in a container, is refused too.
        let may_open = |file: &Path| accessat(CWD, file, Access::READ_OK | Access::WRITE_OK, AtFlags::EACCESS).is_ok();
        refused_file(directories, device, may_open)
    }

    fn actor(&self) -> Actor {
        let read = || Actor {
            user: self.user(),
            host: self.name.clone().unwrap_or_else(|| uname().nodename().to_string_lossy().into_owned()),
            pid: std::process::id(),
        };
        self.actor.get_or_init(read).clone()
    }
}

/// Finds a network interface in `/proc/net/dev` (proc(5)), whose first two lines are a heading.
fn has_interface(devices: &str, name: &str) -> Option<bool> {
    let mut names = devices.lines().skip(2).filter_map(|line| line.trim_start().split(':').next());
    // A kernel without the table has no heading either.
    devices.lines().nth(1).map(|_| names.any(|known| known == name))
}

/// Finds the name of a user in `/etc/passwd` (passwd(5)).
fn user_name(uid: u32, passwd: &[u8]) -> Option<String> {
    let passwd = String::from_utf8_lossy(passwd);
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// Returns the architecture of this program as in `qemu-system-…`.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86" => "i386",
        "powerpc" => "ppc",
        "powerpc64" => "ppc64",
        other => other,
    }
}

fn kvm() -> Kvm {
    let device = Path::new("/dev/kvm");
    if let Err(error) = File::options().read(true).write(true).open(device) {
        return Kvm::Unusable(match error.kind() {
            io::ErrorKind::NotFound => "`/dev/kvm` does not exist".to_owned(),
            io::ErrorKind::PermissionDenied => {
                "no permission to open `/dev/kvm`; usually its group is `kvm`".to_owned()
            }
            _ => format!("cannot open `/dev/kvm`: {error}"),
        });
    }
    if !matches!(std::env::consts::ARCH, "x86" | "x86_64") {
        return Kvm::Usable;
    }
    if cpu_flags().iter().any(|flag| matches!(flag.as_str(), "vmx" | "svm")) {
        Kvm::Usable
    } else {
        Kvm::Hanging("the CPU has neither `vmx` nor `svm`, and guests would hang".to_owned())
    }
}

/// Returns the flags of the first CPU, which are enough: the file is large on a host with many.
fn cpu_flags() -> Vec<String> {
    let cpuinfo = File::open("/proc/cpuinfo").map(|file| BufReader::new(file.take(MAX_CPUINFO_BYTES)));
    cpuinfo.map(read_flags).unwrap_or_default()
}

fn read_flags(cpuinfo: impl BufRead) -> Vec<String> {
    // ARM calls them features.
    let is_list = |line: &String| line.starts_with("flags") || line.starts_with("Features");
    let line = cpuinfo.lines().map_while(Result::ok).find(is_list).unwrap_or_default();
    let (_, flags) = line.split_once(':').unwrap_or_default();
    let mut flags: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
    flags.sort_unstable();
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_has_interface_reads_the_names_of_the_table() {
        let table = "Inter-|   Receive\n face |bytes\n    lo: 1 2\n  tap0:   3\n";

        let found = ["lo", "tap0", "tap", "face ", ""].map(|name| has_interface(table, name));

        assert_eq!(found, [Some(true), Some(true), Some(false), Some(false), Some(false)]);
        assert_eq!(has_interface("", "lo"), None);
        assert_eq!(LocalHost::new(None).has_interface("lo"), Some(true));
    }

    #[test]
    fn test_read_flags_are_those_of_the_first_cpu() {
        let flags = |text: &str| read_flags(text.as_bytes());

        assert_eq!(flags("processor\t: 0\nflags\t\t: fpu vmx sse\nflags\t\t: mmx\n"), ["fpu", "sse", "vmx"]);
        assert_eq!(flags("flags\t\t: fpu vmx_extra\nvmx flags\t: vnmi vmx\n"), ["fpu", "vmx_extra"]);
        assert_eq!(flags("Features\t: fp asimd\n"), ["asimd", "fp"]);
        assert_eq!(flags(""), [""; 0]);
    }

    #[test]
    fn test_user_name_matches_third_field() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nbroken\nann:x:1000:7:Ann,,:/home/ann:/bin/sh\n";

        assert_eq!(user_name(1000, passwd), Some("ann".to_owned()));
        assert_eq!(user_name(7, passwd), None);
    }

    #[test]
    fn test_actor_is_this_process_and_user() {
        let actor = LocalHost::new(Some("ann".to_owned())).actor();

        assert_eq!(actor.pid, std::process::id());
        assert!(!actor.user.is_empty() && !actor.host.is_empty());
    }
}
