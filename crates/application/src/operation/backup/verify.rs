//! `backup verify`: reads backups completely.

use std::path::PathBuf;

use derive_setters::Setters;
use maqet_domain::backup::{BackupName, BackupProblem, DriveImage, FoundBackup};
use maqet_domain::port::{HeldLock, ImageError, ImageFile, ImageUse, ImageWork};
use maqet_domain::storage::ImageAccess;
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::backup::error::BackupError;
use crate::backup::place::{Place, find_vm};
use crate::job::Job;
use crate::{App, Error, HumanDuration, ProgressUnit};

/// Check that backups are complete and unchanged, by reading them
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct BackupVerify {
    /// The VM: a name, an ID, or a unique prefix of an ID; the name of a removed one
    pub vm: String,
    /// The backup, or `latest`, with all that it builds on [default: all]
    pub backup: Option<String>,
    /// The directory of the backups, in which each VM has its own [default: `backups` in the data directory]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DIRECTORY"))]
    #[setters(strip_option)]
    pub from: Option<PathBuf>,
    /// Timeout [default: none]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    pub timeout: Option<HumanDuration>,
}

impl BackupVerify {
    /// Verifies all backups of the VM `vm`.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into(), backup: None, from: None, timeout: None }
    }
}

/// Backups that are complete and unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BackupVerified {
    /// The VM's name.
    pub name: String,
    /// The backups.
    pub verified: Vec<String>,
    /// How many bytes were read.
    pub bytes: u64,
}

impl Operation for BackupVerify {
    const NAME: &'static str = "backup.verify";
    const EFFECT: Effect = Effect::Reads;
    type Output = BackupVerified;

    async fn run(&self, app: &App) -> Result<Done<BackupVerified>, Error> {
        let (name, _) = find_vm(app, &self.vm).await?;
        let place = Place::read(app, &name, self.from.as_deref()).await?;
        let (guard, place) = place.lock(app, Self::NAME).await?;
        let job = app.jobs.start(Self::NAME, &name).within(self.timeout);
        let backups = match &self.backup {
            Some(backup) => with_bases(&place, place.find(backup)?),
            None if place.catalog.backups().is_empty() && place.unreadable.is_empty() => {
                vec![place.find("latest")?]
            }
            None => place.catalog.backups().iter().collect(),
        };
        let mut verified = BackupVerified { name: name.to_string(), verified: Vec::new(), bytes: 0 };
        let mut problems = Vec::new();
        if self.backup.is_none() {
            let describe = |(path, problem): &(PathBuf, String)| format!("`{}`: {problem}", shown(path));
            problems.extend(place.unreadable.iter().map(describe));
        }
        let mut damaged = problems.len();
        for backup in backups {
            let mut found = Vec::new();
            for drive in &backup.manifest.drives {
                let image = place.catalog.image(&backup.manifest.name, &drive.drive);
                let checked = match image {
                    Ok(image) => verify(app, &job, &place, &image, &*guard).await?,
                    Err(problem) => Err(problem),
                };
                verified.bytes += drive.file_bytes;
                found.extend(checked.err());
            }
            if found.is_empty() {
                verified.verified.push(backup.manifest.name.to_string());
            } else {
                damaged += 1;
            }
            problems.extend(found.into_iter().map(|problem| format!("backup {}: {problem}", backup.manifest.name)));
        }
        if !problems.is_empty() {
            return Err(BackupError::Damaged { vm: name, count: damaged, problems }.into());
        }
        Ok(Done::reading(verified).holding(guard))
    }
}

/// Returns a backup and those that it builds on, oldest first.
fn with_bases<'p>(place: &'p Place, backup: &FoundBackup) -> Vec<&'p FoundBackup> {
    let drives = &backup.manifest.drives;
    let images = drives.iter().filter_map(|drive| place.catalog.chain(&backup.manifest.name, &drive.drive).ok());
    let mut names: Vec<&BackupName> = images.flatten().map(|image| &image.backup.manifest.name).collect();
    names.push(&backup.manifest.name);
    place.catalog.backups().iter().filter(|found| names.contains(&&found.manifest.name)).collect()
}

/// Reads an image, and compares it with what was recorded.
async fn verify(
    app: &App,
    job: &Job<'_>,
    place: &Place,
    image: &DriveImage<'_>,
    guard: &HeldLock,
) -> Result<Result<(), BackupProblem>, Error> {
    if let Err(problem) = image.check() {
        return Ok(Err(problem));
    }
    let path = image.path();
    let progress = |done| job.report(ProgressUnit::Bytes, done, image.drive.file_bytes);
    let facts = job.run(app.ports.backups.examine(&path, &progress)).await??;
    if (facts.file_bytes, facts.crc32) != (image.drive.file_bytes, image.drive.crc32) {
        return Ok(Err(BackupProblem::ContentChanged { path }));
    }
    let expected = match image.drive.base() {
        Some(base) => match place.catalog.image(base, &image.drive.drive) {
            Ok(base) => Some(base.path()),
            Err(problem) => return Ok(Err(problem)),
        },
        None => None,
    };
    let used = ImageUse { path: path.clone(), format: Some("qcow2".to_owned()), access: ImageAccess::Read };
    let unreadable = |error: ImageError| BackupProblem::Unreadable { path: path.clone(), reason: error.to_string() };
    let base = match app.ports.images.examine(&used).await {
        Ok(summary) => summary.backing,
        Err(error) => return Ok(Err(unreadable(error))),
    };
    let base = match base {
        Some(base) => app.ports.image_tools.identify(&base).await.map(|(path, _)| path),
        None => None,
    };
    if base != expected {
        return Ok(Err(BackupProblem::OtherBase { path }));
    }
    let file = ImageFile { path: path.clone(), format: "qcow2".to_owned() };
    let work = ImageWork { guard, progress: &|_, _| {} };
    let check = match job.run(app.ports.image_tools.check(&file, None, &work)).await? {
        Ok(check) => check,
        Err(error) => return Ok(Err(unreadable(error))),
    };
    let errors = check.map_or(0, |check| check.corruptions + check.check_errors);
    Ok(if errors == 0 { Ok(()) } else { Err(BackupProblem::Corrupt { path, errors }) })
}
