//! Why QEMU did not start, if its message is known: the cause, and what helps.

use std::borrow::Cow;
use std::path::Path;

use maqet_domain::command_line::CommandLine;
use maqet_domain::error::{Explain, Explanation};
use maqet_domain::machine::{self, Machine};
use maqet_domain::port::LaunchError;
use maqet_domain::qemu::option_value;
use maqet_domain::qmp::wording::{Endpoint, Lookup, NameList, Names, Recognized, recognize};
use maqet_domain::text::{did_you_mean, quote, similar};
use maqet_domain::vm::VmName;

use super::tpm::TPM_NAME;
use crate::App;

mod files;
mod ports;

use self::files::relative_path_hint;
pub(crate) use self::files::uses_of;
pub(super) use self::ports::port_obstacle;

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
    let Some(recognized) = recognize(stderr, status, command_line.args()) else { return Err(source) };
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
            binary: &binary,
            machine: machine_type(self.command_line.args()).unwrap_or("default"),
            bridge: &bridge(self.command_line.args()),
            kvm: &self.app.preflight().kvm_obstacle(self.machine),
        };
        let mut explanation = Explanation::new(message.code, message.fault);
        let part = self.recognized.parts.first().copied().unwrap_or_default();
        match message.lookup {
            Lookup::Tpm if self.machine.tpm => {
                let path = quote(&self.app.preflight().tpm_state(self.vm).to_string_lossy());
                explanation.hints.push(format!(
                    "begin with an empty one, without the keys that the guest keeps in it: `mv {path} {path}.old && maqet \
                     start {} --recreate {TPM_NAME}`",
                    self.vm
                ));
            }
            Lookup::Nothing | Lookup::Kvm | Lookup::Tpm => {}
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
            Lookup::ListeningAddress => return self.port(Endpoint::of_address(part), &names).await,
            Lookup::UnloadedFile => {
                if let Some(reason) = self.unloaded_file(Path::new(part)).await {
                    return reason;
                }
                explanation.hints.extend(relative_path_hint(part));
            }
            Lookup::ImageFormat => explanation.hints.extend(self.format_hint().await),
            Lookup::Socket => explanation.hints.extend(self.server_hints(part)),
            Lookup::File => explanation.hints.extend(relative_path_hint(part)),
        }
        explanation.hints.extend(self.recognized.hints(&names));
        (self.recognized.cause(&names), explanation)
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

/// Returns how to start a virtiofsd at a socket, which is quoted.
pub(crate) fn virtiofsd_hint(socket: &str) -> String {
    format!(
        "start it first: `/usr/libexec/virtiofsd --socket-path={socket} --shared-dir=DIR` (Debian: `apt install virtiofsd`)"
    )
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
}
