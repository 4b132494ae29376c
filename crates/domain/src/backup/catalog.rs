//! The backups of a VM in one directory, and how they build on each other.

use std::path::PathBuf;

use super::{BackedUpDrive, BackupManifest, BackupName};

/// A backup that was found in a directory.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundBackup {
    /// Its directory.
    pub directory: PathBuf,
    /// What it has.
    pub manifest: BackupManifest,
    /// The length of each image, in the order of the drives; `None` for one that is missing.
    pub lengths: Vec<Option<u64>>,
}

impl FoundBackup {
    /// Returns the backups that it builds on directly, one for each drive that does.
    fn bases(&self) -> impl Iterator<Item = &BackupName> {
        self.manifest.drives.iter().filter_map(BackedUpDrive::base)
    }
}

/// What is wrong with the image of a drive in a backup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum BackupProblem {
    #[error("backup `{backup}`, on which it builds, is missing")]
    BackupMissing { backup: BackupName },
    #[error("backup `{backup}` has no image of drive `{drive}`")]
    DriveMissing { backup: BackupName, drive: String },
    #[error("`{}` is missing", path.display())]
    FileMissing { path: PathBuf },
    #[error("`{}` has {found} bytes instead of {expected}", path.display())]
    LengthChanged { path: PathBuf, expected: u64, found: u64 },
    #[error("`{}` was changed: its checksum differs", path.display())]
    ContentChanged { path: PathBuf },
    #[error("`{}` has {errors} errors", path.display())]
    Corrupt { path: PathBuf, errors: u64 },
    #[error("`{}` cannot be read: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("`{}` builds on another file", path.display())]
    OtherBase { path: PathBuf },
    #[error("the backups build on each other in a circle")]
    Circle,
}

/// The image of a drive in a backup.
#[derive(Debug, Clone, Copy)]
pub struct DriveImage<'a> {
    /// The backup.
    pub backup: &'a FoundBackup,
    /// The drive.
    pub drive: &'a BackedUpDrive,
    length: Option<u64>,
}

impl DriveImage<'_> {
    /// Returns the path of the image.
    pub fn path(&self) -> PathBuf {
        self.backup.directory.join(&self.drive.file)
    }

    /// Checks that the image is there and as long as it was.
    pub fn check(&self) -> Result<(), BackupProblem> {
        let (path, expected) = (self.path(), self.drive.file_bytes);
        match self.length {
            None => Err(BackupProblem::FileMissing { path }),
            Some(found) if found != expected => Err(BackupProblem::LengthChanged { path, expected, found }),
            Some(_) => Ok(()),
        }
    }
}

/// The backups of a VM in one directory, oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BackupCatalog(Vec<FoundBackup>);

impl BackupCatalog {
    /// Orders backups by time.
    pub fn new(mut found: Vec<FoundBackup>) -> Self {
        let name = |backup: &FoundBackup| backup.manifest.name.clone();
        found.sort_by_key(|backup| (backup.manifest.created_at, name(backup).as_str().len(), name(backup)));
        Self(found)
    }

    /// Returns the backups, oldest first.
    pub fn backups(&self) -> &[FoundBackup] {
        &self.0
    }

    /// Returns the backup with this name.
    pub fn get(&self, name: &BackupName) -> Option<&FoundBackup> {
        self.0.iter().find(|backup| backup.manifest.name == *name)
    }

    /// Returns the newest backup.
    pub fn latest(&self) -> Option<&FoundBackup> {
        self.0.last()
    }

    /// Returns the image of a drive in a backup.
    pub fn image(&self, name: &BackupName, drive: &str) -> Result<DriveImage<'_>, BackupProblem> {
        let backup = self.get(name).ok_or_else(|| BackupProblem::BackupMissing { backup: name.clone() })?;
        let mut drives = backup.manifest.drives.iter().zip(backup.lengths.iter().chain(std::iter::repeat(&None)));
        let (found, length) = drives
            .find(|(found, _)| found.drive == drive)
            .ok_or_else(|| BackupProblem::DriveMissing { backup: name.clone(), drive: drive.to_owned() })?;
        Ok(DriveImage { backup, drive: found, length: *length })
    }

    /// Returns the images that a drive in a backup consists of, the newest first, all of which are there.
    pub fn chain(&self, name: &BackupName, drive: &str) -> Result<Vec<DriveImage<'_>>, BackupProblem> {
        let mut images = Vec::new();
        let mut next = Some(name);
        while let Some(name) = next {
            if images.iter().any(|image: &DriveImage<'_>| image.backup.manifest.name == *name) {
                return Err(BackupProblem::Circle);
            }
            let image = self.image(name, drive)?;
            image.check()?;
            next = image.drive.base();
            images.push(image);
        }
        Ok(images)
    }

    /// Returns the backups that build on one of these, directly or not, oldest first; not these themselves.
    pub fn dependents(&self, names: &[BackupName]) -> Vec<BackupName> {
        let mut removed = names.to_vec();
        loop {
            let known = removed.len();
            for backup in &self.0 {
                let name = &backup.manifest.name;
                if !removed.contains(name) && backup.bases().any(|base| removed.contains(base)) {
                    removed.push(name.clone());
                }
            }
            // Once is not enough if the clock stepped back: a backup is then listed before what it builds on.
            if removed.len() == known {
                break;
            }
        }
        let found = self.0.iter().map(|backup| &backup.manifest.name);
        found.filter(|name| removed.contains(name) && !names.contains(name)).cloned().collect()
    }

    /// Returns backups in the order in which to remove them: each before what it builds on, else the newest first.
    pub fn removal_order(&self, names: &[BackupName]) -> Vec<&FoundBackup> {
        let is_named = |backup: &&FoundBackup| names.contains(&backup.manifest.name);
        let mut left: Vec<&FoundBackup> = self.0.iter().rev().filter(is_named).collect();
        let mut order = Vec::with_capacity(left.len());
        while !left.is_empty() {
            let is_base =
                |backup: &FoundBackup| left.iter().any(|other| other.bases().any(|base| *base == backup.manifest.name));
            // None can be read in a circle.
            let next = left.iter().position(|backup| !is_base(backup)).unwrap_or_default();
            order.push(left.remove(next));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{catalog, name};
    use super::*;

    #[test]
    fn test_chain_leads_to_the_full_backup() {
        let catalog = catalog(&[(1, None), (2, Some(1)), (3, Some(2)), (4, None)]);

        let chain = catalog.chain(&name(3), "hdd").unwrap();

        let paths: Vec<PathBuf> = chain.iter().map(DriveImage::path).collect();
        let expected = ["/b/web/3/hdd.qcow2", "/b/web/2/hdd.qcow2", "/b/web/1/hdd.qcow2"];
        assert_eq!(paths, expected.map(PathBuf::from));
        assert_eq!(catalog.latest().unwrap().manifest.name, name(4));
    }

    #[test]
    fn test_chain_that_is_broken_says_where() {
        let links = [(1, None), (2, Some(1)), (3, Some(2))];
        let mut missing = catalog(&links).backups().to_vec();
        missing[0].lengths = vec![None];
        let mut changed = catalog(&links).backups().to_vec();
        changed[1].lengths = vec![Some(6)];
        let circle = catalog(&[(1, Some(2)), (2, Some(1))]);
        let problem = |catalog: &BackupCatalog, index| catalog.chain(&name(index), "hdd").unwrap_err();

        let path = |index: u32| PathBuf::from(format!("/b/web/{index}/hdd.qcow2"));
        assert_eq!(problem(&BackupCatalog::new(missing), 3), BackupProblem::FileMissing { path: path(1) });
        let length = BackupProblem::LengthChanged { path: path(2), expected: 7, found: 6 };
        assert_eq!(problem(&BackupCatalog::new(changed), 3), length);
        assert_eq!(problem(&circle, 1), BackupProblem::Circle);
        assert_eq!(problem(&catalog(&links[1..]), 3), BackupProblem::BackupMissing { backup: name(1) });
        let other = catalog(&links).chain(&name(1), "cdrom").unwrap_err();
        assert_eq!(other, BackupProblem::DriveMissing { backup: name(1), drive: "cdrom".to_owned() });
    }

    #[test]
    fn test_dependents_and_order_hold_for_any_dates() {
        let names = [1, 2, 3, 4].map(name);
        let backups = catalog(&[(1, None), (2, Some(1)), (3, Some(2)), (4, Some(3))]).backups().to_vec();
        for code in 0..4_i64.pow(4) {
            let mut dated = backups.clone();
            for (index, backup) in dated.iter_mut().enumerate() {
                let second = code / 4_i64.pow(u32::try_from(index).unwrap()) % 4;
                backup.manifest.created_at = jiff::Timestamp::from_second(second).unwrap();
            }
            let catalog = BackupCatalog::new(dated);

            let mut dependents = catalog.dependents(&names[..1]);
            let order: Vec<&BackupName> =
                catalog.removal_order(&names).into_iter().map(|backup| &backup.manifest.name).collect();

            dependents.sort();
            assert_eq!(dependents, names[1..], "{code}");
            assert_eq!(order, names.iter().rev().collect::<Vec<_>>(), "{code}");
        }
        let circle = catalog(&[(1, Some(2)), (2, Some(1))]);
        assert_eq!(circle.removal_order(&names).len(), 2);
    }

    #[test]
    fn test_dependents_are_found_through_others() {
        let catalog = catalog(&[(1, None), (2, Some(1)), (3, Some(2)), (4, None), (5, Some(4))]);

        assert_eq!(catalog.dependents(&[name(1)]), [name(2), name(3)]);
        assert_eq!(catalog.dependents(&[name(2), name(3)]), []);
        assert_eq!(catalog.dependents(&[name(1), name(4)]), [name(2), name(3), name(5)]);
    }
}
