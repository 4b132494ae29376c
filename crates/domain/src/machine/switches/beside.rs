//! Switches that have no effect, or a harmful one, beside the rest of the definition.

use super::table::MACHINE_FLAGS;
use super::{Refusal, UserSwitch};
use crate::machine::{Firmware, Machine};
use crate::network::NetworkMode;
use crate::qemu::{OptionString, QemuOption};
use crate::storage::StorageSpec;

impl Machine {
    /// Returns why a switch is refused in this definition.
    pub(super) fn refusal_beside(&self, switch: &UserSwitch<'_>) -> Option<Refusal> {
        match switch.name.as_str() {
            "snapshot" if !self.is_thrown_away() => self.ignored_snapshot(),
            "accel" | "enable-kvm" => self.contradicted_accelerator(switch),
            "action" | "watchdog-action" => self.second_action(switch),
            "boot" => self.ignored_boot_order(switch),
            "bios" | "pflash" => self.second_firmware(switch),
            "drive" if switch.option("if") == Some("pflash") => self.second_firmware(switch),
            "machine" if switch.options.iter().any(|option| option.key.starts_with("pflash")) => {
                self.second_firmware(switch)
            }
            "machine" => self.without_smm(switch).or_else(|| self.contradicted_accelerator(switch)),
            name if MACHINE_FLAGS.iter().any(|flag| flag.switch == name) => self.contradicted(switch),
            "global" => self.unprotected_variables(switch),
            "tpmdev" => self.second_tpm(),
            "device" => self.second_device(switch),
            "object" => self.unshared_memory(&switch.options),
            "mem-path" | "mem-prealloc" => self.ignored_memory(switch),
            "net" | "nic" if switch.argument == "none" => self.ignored_none(switch),
            "net" | "nic" | "netdev" | "incoming" => self.forbidden_program(switch),
            _ => None,
        }
    }

    /// Of `-machine acpi=on` and `-no-acpi`, QEMU takes the last (7.2; 10.0 has only `-usb`).
    fn contradicted(&self, switch: &UserSwitch<'_>) -> Option<Refusal> {
        let flag = MACHINE_FLAGS.iter().find(|flag| flag.switch == switch.name)?;
        let parsed = self.machine_arguments().map(|argument| OptionString::parse("machine", argument));
        parsed.filter_map(|options| options.is_on(flag.option)).find(|is_on| *is_on != flag.is_on)?;
        let (option, value) = (flag.option, if flag.is_on { "off" } else { "on" });
        Some(Refusal {
            message: format!("`-{}` contradicts `{option}={value}` of the machine", switch.name),
            help: "remove one of them".to_owned(),
        })
    }

    /// Of two actions for an event, QEMU takes the last, that of the key (7.2, 10.0).
    fn second_action(&self, switch: &UserSwitch<'_>) -> Option<Refusal> {
        let is_set = |event: &str| match switch.name.as_str() {
            "watchdog-action" => event == "watchdog",
            _ => switch.option(event).is_some(),
        };
        let watchdog = self.devices.watchdog.and_then(|watchdog| watchdog.action).map(<&str>::from);
        let panic = self.devices.panic.and_then(|panic| panic.action).map(<&str>::from);
        let keys = [
            ("watchdog", watchdog.map(|action| format!("watchdog: {{action: {action}}}"))),
            ("panic", panic.map(|action| format!("panic: {action}"))),
        ];
        let key = keys.into_iter().find_map(|(event, key)| key.filter(|_| is_set(event)))?;
        let message = format!("{} has no effect beside `{key}`", switch.shown(&switch.argument));
        Some(Refusal { message, help: "remove one of them".to_owned() })
    }

    /// Disks are `-blockdev` nodes, and QEMU applies `-snapshot` to `-drive` only (7.2, 10.0).
    fn ignored_snapshot(&self) -> Option<Refusal> {
        let is_written = |storage: &&StorageSpec| storage.driver.image_format().is_some() && !storage.keeps_image();
        let Some(drive) = self.storage.iter().find(is_written) else {
            let of_node = self.ignored_snapshot_of_node().or_else(|| self.ignored_snapshot_of_memory());
            return of_node.or_else(|| self.ignored_snapshot_of_own_state());
        };
        Some(Refusal {
            message: format!("`-snapshot` has no effect on drive `{}`, which would be written", drive.name),
            help: format!("set `snapshot: true` for drive `{}`", drive.name),
        })
    }

    /// The same for the nodes of the user: those that a device other than a CD drive writes to.
    fn ignored_snapshot_of_node(&self) -> Option<Refusal> {
        let nodes: Vec<OptionString> = self.user_options("blockdev").collect();
        let is_written = |name: &str| {
            let mut named = nodes.iter().filter(|node| node.get("node-name") == Some(name));
            named.any(|node| node.is_on("read-only") != Some(true))
        };
        let mut devices = self.user_options("device").filter(|device| {
            let driver = device.get("driver").unwrap_or_default();
            !driver.ends_with("-cd") && device.get("drive").is_some_and(is_written)
        });
        let device = devices.next()?;
        let node = device.get("drive")?;
        Some(Refusal {
            message: format!("`-snapshot` has no effect on the node `{node}` of a `-blockdev`, which would be written"),
            help: "write it as a drive under `storage` with `snapshot: true`, or as `-drive`".to_owned(),
        })
    }

    /// The same for memory of a device, such as an NVDIMM, that is a file.
    fn ignored_snapshot_of_memory(&self) -> Option<Refusal> {
        let is_on = |backend: &OptionString, key: &str| backend.is_on(key) == Some(true);
        let mut backends = self.user_options("object").filter(|backend| {
            backend.head() == "memory-backend-file" && is_on(backend, "share") && !is_on(backend, "readonly")
        });
        let of_device = |backend: &OptionString| {
            let id = backend.get("id");
            id.is_some() && self.user_options("device").any(|device| device.get("memdev") == id)
        };
        let backend = backends.find(of_device)?;
        let file = backend.get("mem-path").unwrap_or_default();
        Some(Refusal {
            message: format!("`-snapshot` has no effect on `{file}`, the memory of a device, which would be written"),
            help: "add `share=off` to the `memory-backend-file` to keep the file as it is".to_owned(),
        })
    }

    /// The same for what the guest keeps beside its drives: QEMU writes variables by `-blockdev` as well, and swtpm has
    /// no snapshots. Without the disks of the same time, the guest may not boot.
    fn ignored_snapshot_of_own_state(&self) -> Option<Refusal> {
        let state = match &self.firmware {
            Firmware::Uefi(_) => "the UEFI variables",
            Firmware::Default | Firmware::File(_) if self.tpm => "the state of the TPM",
            Firmware::Default | Firmware::File(_) => return None,
        };
        Some(Refusal {
            message: format!("`-snapshot` has no effect on {state}, which would be written"),
            help: format!(
                "remove it, and set `snapshot: true` for drives under `storage`; changes of {state} are kept"
            ),
        })
    }

    /// Firmware boots what has a `bootindex` first; QEMU's manual forbids both (`-boot`, 7.2).
    fn ignored_boot_order(&self, switch: &UserSwitch<'_>) -> Option<Refusal> {
        let order = ["order", "once"].into_iter().find_map(|key| switch.option(key))?;
        let by_drive = self.storage.iter().find(|storage| storage.bootindex.is_some());
        let by_drive = by_drive.map(|storage| format!("the `bootindex` of drive `{}`", storage.name));
        let by_device = || {
            let mut devices = self.user_options("device");
            devices.any(|device| device.get("bootindex").is_some()).then(|| "the `bootindex` of a `-device`".to_owned())
        };
        let card = self.network.iter().find(|card| card.bootindex.is_some());
        let by_card = card.map(|card| format!("the `bootindex` of network card `{}`", card.name));
        let by = by_drive.or(by_card).or_else(by_device)?;
        Some(Refusal {
            message: format!("{} has no effect beside {by}", switch.shown(order)),
            help: "set `bootindex` for each device to boot from, or for none".to_owned(),
        })
    }

    /// With flash, QEMU ignores `-bios`; of two, it takes the last (7.2, 10.0).
    fn second_firmware(&self, switch: &UserSwitch<'_>) -> Option<Refusal> {
        let key = match &self.firmware {
            Firmware::Default => return None,
            Firmware::Uefi(_) => "firmware: uefi".to_owned(),
            Firmware::File(path) => format!("firmware: {}", path.display()),
        };
        let message = format!("`-{}` sets the firmware, and so does `{key}`", switch.name);
        Some(Refusal { message, help: "remove one of them".to_owned() })
    }

    /// Without system management mode, firmware with Secure Boot does not boot (OVMF 2022.11).
    fn without_smm(&self, switch: &UserSwitch<'_>) -> Option<Refusal> {
        let is_off = switch.options.is_on("smm") == Some(false);
        (self.has_secure_boot() && is_off).then(|| Refusal {
            message: "`secure_boot` requires system management mode, and `smm` is off".to_owned(),
            help: "remove `smm`".to_owned(),
        })
    }

    /// A later `-global` replaces that of maqet, with which only the firmware can write the variables.
    ///
    /// The short form `DRIVER.PROPERTY=VALUE` has no effect, because QEMU ends the driver's name at its first dot, and for
    /// what the driver inherits from QEMU refuses it (7.2, 10.0).
    fn unprotected_variables(&self, switch: &UserSwitch<'_>) -> Option<Refusal> {
        let is_flash = switch.option("driver") == Some("cfi.pflash01") && switch.option("property") == Some("secure");
        let is_off = switch.options.is_on("value") == Some(false);
        (self.has_secure_boot() && is_flash && is_off).then(|| Refusal {
            message: "`secure_boot` requires protected flash, and `secure` of `cfi.pflash01` is off".to_owned(),
            help: "remove it: the guest could change the keys".to_owned(),
        })
    }

    fn has_secure_boot(&self) -> bool {
        self.firmware.uefi().is_some_and(|uefi| uefi.secure_boot)
    }

    /// QEMU allows one TPM (7.2, 10.0).
    fn second_tpm(&self) -> Option<Refusal> {
        let refusal = Refusal {
            message: "`-tpmdev` adds a TPM, and so does `tpm: true`".to_owned(),
            help: "remove one of them".to_owned(),
        };
        self.tpm.then_some(refusal)
    }

    /// QEMU allows one balloon, and one `pvpanic` (7.2, 10.0).
    fn second_device(&self, switch: &UserSwitch<'_>) -> Option<Refusal> {
        let driver = switch.head();
        let key = match driver {
            _ if self.devices.balloon && driver.starts_with("virtio-balloon") => "balloon",
            "pvpanic" if self.devices.panic.is_some() => "panic",
            _ => return None,
        };
        Some(Refusal {
            message: format!("`-device {driver}` is a second one beside that of `{key}`"),
            help: "remove one of them".to_owned(),
        })
    }

    /// The memory is that of the backend that other processes share.
    fn ignored_memory(&self, switch: &UserSwitch<'_>) -> Option<Refusal> {
        let share = self.storage.iter().find(|storage| storage.driver.features().shared_memory)?;
        let message = format!("`-{}` has no effect on memory that drive `{}` shares", switch.name, share.name);
        Some(Refusal { message, help: "remove it".to_owned() })
    }

    fn ignored_none(&self, switch: &UserSwitch<'_>) -> Option<Refusal> {
        let card = self.network.iter().find(|card| card.mode != NetworkMode::None)?;
        let message = format!("`-{} none` has no effect on network card `{}`", switch.name, card.name);
        Some(Refusal { message, help: "set `network: none`, or remove it".to_owned() })
    }

    /// A program that the sandbox forbids fails at once or, under QEMU 7.2, ends QEMU when it is started.
    fn forbidden_program(&self, switch: &UserSwitch<'_>) -> Option<Refusal> {
        let (program, help) = program(switch)?;
        let own = self.user_options("sandbox").next_back();
        let needs_helper = self.network.iter().any(|card| card.mode == NetworkMode::Bridge);
        let is_confined = own.map_or(self.sandbox && !needs_helper, |own| own.get("spawn") == Some("deny"));
        is_confined.then(|| Refusal {
            message: format!("`-{} {program}` starts a program, which the sandbox forbids", switch.name),
            help: help.to_owned(),
        })
    }
}

/// Returns the option that starts a program, and what to do without it.
fn program(switch: &UserSwitch<'_>) -> Option<(String, &'static str)> {
    const NO_SANDBOX: &str = "set `sandbox: false`";
    if switch.name == "incoming" {
        // A program with commas, or a channel (10.0).
        let is_program = switch.argument.starts_with("exec:") || switch.option("addr.transport") == Some("exec");
        return is_program.then(|| (switch.argument.clone(), NO_SANDBOX));
    }
    let is_program = |option: &&QemuOption| match option.key.as_str() {
        "smb" | "helper" => true,
        "script" | "downscript" => option.value != "no",
        "guestfwd" => option.value.contains("-cmd:"),
        "type" => option.value == "bridge",
        _ => false,
    };
    if let Some(QemuOption { key, value, .. }) = switch.options.iter().find(is_program) {
        let shown = if key == "type" { value.clone() } else { format!("{key}={value}") };
        return Some((shown, NO_SANDBOX));
    }
    let has = |key| switch.option(key).is_some();
    let is_open = has("fd") || has("fds");
    // Without them, QEMU runs /etc/qemu-ifup and, at its end, /etc/qemu-ifdown.
    let is_tap = switch.head() == "tap" && !is_open && !(has("script") && has("downscript"));
    is_tap.then_some((
        "tap".to_owned(),
        "set `mode: tap` under `network`, add `script: no` and `downscript: no`, or set `sandbox: false`",
    ))
}
