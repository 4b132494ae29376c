//! The seed of a guest, read and made for each start.

use maqet_domain::first_boot::{HostFiles, InvalidSeed, SeedFiles, SeedOwner};
use maqet_domain::machine::Machine;
use maqet_domain::port::RunFile;
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
    ) -> Result<Vec<RunFile>, Error> {
        let seed = self.seed(entry, machine).await?;
        let image = seed.map(|files| RunFile { path: paths.seed_image(), content: files.image() });
        Ok(image.into_iter().collect())
    }

    /// Returns the files of a machine's seed, made from those of the host as they are now.
    pub(crate) async fn seed(&self, entry: &VmEntry, machine: &Machine) -> Result<Option<SeedFiles>, Error> {
        let Some(seed) = &machine.seed else { return Ok(None) };
        let limit = limits::MAX_SEED_BYTES;
        let mut files = HostFiles::default();
        for path in seed.host_files() {
            let content = self.paths.read(&path, limit).await.map_err(DiskError::from)?;
            files.insert(path, content);
        }
        let owner = SeedOwner { id: &entry.id.to_string(), name: entry.name.as_str() };
        let rendered = seed.render(owner, &files).map_err(DiskError::from)?;
        let bytes = rendered.bytes();
        if bytes > limit {
            return Err(DiskError::from(InvalidSeed::TooLarge { bytes, limit }).into());
        }
        Ok(Some(rendered))
    }
}
