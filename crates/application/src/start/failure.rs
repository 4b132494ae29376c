//! Why QEMU did not start, if its message is known: the cause, and what helps.

use std::path::Path;

use maqet_domain::command_line::CommandLine;
use maqet_domain::error::{Explain, Explanation};
use maqet_domain::machine::{self, MACHINE_FLAGS, Machine, models_of};
use maqet_domain::port::LaunchError;
use maqet_domain::qemu::{OptionString, switch_values};
use maqet_domain::qmp::wording::{
    Endpoint, ListedName, Lookup, NameList, Names, Recognized, default_machine_type, near_machine_types, near_names,
    other_architectures_of, recognize,
};
use maqet_domain::text::{did_you_mean, quote};
use maqet_domain::vm::VmName;

use super::tpm::TPM_NAME;
use crate::App;

mod files;
mod memory;
mod ports;

pub(crate) use self::files::uses_of;
pub(super) use self::ports::{port_obstacle, user_and_cure};

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
/// nothing is known, and no switch of the user can be the reason.
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
    let Some(recognized) = recognize(stderr, status, command_line.args()) else {
        let is_refused = status.starts_with("exit code") && !stderr.trim().is_empty();
        return if is_refused { unnamed(vm, machine, source) } else { Err(source) };
    };
    let (cause, explanation) = Diagnosis { app, vm, machine, command_line, recognized }.make().await;
    Ok(StartFailure { vm: vm.clone(), cause, explanation, source: Some(source) })
}

/// Returns what is known of a message that names no switch: which ones of the user it can be about.
fn unnamed(vm: &VmName, machine: &Machine, source: LaunchError) -> Result<StartFailure, LaunchError> {
    let suspects = suspects(machine);
    if suspects.is_empty() {
        return Err(source);
    }
    let explanation = source
        .explain()
        .hint(format!("leave these out one after the other to find the one that it is: {}", suspects.join(", ")))
        .hint(format!("see the command line with `maqet info {vm} --command-line`"));
    let cause = "QEMU refuses an option, and does not say which".to_owned();
    Ok(StartFailure { vm: vm.clone(), cause, explanation, source: Some(source) })
}

/// Returns the switches that QEMU can refuse without naming them: the user's objects, else all of the user's.
fn suspects(machine: &Machine) -> Vec<String> {
    const MAX_SHOWN: usize = 5;
    let shown = |(name, argument): (&str, Option<&str>)| match argument {
        Some(argument) => format!("`-{name} {argument}`"),
        None => format!("`-{name}`"),
    };
    let objects: Vec<String> = machine.user_switches().filter(|(name, _)| *name == "object").map(shown).collect();
    let mut suspects = if objects.is_empty() { machine.user_switches().map(shown).collect() } else { objects };
    suspects.truncate(MAX_SHOWN);
    suspects
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
        let default = self.default_machine_type().await;
        let names = Names {
            vm: self.vm.as_str(),
            qemu: version.as_deref().unwrap_or("QEMU"),
            binary: &binary,
            machine: machine_type(self.command_line.args()).unwrap_or(&default),
            bridge: &bridge(self.command_line.args()),
            kvm: &self.app.preflight().kvm_obstacle(self.machine),
            location: &self.location(),
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
            Lookup::ReplacedSwitch => {
                explanation.hints.extend(self.recognized.switch.as_deref().and_then(replaced_switch));
            }
            Lookup::Numbers => explanation.hints.extend(self.numbers()),
            Lookup::MemoryPath => return self.memory_path(Path::new(part), &names).await,
            Lookup::Nothing | Lookup::Kvm | Lookup::Tpm | Lookup::SwitchHelp => {}
            Lookup::Names(NameList::Device) if self.own_models().await.is_some() => {
                explanation.hints.extend(self.own_models().await);
                return (self.recognized.cause(&names), explanation);
            }
            Lookup::Names(list) => {
                let near = near_names(part, &self.listed(list).await, self.is_network_card());
                explanation.hints.extend(did_you_mean(&near));
            }
            Lookup::MachineType => explanation.hints.extend(self.machine_type_hint(names.machine).await),
            Lookup::ForwardedPort => return self.port(Endpoint::of_rule(part), &names).await,
            Lookup::ListeningPort => {
                return self.port(self.listening_port(), &names).await;
            }
            Lookup::ListeningAddress => return self.port(Endpoint::of_address(part), &names).await,
            Lookup::UnloadedFile => {
                if let Some(reason) = self.unloaded_file(Path::new(part)).await {
                    return reason;
                }
                explanation.hints.extend(self.relative_path_hint(part));
            }
            Lookup::ImageFormat => explanation.hints.extend(self.format_hint().await),
            Lookup::Socket => explanation.hints.extend(self.server_hints(part)),
            Lookup::File => explanation.hints.extend(self.relative_path_hint(part)),
        }
        explanation.hints.extend(self.recognized.hints(&names));
        (self.recognized.cause(&names), explanation)
    }

    /// Returns the names that QEMU prints in a list.
    async fn listed(&self, list: NameList) -> Vec<ListedName> {
        self.app.ports.hypervisor.names(self.command_line.binary(), list).await
    }

    /// Returns which models a key of the definition can have with this QEMU, if the device of the message is that of a key.
    async fn own_models(&self) -> Option<String> {
        let (_, argument) = self.recognized.switch.as_deref()?.split_once(' ')?;
        let id = OptionString::parse("device", argument).get("id")?.to_owned();
        let listed = self.listed(NameList::Device).await;
        let (key, models) = models_of(&id, |driver| listed.iter().any(|device| device.name == driver))?;
        let models: Vec<String> = models.iter().map(|model| format!("`{model}`")).collect();
        let models = if models.is_empty() { "none".to_owned() } else { models.join(", ") };
        Some(format!("set another `model` under `{key}`; those of this QEMU: {models}"))
    }

    /// Returns the largest numbers among the options of the user's switches, on which a QEMU that crashes may do so.
    fn numbers(&self) -> Option<String> {
        const MAX_SHOWN: usize = 3;
        let mut numbers: Vec<(u64, String)> = Vec::new();
        for (name, argument) in self.machine.user_switches() {
            let options = OptionString::parse(name, argument.unwrap_or_default());
            let of_switch = options.iter().filter_map(|option| Some((option.value.parse().ok()?, option)));
            let shown = of_switch.map(|(number, option)| (number, format!("`{}={number}` of `-{name}`", option.key)));
            numbers.extend(shown);
        }
        numbers.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        let shown: Vec<String> = numbers.into_iter().map(|(_, shown)| shown).take(MAX_SHOWN).collect();
        if shown.is_empty() { None } else { Some(format!("set smaller numbers, as for {}", shown.join(", "))) }
    }

    /// Returns the machine type that QEMU has taken, if none is given and the message names it.
    async fn default_machine_type(&self) -> String {
        let is_given = machine_type(self.command_line.args()).is_some();
        if is_given || !self.recognized.message.cause.contains("<machine>") {
            return String::new();
        }
        default_machine_type(&self.listed(NameList::Machine).await).unwrap_or("none").to_owned()
    }

    /// Returns the machine types that are meant instead of one that QEMU does not have, or the architecture that has it.
    async fn machine_type_hint(&self, wanted: &str) -> Option<String> {
        let listed = self.listed(NameList::Machine).await;
        let others = other_architectures_of(wanted, &listed);
        if let Some(first) = others.first() {
            let all: Vec<String> = others.iter().map(|other| format!("`{other}`")).collect();
            return Some(format!("`{wanted}` is a machine type of {}: set `arch: {first}`", all.join(" and ")));
        }
        did_you_mean(&near_machine_types(wanted, &listed))
    }

    /// Returns whether the switch of the message adds a network card.
    fn is_network_card(&self) -> bool {
        let argument = self.recognized.switch.as_deref().and_then(|switch| switch.split_once(' '));
        argument.is_some_and(|(_, argument)| OptionString::parse("device", argument).get("netdev").is_some())
    }

    /// Returns how to start the program that serves a socket, by what uses its character device.
    fn server_hints(&self, socket: &str) -> Vec<String> {
        let socket = quote(socket);
        let user = self.recognized.switch.as_deref().and_then(|switch| user_of(switch, self.command_line.args()));
        if user.as_deref().is_some_and(|user| user.starts_with("vhost-user-fs")) {
            return vec![virtiofsd_hint(&socket)];
        }
        // `-tpmdev emulator,id=tpm,chardev=t`
        if user.as_deref() == Some("emulator") {
            return vec![format!(
                "start it first: `swtpm socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,path={socket} --daemon` \
                 (Debian: `apt install swtpm`)"
            )];
        }
        // An address of TCP has a port.
        let what = if socket.contains('/') { "path" } else { "address" };
        vec![format!("start the program that listens at {socket} first, or correct the {what}")]
    }
}

/// Returns how to write a switch that newer versions of QEMU do not have.
fn replaced_switch(switch: &str) -> Option<String> {
    let flag = MACHINE_FLAGS.iter().find(|flag| switch_name(switch) == Some(flag.switch))?;
    let value = if flag.is_on { "on" } else { "off" };
    Some(format!("write `machine: {{{}: {value}}}`, which replaced it", flag.option))
}

/// Returns how to start a virtiofsd at a socket, which is quoted.
pub(crate) fn virtiofsd_hint(socket: &str) -> String {
    format!(
        "start it first: `/usr/libexec/virtiofsd --socket-path={socket} --shared-dir=DIR` (Debian: `apt install virtiofsd`), \
         or that of QEMU 7.2: `/usr/lib/qemu/virtiofsd --socket-path={socket} -o source=DIR`"
    )
}

/// Returns the machine type of a command line, which is the last one that is given.
fn machine_type(args: &[String]) -> Option<&str> {
    switch_values(args)
        .filter(|(name, _)| *name == "machine")
        .filter_map(|(_, value)| machine::machine_type(value))
        .last()
}

/// Returns each switch, without its hyphens, with the options of its argument.
fn options_of(args: &[String]) -> impl Iterator<Item = (&str, OptionString)> {
    switch_values(args).map(|(name, argument)| (name, OptionString::parse(name, argument)))
}

fn switch_name(arg: &str) -> Option<&str> {
    arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'))
}

/// Returns the driver or the type of what uses the character device that a switch defines.
fn user_of(switch: &str, args: &[String]) -> Option<String> {
    let (name, argument) = switch.split_once(' ')?;
    let character_device = OptionString::parse(switch_name(name)?, argument);
    let id = character_device.get("id")?;
    let user = options_of(args).find(|(name, options)| *name != "mon" && options.get("chardev") == Some(id))?;
    Some(user.1.head().to_owned())
}

/// Returns the bridge of the first network card that is attached to one; QEMU's default is `br0`.
fn bridge(args: &[String]) -> String {
    let backends = options_of(args).filter(|(name, options)| {
        matches!(*name, "netdev" | "nic" | "net") && matches!(options.head(), "bridge" | "tap")
    });
    let mut bridges = backends.filter_map(|(_, options)| options.get("br").map(str::to_owned));
    bridges.next().unwrap_or_else(|| "br0".to_owned())
}

#[cfg(test)]
mod tests {
    use maqet_domain::qemu::Switch;

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
    fn test_suspects_are_objects_before_other_switches() {
        let of = |arguments: &[(&str, &str)]| {
            let arguments = arguments.iter().map(|(name, value)| Switch::verbatim(*name, *value)).collect();
            suspects(&Machine { arguments, args: args(&["-S"]), ..Machine::default() })
        };
        let (rtc, secret, thread) = (("rtc", "base=utc"), ("object", "secret,id=s"), ("object", "iothread,id=i"));

        assert_eq!(of(&[rtc, secret, thread]), ["`-object secret,id=s`", "`-object iothread,id=i`"]);
        assert_eq!(of(&[rtc]), ["`-S`", "`-rtc base=utc`"]);
        assert_eq!(of(&[rtc; 9]).len(), 5);
    }

    fn args(args: &[&str]) -> Vec<String> {
        args.iter().map(|arg| (*arg).to_owned()).collect()
    }

    #[test]
    fn test_replaced_switch_is_only_one_of_those() {
        for (switch, option) in [("-no-acpi", "acpi: off"), ("--no-hpet", "hpet: off"), ("-usb", "usb: on")] {
            let expected = format!("write `machine: {{{option}}}`, which replaced it");
            assert_eq!(replaced_switch(switch), Some(expected));
        }
        assert_eq!(replaced_switch("-nofoo"), None);
    }

    #[test]
    fn test_bridge_is_named_in_any_form() {
        for (switch, argument, expected) in [
            ("-netdev", "bridge,id=n,br=br7", "br7"),
            ("-netdev", "id=n,br=br7,type=bridge", "br7"),
            ("--netdev", r#"{"type":"bridge","br":"br7"}"#, "br7"),
            ("-nic", "tap,br=br7,helper=/h", "br7"),
            ("-netdev", "bridge,id=n", "br0"),
            ("-netdev", "user,id=n,br=br7", "br0"),
            ("-append", "bridge,br=br7", "br0"),
        ] {
            assert_eq!(bridge(&args(&[switch, argument])), expected, "{switch} {argument}");
        }
    }

    #[test]
    fn test_user_of_a_character_device_is_found_in_any_form() {
        let switch = "-chardev socket,id=c,path=/s";
        for (name, argument, expected) in [
            ("-device", "vhost-user-fs-pci,chardev=c,tag=t", Some("vhost-user-fs-pci")),
            ("-device", r#"{"driver":"vhost-user-fs-pci","chardev":"c"}"#, Some("vhost-user-fs-pci")),
            ("-tpmdev", "emulator,id=t,chardev=c", Some("emulator")),
            ("-tpmdev", "chardev=c,id=t,type=emulator", Some("emulator")),
            // Only an ID with this text.
            ("-device", "virtserialport,chardev=c,id=emulator", Some("virtserialport")),
            ("-tpmdev", "emulator,id=t,chardev=d", None),
        ] {
            assert_eq!(user_of(switch, &args(&[name, argument])).as_deref(), expected, "{name} {argument}");
        }
        assert_eq!(user_of("-chardev socket,path=/s", &args(&["-device", "x"])), None);
    }
}
