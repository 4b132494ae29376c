//! The seed and the credentials of a guest, read and made for each start.

use std::path::PathBuf;

use maqet_domain::first_boot::{HostFiles, InvalidSeed, PassedCredential, SeedFiles, SeedOwner, SshAccess};
use maqet_domain::machine::Machine;
use maqet_domain::port::{PathKind, RunFile};
use maqet_domain::vm::{RunPaths, VmEntry};

use super::disk_error::DiskError;
use super::preflight::Preflight;
use crate::{Error, limits};

impl Preflight<'_> {
    /// Returns the files that QEMU reads while it starts.
    pub(crate) async fn start_files(
        &self,
        entry: &VmEntry,
        machine: &Machine,
        paths: &RunPaths,
        credentials: &[PassedCredential],
    ) -> Result<Vec<RunFile>, Error> {
        let seed = self.seed(entry, machine).await?;
        let image = seed.map(|files| RunFile { path: paths.seed_image(), content: files.image() });
        let credentials = credentials.iter().zip(0..);
        let credentials = credentials
            .map(|(credential, index)| RunFile { path: paths.credential(index), content: credential.content.clone() });
        Ok(image.into_iter().chain(credentials).collect())
    }

    /// Returns how its user logs in to the guest: with the key that was made for the VM, if it is to have one and has.
    pub(crate) async fn ssh_access(&self, entry: &VmEntry, machine: &Machine) -> SshAccess {
        let key = self.folders.vm_key(&entry.id);
        if machine.ssh.wants_own_key(machine.seed.as_ref()) && self.paths.kind(&key).await == PathKind::File {
            return machine.ssh.with_own_key(&key);
        }
        machine.ssh.clone()
    }

    /// Returns the credentials of a machine, with the values of its files as they are now.
    pub(crate) async fn credentials(&self, entry: &VmEntry, machine: &Machine) -> Result<Vec<PassedCredential>, Error> {
        let access = self.ssh_access(entry, machine).await;
        let credentials = access.with_root_key(machine.credentials.clone(), machine.seed.as_ref());
        if credentials.is_empty() {
            return Ok(Vec::new());
        }
        let files = self.host_files(credentials.host_files()).await?;
        let has_smbios = machine.has_smbios(&self.architecture(machine));
        Ok(credentials.render(&files, has_smbios).map_err(DiskError::from)?)
    }

    async fn host_files(&self, paths: Vec<PathBuf>) -> Result<HostFiles, Error> {
        let mut files = HostFiles::default();
        for path in paths {
            let content = self.paths.read(&path, limits::MAX_SEED_BYTES).await.map_err(DiskError::from)?;
            files.insert(path, content);
        }
        Ok(files)
    }

    /// Returns the files of a machine's seed, made from those of the host as they are now.
    pub(crate) async fn seed(&self, entry: &VmEntry, machine: &Machine) -> Result<Option<SeedFiles>, Error> {
        let Some(seed) = machine.seed.clone() else { return Ok(None) };
        let seed = self.ssh_access(entry, machine).await.with_key(seed);
        let limit = limits::MAX_SEED_BYTES;
        let files = self.host_files(seed.host_files()).await?;
        let owner = SeedOwner { id: &entry.id.to_string(), name: entry.name.as_str() };
        let rendered = seed.render(owner, &files).map_err(DiskError::from)?;
        let bytes = rendered.bytes();
        if bytes > limit {
            return Err(DiskError::from(InvalidSeed::TooLarge { bytes, limit }).into());
        }
        Ok(Some(rendered))
    }
}
