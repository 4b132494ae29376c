//! The files of firmware: those that QEMU could not load, or that do not fit each other.

use std::path::{Path, PathBuf};

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::machine::{
    FileAccess, Firmware, FirmwareImage, LayoutConflict, Machine, is_bios_size, is_uefi_code_size,
};
use maqet_domain::port::{ImageUse, PathKind};
use maqet_domain::size::ByteSize;
use maqet_domain::storage::ImageAccess;
use maqet_domain::text::quote;
use maqet_domain::vm::{VmEntry, VmName};

use super::disk_error::DiskError;
use super::firmware::VARIABLES_NAME;
use super::preflight::Preflight;
use crate::Error;

/// A file and its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SizedFile {
    /// Its path.
    pub path: PathBuf,
    /// The size the guest sees.
    pub size: ByteSize,
}

/// Whose UEFI variables do not fit the firmware, and so how to fix it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VariablesOwner {
    /// Those of this VM, which its guest has written.
    Vm(VmName),
    /// The file of the definition that those of a VM are created from.
    Template,
    /// The file that a package has for the firmware.
    Package,
    /// Those of the user's switches.
    Switches,
}

/// Why firmware files are not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FirmwareRefusal {
    /// An image of the definition does not exist.
    #[error("firmware image `{}` not found", path.display())]
    ImageNotFound {
        /// Its path.
        path: PathBuf,
    },
    /// An image of the definition is a directory.
    #[error("firmware image `{}` is not a file", path.display())]
    NotAFile {
        /// Its path.
        path: PathBuf,
    },
    /// An image that QEMU would not load.
    #[error("firmware image `{}` has {} bytes, and QEMU loads whole multiples of 64 KiB", .0.path.display(), .0.size.bytes())]
    ImageSize(SizedFile),
    /// Variables of another build of the firmware.
    #[error(
        "UEFI variables `{}` ({}) do not fit firmware `{}` ({})",
        variables.path.display(), variables.size, code.path.display(), code.size
    )]
    SizesConflict {
        /// Whose variables they are.
        owner: VariablesOwner,
        /// The code.
        code: SizedFile,
        /// The variables.
        variables: SizedFile,
    },
}

impl FirmwareRefusal {
    /// Returns the file that is not used; `None` if two of them do not fit each other.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::ImageNotFound { path } | Self::NotAFile { path } => Some(path),
            Self::ImageSize(image) => Some(&image.path),
            Self::SizesConflict { .. } => None,
        }
    }
}

impl Explain for FirmwareRefusal {
    fn explain(&self) -> Explanation {
        match self {
            Self::ImageNotFound { .. } => Explanation::new("firmware.image-not-found", Fault::NotFound)
                .hint("correct the path, or install the package of the firmware")
                .hint("set `firmware: uefi` to have maqet find an installed one"),
            Self::NotAFile { .. } => {
                Explanation::new("firmware.image-invalid", Fault::Usage).hint("set the path of a firmware image")
            }
            Self::ImageSize(image) if is_uefi_code_size(image.size) => {
                Explanation::new("firmware.image-invalid", Fault::Usage).hint(
                    "set `firmware: uefi`: this is the code of a UEFI firmware, which needs its variables beside it",
                )
            }
            Self::ImageSize(_) => Explanation::new("firmware.image-invalid", Fault::Usage)
                .hint("copy the image again, or set `firmware: uefi` to have maqet find an installed one"),
            Self::SizesConflict { owner, variables, .. } => owner.explain(&variables.path),
        }
    }
}

impl VariablesOwner {
    fn explain(&self, path: &Path) -> Explanation {
        const ONE_BUILD: &str =
            "use code and variables of one build: both of 2M, or both of 4M (`OVMF_CODE_4M.fd`, `OVMF_VARS_4M.fd`)";
        let state = Explanation::new("firmware.size-conflict", Fault::State);
        match self {
            Self::Vm(vm) => {
                let path = quote(&path.to_string_lossy());
                state
                    .hint("install the version of the firmware again with which the variables were created")
                    .hint(format!(
                        "create new variables, without the boot entries of the guest: `mv {path} {path}.old && maqet start \
                         {vm} --recreate {VARIABLES_NAME}`"
                    ))
            }
            // The file of others stays where it is.
            Self::Template => {
                state.hint("remove `variables` under `firmware` to begin with the firmware's own").hint(ONE_BUILD)
            }
            Self::Package => state.hint("install the package of the firmware again, whose files do not fit each other"),
            Self::Switches => state.hint(ONE_BUILD).hint("set `firmware: uefi` to have maqet find an installed one"),
        }
    }
}

impl From<FirmwareRefusal> for Error {
    fn from(refusal: FirmwareRefusal) -> Self {
        DiskError::from(refusal).into()
    }
}

impl Preflight<'_> {
    /// Refuses firmware files that QEMU could not load, or that do not fit each other.
    pub(crate) async fn check_firmware_files(&self, entry: &VmEntry, machine: &Machine) -> Result<(), Error> {
        let bios = match &machine.firmware {
            Firmware::File(path) => Some(path.clone()),
            Firmware::Default | Firmware::Uefi(_) => machine.bios_image(),
        };
        if let Some(path) = bios {
            let image = FirmwareImage { path, format: None };
            let file = self.firmware_file(&image).await?;
            let is_x86 = matches!(self.architecture(machine).as_str(), "x86_64" | "i386");
            if let Some(file) = file.filter(|file| is_x86 && !is_bios_size(file.size)) {
                return Err(FirmwareRefusal::ImageSize(file).into());
            }
        }
        let mut flash = Vec::new();
        for image in machine.flash_images() {
            flash.push(self.firmware_file(&image).await?);
        }
        if let [Some(code), Some(variables)] = flash.as_slice() {
            require_one_layout(VariablesOwner::Switches, code, variables)?;
        }
        self.check_uefi_sizes(entry, machine).await
    }

    /// Compares the variables that a VM has, or is to have, with the firmware found for it.
    async fn check_uefi_sizes(&self, entry: &VmEntry, machine: &Machine) -> Result<(), Error> {
        if let Some(path) = machine.firmware.uefi().and_then(|options| options.code.clone()) {
            self.firmware_file(&FirmwareImage { path, format: None }).await?;
        }
        let Some(firmware) = self.uefi(machine).await? else { return Ok(()) };
        let own = self.uefi_variables(&entry.name);
        let (path, format, owner) = if self.images.exists(&own).await {
            (own, "qcow2".to_owned(), VariablesOwner::Vm(entry.name.clone()))
        } else {
            let (path, format) = self.variables_template(machine, &firmware).await?;
            let is_given = machine.firmware.uefi().is_some_and(|options| options.variables.is_some());
            (path, format, if is_given { VariablesOwner::Template } else { VariablesOwner::Package })
        };
        let code = self.sized(&firmware.code, &firmware.code_format).await;
        // What cannot be read is reported where it is used.
        let (Some(code), Some(variables)) = (code, self.sized(&path, &format).await) else { return Ok(()) };
        require_one_layout(owner.clone(), &code, &variables)?;
        // A file of the definition is for new variables; it may have become another one since.
        let is_of_definition = firmware.variables == path
            || machine.firmware.uefi().is_some_and(|options| options.variables.as_ref() == Some(&firmware.variables));
        if is_of_definition {
            return Ok(());
        }
        let template = self.sized(&firmware.variables, &firmware.variables_format).await;
        if template.is_none_or(|template| variables.size == template.size) {
            return Ok(());
        }
        Err(FirmwareRefusal::SizesConflict { owner, code, variables }.into())
    }

    /// Returns a firmware image that exists, with its size if that is known.
    async fn firmware_file(&self, image: &FirmwareImage) -> Result<Option<SizedFile>, Error> {
        let path = || image.path.clone();
        self.require_reachable(&image.path, FileAccess::Read).await?;
        match self.paths.kind(&image.path).await {
            PathKind::NotFound => Err(FirmwareRefusal::ImageNotFound { path: path() }.into()),
            // A device such as `/dev/zero` has no end.
            PathKind::Directory | PathKind::Other => Err(FirmwareRefusal::NotAFile { path: path() }.into()),
            PathKind::File | PathKind::BlockDevice | PathKind::CdDrive => {
                Ok(self.sized(&image.path, image.format.as_deref().unwrap_or("raw")).await)
            }
        }
    }

    async fn sized(&self, path: &Path, format: &str) -> Option<SizedFile> {
        let image = ImageUse { path: path.to_owned(), format: Some(format.to_owned()), access: ImageAccess::Read };
        let size = self.images.examine(&image).await.ok()?.virtual_size?;
        Some(SizedFile { path: path.to_owned(), size })
    }
}

fn require_one_layout(owner: VariablesOwner, code: &SizedFile, variables: &SizedFile) -> Result<(), FirmwareRefusal> {
    if LayoutConflict::of_sizes(code.size, variables.size).is_none() {
        return Ok(());
    }
    Err(FirmwareRefusal::SizesConflict { owner, code: code.clone(), variables: variables.clone() })
}
