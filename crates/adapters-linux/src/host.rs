//! The port [`Host`]: what this host is, what it can, and who is asking.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::OnceLock;

use maqet_domain::history::Actor;
use maqet_domain::port::{Host, HostFacts, Kvm};

use crate::limits::CPUINFO_BYTES;

/// This host; looked at when first asked, and then not again.
#[derive(Debug, Default)]
pub struct LocalHost {
    login_name: Option<String>,
    facts: OnceLock<HostFacts>,
    actor: OnceLock<Actor>,
}

impl LocalHost {
    /// Makes one; `login_name` is used for a user whom `/etc/passwd` does not know.
    pub const fn new(login_name: Option<String>) -> Self {
        Self { login_name, facts: OnceLock::new(), actor: OnceLock::new() }
    }

    fn user(&self) -> String {
        let uid = rustix::process::getuid().as_raw();
        let passwd = fs::read("/etc/passwd").unwrap_or_default();
        name_of(uid, &passwd).or_else(|| self.login_name.clone()).unwrap_or_else(|| uid.to_string())
    }
}

impl Host for LocalHost {
    fn facts(&self) -> HostFacts {
        let is_root = || rustix::process::geteuid().is_root();
        let look = || HostFacts { architecture: architecture().to_owned(), kvm: kvm(), is_root: is_root() };
        self.facts.get_or_init(look).clone()
    }

    fn actor(&self) -> Actor {
        let look = || Actor {
            user: self.user(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            pid: std::process::id(),
        };
        self.actor.get_or_init(look).clone()
    }
}

/// Returns the name of a user from the content of `/etc/passwd` (passwd(5)).
fn name_of(uid: u32, passwd: &[u8]) -> Option<String> {
    let passwd = String::from_utf8_lossy(passwd);
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// Returns the architecture of this program as QEMU spells it in `qemu-system-…`.
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
    if let Err(why) = File::options().read(true).write(true).open(device) {
        return Kvm::Unusable(match why.kind() {
            io::ErrorKind::NotFound => "there is no `/dev/kvm`".to_owned(),
            io::ErrorKind::PermissionDenied => {
                "`/dev/kvm` may not be opened by this user; the group `kvm` usually may".to_owned()
            }
            _ => format!("`/dev/kvm` cannot be opened: {why}"),
        });
    }
    if !matches!(std::env::consts::ARCH, "x86" | "x86_64") {
        return Kvm::Usable;
    }
    // The flags of the first CPU are enough, and the file has a page for each.
    let cpuinfo = File::open("/proc/cpuinfo").map(|file| BufReader::new(file.take(CPUINFO_BYTES)));
    if cpuinfo.is_ok_and(has_virtualisation) {
        Kvm::Usable
    } else {
        Kvm::Unusable("the CPU has neither `vmx` nor `svm`; guests hang in KVM".to_owned())
    }
}

fn has_virtualisation(cpuinfo: impl BufRead) -> bool {
    cpuinfo
        .lines()
        .map_while(Result::ok)
        .find(|line| line.starts_with("flags"))
        .is_some_and(|line| line.split_whitespace().any(|flag| matches!(flag, "vmx" | "svm")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_virtualisation_is_a_flag_of_its_own() {
        assert!(has_virtualisation("processor\t: 0\nflags\t\t: fpu vmx sse\n".as_bytes()));
        assert!(has_virtualisation("flags\t\t: fpu svm\n".as_bytes()));
        assert!(!has_virtualisation("flags\t\t: fpu vmx_extra\nvmx flags\t: vnmi vmx\n".as_bytes()));
        assert!(!has_virtualisation("".as_bytes()));
    }

    #[test]
    fn test_name_of_user_comes_from_the_third_field() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nbroken\nann:x:1000:7:Ann,,:/home/ann:/bin/sh\n";

        assert_eq!(name_of(1000, passwd), Some("ann".to_owned()));
        assert_eq!(name_of(7, passwd), None);
    }

    #[test]
    fn test_actor_is_this_process_of_a_named_user() {
        let actor = LocalHost::new(Some("somebody".to_owned())).actor();

        assert_eq!(actor.pid, std::process::id());
        assert!(!actor.user.is_empty() && !actor.host.is_empty());
    }
}
