//! Why QEMU did not start, if its message is known: the cause, and what helps.

use std::borrow::Cow;
use std::path::Path;

use maqet_domain::command_line::CommandLine;
use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::machine::{self, Machine};
use maqet_domain::port::{ImageUser, LaunchError, PortObstacle};
use maqet_domain::qemu::option_value;
use maqet_domain::qmp::wording::{Endpoint, Lookup, NameList, Names, Recognized, recognize};
use maqet_domain::text::{did_you_mean, quote, similar};
use maqet_domain::vm::VmName;

use super::image_owner::{ImageOwner, image_owner};
use crate::App;

/// A start that failed for a known reason.
#[derive(Debug, thiserror::Error)]
#[error("VM `{vm}` failed to start: {cause}")]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct StartFailure {
    pub vm: VmName,
    pub cause: String,
    pub explanation: Explanation,
    pub source: Option<LaunchError>,
}

impl Explain for StartFailure {
    fn explain(&self) -> Explanation {
        self.explanation.clone()
    }
}

/// Returns what QEMU's message says about a failed launch, and what else can be found out about it; the error itself if
/// they are not known.
pub(crate) async fn diagnose(
    app: &App,
    vm: &VmName,
    machine: &Machine,
    command_line: &CommandLine,
    source: LaunchError,
) -> Result<StartFailure, LaunchError> {
    let (stderr, status) = match &source {
        LaunchError::Exited { status, stderr_tail } => (stderr_tail.as_str(), status.as_str()),
        LaunchError::HelperFailed { stderr_tail, .. } => (stderr_tail.as_str(), ""),
        _ => return Err(source),
    };
    let Some(recognized) = recognize(stderr, status) else { return Err(source) };
    let (cause, explanation) = Diagnosis { app, vm, machine, command_line, recognized }.make().await;
    Ok(StartFailure { vm: vm.clone(), cause, explanation, source: Some(source) })
}

/// What a diagnosis is made of.
struct Diagnosis<'a> {
    app: &'a App,
    vm: &'a VmName,
    machine: &'a Machine,
    command_line: &'a CommandLine,
    recognized: Recognized<'a>,
}

impl Diagnosis<'_> {
    /// Returns the cause, and the explanation.
    async fn make(&self) -> (String, Explanation) {
        let message = self.recognized.message;
        let binary = self.command_line.binary().to_string_lossy();
        let version = self.app.ports.hypervisor.binary(&binary).await.map(|found| format!("QEMU {}", found.version));
        let names = Names {
            vm: self.vm.as_str(),
            qemu: version.as_deref().unwrap_or("QEMU"),
            binary: &quote(&binary),
            machine: machine_type(self.command_line.args()).unwrap_or("default"),
            bridge: &bridge(self.command_line.args()),
            kvm: &self.app.preflight().kvm_obstacle(self.machine),
        };
        let mut explanation = Explanation::new(message.code, message.fault);
        let part = self.recognized.parts.first().copied().unwrap_or_default();
        match message.lookup {
            Lookup::Nothing | Lookup::Kvm => {}
            Lookup::Names(list) => {
                // A CPU model is followed by its features.
                let known = self.app.ports.hypervisor.names(self.command_line.binary(), list).await;
                explanation.hints.extend(did_you_mean(&similar(part, known.iter().map(String::as_str))));
            }
            Lookup::MachineType => {
                let known = self.app.ports.hypervisor.names(self.command_line.binary(), NameList::Machine).await;
                explanation.hints.extend(did_you_mean(&similar(names.machine, known.iter().map(String::as_str))));
            }
            Lookup::ForwardedPort => return self.port(Endpoint::of_rule(part), &names).await,
            Lookup::ListeningPort => {
                return self.port(self.recognized.switch.and_then(Endpoint::of_switch), &names).await;
            }
            Lookup::Socket => explanation.hints.extend(self.server_hints(part)),
            Lookup::File => explanation.hints.extend(relative_path_hint(part)),
        }
        explanation.hints.extend(self.recognized.hints(&names));
        (self.recognized.cause(&names), explanation)
    }

    /// Returns what keeps QEMU from a port.
    async fn port(&self, endpoint: Option<Endpoint>, names: &Names<'_>) -> (String, Explanation) {
        let message = self.recognized.message;
        let unknown = Explanation::new(message.code, message.fault)
            .hint("choose another port; as the host port of a `forward`, 0 takes a free one");
        let Some(endpoint) = endpoint else { return (self.recognized.cause(names), unknown) };
        match self.app.ports.host.port_obstacle(&endpoint) {
            Some(obstacle) => port_obstacle(self.app, &endpoint, obstacle).await,
            None => (format!("{endpoint} could not be used, and is free now"), unknown.hint("try again")),
        }
    }

    /// Returns how to start the program that serves a socket, by what uses its character device.
    fn server_hints(&self, socket: &str) -> Vec<String> {
        let socket = quote(socket);
        let argument = self.recognized.switch.and_then(|switch| switch.split_once(' '));
        let id = argument.and_then(|(_, argument)| option_value(argument, "id"));
        let is_user = |kind: &str| {
            let of_id = |arg: &&String| {
                arg.contains(kind) && id.is_some() && option_value(arg, "chardev").as_deref() == id.as_deref()
            };
            self.command_line.args().iter().any(|arg| of_id(&arg))
        };
        if is_user("vhost-user-fs") {
            return vec![virtiofsd_hint(&socket)];
        }
        // `-tpmdev emulator,id=tpm,chardev=t`
        if is_user("emulator") {
            return vec![format!(
                "start it first: `swtpm socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,path={socket} --daemon` \
                 (Debian: `apt install swtpm`)"
            )];
        }
        vec![format!("start the program that listens at {socket} first, or correct the path")]
    }
}

/// Returns what keeps a program from a port, and what helps.
pub(super) async fn port_obstacle(app: &App, endpoint: &Endpoint, obstacle: PortObstacle) -> (String, Explanation) {
    match obstacle {
        PortObstacle::InUse(user) => {
            let user = user.map(|user| ImageUser { pid: user.pid, program: user.program });
            let explanation = Explanation::new("host.port-in-use", Fault::Busy);
            let (by, stop) = match (image_owner(app, user.as_ref()).await, &user) {
                (ImageOwner::Vm(vm), _) => (format!("VM `{vm}`"), format!("stop it with `maqet stop {vm}`")),
                (_, Some(user)) => (
                    format!("`{}` (process {})", user.program.escape_debug(), user.pid),
                    format!("stop process {}", user.pid),
                ),
                (_, None) => (
                    "a process of another user".to_owned(),
                    format!(
                        "find it with `sudo ss -lnup '( sport = :{0} )'; sudo ss -lntp '( sport = :{0} )'`",
                        endpoint.port
                    ),
                ),
            };
            let other = "choose another port; as the host port of a `forward`, 0 takes a free one";
            (format!("{endpoint} is in use by {by}"), explanation.hint(stop).hint(other))
        }
        PortObstacle::Privileged => (
            format!("{endpoint} is one of the low ports, which only root may use"),
            Explanation::new("host.port-refused", Fault::Host)
                .hint("choose a port of 1024 or more")
                .hint(format!("permit it: `sudo sysctl net.ipv4.ip_unprivileged_port_start={}`", endpoint.port)),
        ),
        PortObstacle::NoAddress => (
            format!("no network interface of the host has the address {}", endpoint.address),
            Explanation::new("host.address-not-found", Fault::Host)
                .hint("use 127.0.0.1, or 0.0.0.0 for all interfaces; `ip address` lists the addresses"),
        ),
    }
}

/// Returns how to start a virtiofsd at a socket, which is quoted.
pub(crate) fn virtiofsd_hint(socket: &str) -> String {
    format!(
        "start it first: `/usr/libexec/virtiofsd --socket-path={socket} --shared-dir=DIR` (Debian: `apt install virtiofsd`)"
    )
}

/// Returns what helps if a file is missing because its path is relative.
fn relative_path_hint(path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    Some(if path.starts_with('~') {
        "write the path in full: QEMU does not expand `~`".to_owned()
    } else if path.contains('/') {
        "write the path in full: QEMU runs in `/`".to_owned()
    } else {
        format!(
            "write `./{path}` for a file beside the YAML file: QEMU runs in `/`, and looks for names among its own files"
        )
    })
}

/// Returns how many arguments name a file.
pub(crate) fn uses_of(args: &[String], path: &Path) -> usize {
    let path = path.to_string_lossy().replace(',', ",,");
    let names_it = |arg: &&String| {
        arg.match_indices(path.as_str()).any(|(at, _)| {
            let (before, after) = (&arg[..at], &arg[at + path.len()..]);
            let is_end = after.is_empty() || after.starts_with(['"', ',']);
            is_end && (before.is_empty() || before.ends_with(['=', '"', ':']))
        })
    };
    args.iter().filter(names_it).count()
}

/// Returns the machine type of a command line, which is the last one that is given.
fn machine_type(args: &[String]) -> Option<&str> {
    let mut values =
        args.windows(2).filter(|pair| matches!(pair[0].as_str(), "-machine" | "--machine" | "-M" | "--M")).rev();
    values.find_map(|pair| machine::machine_type(&pair[1]))
}

/// Returns the bridge of the first network card that is attached to one; QEMU's default is `br0`.
fn bridge(args: &[String]) -> Cow<'_, str> {
    let of_bridge = |arg: &&String| arg.starts_with("bridge,") || arg.starts_with("tap,");
    let mut bridges = args.iter().filter(of_bridge).filter_map(|arg| option_value(arg, "br"));
    bridges.next().unwrap_or(Cow::Borrowed("br0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_machine_type_is_the_last_that_is_given() {
        let of = |args: &[&str]| {
            let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
            machine_type(&args).map(str::to_owned)
        };

        assert_eq!(of(&["-machine", "q35,usb=on", "-machine", "pflash0=x"]).as_deref(), Some("q35"));
        assert_eq!(of(&["-M", "q35", "-machine", "usb=on,type=pc"]).as_deref(), Some("pc"));
        assert_eq!(of(&["-m", "1G"]), None);
    }

    #[test]
    fn test_uses_of_counts_arguments_with_the_whole_path() {
        let args = ["-drive", "file=/d/a,if=ide", "-hda", "/d/a", "-drive", "file=/d/a.bak", "-hdb", "/x/d/a"];
        let args = args.map(str::to_owned);

        assert_eq!(uses_of(&args, Path::new("/d/a")), 2);
        assert_eq!(uses_of(&args, Path::new("/d/b")), 0);
    }

    #[test]
    fn test_relative_path_hint_says_where_qemu_looks() {
        assert_eq!(relative_path_hint("/boot/x"), None);
        assert!(relative_path_hint("~/x").unwrap().contains("expand"));
        assert!(relative_path_hint("a/x").unwrap().contains("in full"));
        assert!(relative_path_hint("OVMF.fd").unwrap().contains("`./OVMF.fd`"));
    }
}
