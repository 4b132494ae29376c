//! UEFI firmware and its variable store.

use std::path::{Path, PathBuf};

use maqet_domain::machine::{Machine, UefiOptions, binary_architecture};
use maqet_domain::port::{FirmwareRequest, ImageError, ImageUse, PathKind, SecureBoot, UefiFirmware};
use maqet_domain::storage::ImageAccess;
use maqet_domain::storage::uefi_variables::{MAX_VARIABLES_BYTES, has_platform_key};
use maqet_domain::vm::{VmEntry, VmName};

use super::disk_error::DiskError;
use super::drives::is_missing;
use super::lost_images::MissingImage;
use super::preflight::Preflight;
use crate::Error;

/// The file name of a VM's UEFI variable store; a qcow2 image, so that it can be part of a snapshot.
const VARIABLES: &str = "uefi-vars.qcow2";

/// The name of a VM's UEFI variable store, as of a drive.
pub(crate) const VARIABLES_NAME: &str = "uefi-vars";

/// The kind, in its record, of a variable store that was created for Secure Boot: it has the keys.
pub(crate) const SECURE_VARIABLES: &str = "uefi-vars-secure-boot";

impl Preflight<'_> {
    /// Finds the firmware of a machine with `firmware: uefi`.
    pub(crate) async fn uefi(&self, machine: &Machine) -> Result<Option<UefiFirmware>, Error> {
        let Some(options) = machine.firmware.uefi() else { return Ok(None) };
        let architecture = self.architecture(machine);
        if let (Some(code), Some(variables)) = (&options.code, &options.variables) {
            let is_x86 = matches!(architecture.as_str(), "x86_64" | "i386");
            return Ok(Some(UefiFirmware {
                code: code.clone(),
                code_format: self.flash_format(code).await.unwrap_or("raw").to_owned(),
                variables: variables.clone(),
                variables_format: self.flash_format(variables).await.unwrap_or("raw").to_owned(),
                requires_smm: options.secure_boot && is_x86,
            }));
        }
        let kind = machine.kind_on(&architecture).unwrap_or("pc");
        let secure_boot = match options.variables {
            _ if !options.secure_boot => SecureBoot::Off,
            Some(_) => SecureBoot::Supported,
            None => SecureBoot::Enrolled,
        };
        let request = FirmwareRequest { machine: kind.to_owned(), architecture, secure_boot };
        Ok(Some(self.firmware.uefi(&request).await?))
    }

    /// Returns the format that the content of a flash image suggests.
    async fn flash_format(&self, path: &Path) -> Result<&'static str, ImageError> {
        Ok(self.images.examine(&to_read(path, "raw")).await?.resembles.unwrap_or("raw"))
    }

    /// Returns the kind of the other file that a qcow2 image refers to, if it does.
    async fn other_file(&self, path: &Path) -> Result<Option<&'static str>, ImageError> {
        let image = self.images.examine(&to_read(path, "qcow2")).await?;
        let data_file = image.has_data_file.then_some("data file");
        Ok(image.backing.is_some().then_some("backing file").or(data_file))
    }

    /// Returns the image that a VM's variable store is created from, and its format: that of the definition, else that
    /// of the firmware's package.
    pub(crate) async fn variables_template(
        &self,
        machine: &Machine,
        firmware: &UefiFirmware,
    ) -> Result<(PathBuf, String), Error> {
        let Some(path) = machine.firmware.uefi().and_then(|options| options.variables.clone()) else {
            return Ok((firmware.variables.clone(), firmware.variables_format.clone()));
        };
        match self.paths.kind(&path).await {
            // What is missing is reported by what reads it.
            PathKind::File | PathKind::NotFound => {}
            PathKind::Directory | PathKind::BlockDevice | PathKind::CdDrive | PathKind::Other => {
                return Err(DiskError::VariablesNotAFile { path }.into());
            }
        }
        let from_image = |error: ImageError| match error {
            error if is_missing(&error) => Error::from(DiskError::VariablesNotFound { path: path.clone() }),
            error => error.into(),
        };
        let format = self.flash_format(&path).await.map_err(from_image)?;
        let other_file = if format == "qcow2" { self.other_file(&path).await.map_err(from_image)? } else { None };
        let reason = match (format, other_file) {
            // Its maker could have any file of the host copied into the store.
            (_, Some(kind)) => format!("it has a {kind}"),
            ("raw" | "qcow2", None) => return Ok((path, format.to_owned())),
            (other, None) => format!("its format is `{other}`"),
        };
        Err(DiskError::VariablesInvalid { path, reason }.into())
    }

    /// Returns the path of a VM's variable store.
    pub(crate) fn uefi_variables(&self, name: &VmName) -> PathBuf {
        self.folders.vm_storage(name).join(VARIABLES)
    }

    /// Returns how a VM uses its variable store.
    pub(crate) fn variables_use(&self, name: &VmName) -> ImageUse {
        let path = self.uefi_variables(name);
        ImageUse { path, format: Some("qcow2".to_owned()), access: ImageAccess::Write }
    }

    /// Checks the variable store of a machine with `firmware: uefi`; returns it if it does not exist.
    pub(crate) async fn check_variables(
        &self,
        entry: &VmEntry,
        machine: &Machine,
        recreate: &[String],
    ) -> Result<Option<MissingImage>, Error> {
        let Some(options) = machine.firmware.uefi() else { return Ok(None) };
        let image = self.variables_use(&entry.name);
        let (name, path) = (VARIABLES_NAME.to_owned(), image.path.clone());
        match self.images.examine(&image).await {
            Ok(_) if recreate.contains(&name) => Err(DiskError::RecreateConflict { drive: name, path }.into()),
            Ok(_) => self.require_keys(entry, options, &image).await.map(|()| None),
            Err(error) if is_missing(&error) => {
                if let Some(firmware) = self.uefi(machine).await? {
                    let (path, format) = self.variables_template(machine, &firmware).await?;
                    self.require_keys_of_template(options, path, &format).await?;
                }
                Ok(Some(MissingImage { name, path, is_default: true }))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Refuses Secure Boot with variables without its keys: the firmware would run any code.
    ///
    /// The record decides only about a format that is not known: it says how the store was created, by that VM.
    async fn require_keys(&self, entry: &VmEntry, options: &UefiOptions, store: &ImageUse) -> Result<(), Error> {
        if !options.secure_boot {
            return Ok(());
        }
        let has_keys = if let Some(has_key) = self.platform_key(store).await? {
            has_key
        } else {
            let records = self.store.storage_of_vm(&entry.id).await?;
            !records.iter().any(|record| record.path == store.path && record.kind == VARIABLES_NAME)
        };
        if has_keys {
            return Ok(());
        }
        Err(DiskError::VariablesConflict { vm: entry.name.clone(), path: store.path.clone() }.into())
    }

    /// Refuses Secure Boot with variables of the user without its keys.
    async fn require_keys_of_template(&self, options: &UefiOptions, path: PathBuf, format: &str) -> Result<(), Error> {
        if !options.secure_boot {
            return Ok(());
        }
        let Some(content) = self.images.content_start(&to_read(&path, format), MAX_VARIABLES_BYTES).await? else {
            let reason = "it is compressed or encrypted, so that its keys are not known".to_owned();
            return Err(DiskError::VariablesInvalid { path, reason }.into());
        };
        if has_platform_key(&content) == Some(false) {
            return Err(DiskError::VariablesWithoutKeys { path }.into());
        }
        Ok(())
    }

    /// Returns whether variables have the key with which Secure Boot is active, if their format is known.
    async fn platform_key(&self, variables: &ImageUse) -> Result<Option<bool>, Error> {
        let content = self.images.content_start(variables, MAX_VARIABLES_BYTES).await?;
        Ok(content.as_deref().and_then(has_platform_key))
    }

    /// Returns the path or the name of the QEMU of a machine.
    pub(crate) fn binary_name(&self, machine: &Machine) -> String {
        machine.binary.clone().unwrap_or_else(|| format!("qemu-system-{}", self.architecture(machine)))
    }

    /// Sets the architecture of a machine whose `binary` is a link to a QEMU with another name.
    pub(crate) async fn resolve_architecture(&self, machine: &mut Machine) -> Result<(), Error> {
        let (None, Some(binary)) = (machine.architecture(), &machine.binary) else { return Ok(()) };
        let path = self.hypervisor.binary(binary).await?.path;
        machine.arch = binary_architecture(&self.paths.resolve(&path).await.to_string_lossy());
        Ok(())
    }

    /// Returns the guest's architecture.
    pub(crate) fn architecture(&self, machine: &Machine) -> String {
        machine.architecture().map_or_else(|| self.host.facts().architecture, str::to_owned)
    }
}

fn to_read(path: &Path, format: &str) -> ImageUse {
    ImageUse { path: path.to_owned(), format: Some(format.to_owned()), access: ImageAccess::Read }
}
