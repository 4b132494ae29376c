//! What a dry run checks of a change that would be reverted after others.

use std::collections::BTreeSet;
use std::path::PathBuf;

use maqet_domain::history::{Expected, RecordedHistory};
use maqet_domain::revert::Revert;
use maqet_domain::trash::TrashId;
use maqet_domain::vm::{ImageTag, VmId, VmName};

use crate::app::operations::Operation;
use crate::history::find_problem;
use crate::history::reverting::Reverting;
use crate::operation::{Add, Rm, StorageTrashRestore};
use crate::{App, Error};

/// What reverts of newer changes bring back to what it was before them.
///
/// An older change finds this as it left it, unless the reverts are refused. It is otherwise as long as they are not made,
/// so that a dry run cannot check it.
#[derive(Debug, Clone, Default)]
pub(super) struct EarlierReverts {
    /// VMs that are removed, or defined again.
    vms: BTreeSet<VmId>,
    /// Names that become free, or are taken.
    names: BTreeSet<VmName>,
    /// VMs whose definition changes.
    definitions: BTreeSet<VmId>,
    /// Images that are created, removed, moved or resized.
    paths: BTreeSet<PathBuf>,
    /// Images that get the content that they had.
    written: BTreeSet<PathBuf>,
    /// Snapshots that are created or removed.
    tags: Vec<ImageTag>,
    /// Entries of the trash that are created or removed.
    trash: BTreeSet<String>,
}

impl EarlierReverts {
    /// Returns why a change would not be reverted after these, if the reason is known before; adds it to them.
    pub(super) async fn problem(
        &mut self,
        reverting: &Reverting<'_>,
        recorded: &RecordedHistory,
    ) -> Result<Option<Error>, Error> {
        let inverse = match reverting.inverse(recorded) {
            Ok(inverse) => inverse,
            Err(error) => return Ok(Some(error)),
        };
        let Ok(revert) = serde_json::from_value::<Revert>(inverse.arguments["revert"].clone()) else { return Ok(None) };
        let problem = find_problem(reverting.app, &self.checkable(&revert), None).await;
        self.add(reverting.app, recorded, &revert).await?;
        problem
    }

    /// Adds what reverting a change does.
    async fn add(&mut self, app: &App, recorded: &RecordedHistory, revert: &Revert) -> Result<(), Error> {
        let entry = &recorded.entry;
        let by = entry.inverse.as_ref().map(|call| call.operation.as_str());
        let is_of_vm = by.is_some_and(|by| [Add::NAME, Rm::NAME, StorageTrashRestore::NAME].contains(&by));
        if is_of_vm && let Some(vm) = entry.vm {
            self.vms.insert(vm);
            self.names.extend(entry.vm_name.clone());
            self.paths.extend(app.ports.store.storage_of_vm(&vm).await?.into_iter().map(|record| record.path));
        }
        self.add_expected(&revert.expected);
        if let Some(id) = revert.expected.trash.as_ref().and_then(|id| TrashId::parse(id).ok())
            && let Some(entry) = app.ports.trash.find(&id).await
        {
            self.paths.extend(entry.images.into_iter().map(|image| image.record.path));
        }
        if revert.definition.is_some() {
            self.definitions.extend(entry.vm);
        }
        let loaded = revert.expected.snapshots.iter().map(|snapshot| &snapshot.tag);
        self.written.extend(loaded.clone().map(|tag| tag.path.clone()));
        let created = revert.created.iter().map(|snapshot| &snapshot.tag);
        self.tags.extend(loaded.chain(created).cloned());
        Ok(())
    }

    fn add_expected(&mut self, expected: &Expected) {
        let images = expected.images.iter();
        let copied = images.clone().filter_map(|image| Some(image.copied_from.as_ref()?.path.clone()));
        self.paths.extend(images.clone().map(|image| image.path.clone()).chain(copied));
        self.paths.extend(expected.free_paths.iter().cloned());
        self.trash.extend(expected.trash.clone());
    }

    /// Returns what can be checked of a change that is reverted after these.
    fn checkable(&self, revert: &Revert) -> Revert {
        let mut revert = revert.clone();
        let expected = &mut revert.expected;
        if expected.vm.is_some_and(|vm| self.definitions.contains(&vm)) {
            expected.definition = None;
        }
        if expected.vm.is_some_and(|vm| self.vms.contains(&vm)) {
            *expected = Expected { vm: None, definition: None, boot: None, stopped: false, ..std::mem::take(expected) };
        }
        expected.free_name = expected.free_name.take().filter(|name| !self.names.contains(name));
        expected.images.retain(|image| !self.paths.contains(&image.path));
        for image in &mut expected.images {
            image.modified = image.modified.filter(|_| !self.written.contains(&image.path));
        }
        expected.free_paths.retain(|path| !self.paths.contains(path));
        let is_known = |tag: &ImageTag| !self.paths.contains(&tag.path) && !self.tags.contains(tag);
        expected.snapshots.retain(|snapshot| is_known(&snapshot.tag));
        expected.trash = expected.trash.take().filter(|entry| !self.trash.contains(entry));
        revert.created.retain(|snapshot| is_known(&snapshot.tag));
        revert
    }
}

#[cfg(test)]
mod tests {
    use maqet_domain::Timestamp;
    use maqet_domain::config::Node;
    use maqet_domain::history::{DefinitionDigest, ExpectedImage, ExpectedSnapshot};
    use maqet_domain::vm::BootNumber;

    use super::*;

    fn id(number: u128) -> VmId {
        format!("{number:032x}").parse().unwrap()
    }

    fn snapshot(path: &str, tag: &str) -> ExpectedSnapshot {
        let tag = ImageTag { drive: "hdd".to_owned(), path: path.into(), tag: tag.to_owned() };
        ExpectedSnapshot { tag, made: None }
    }

    /// Everything that a change can expect.
    fn revert() -> Revert {
        let image =
            |path: &str| ExpectedImage { modified: Some(Timestamp::UNIX_EPOCH), ..ExpectedImage::new(path.into()) };
        let expected = Expected {
            vm: Some(id(1)),
            free_name: Some(VmName::parse("web").unwrap()),
            definition: Some(DefinitionDigest::new(&Node::empty_map())),
            boot: Some(BootNumber(3)),
            stopped: true,
            images: vec![image("/d/a"), image("/d/b")],
            free_paths: vec!["/d/free".into()],
            snapshots: vec![snapshot("/d/a", "one"), snapshot("/d/b", "two")],
            trash: Some("entry".to_owned()),
        };
        Revert { created: vec![snapshot("/d/b", "three")], ..Revert::new(expected) }
    }

    #[test]
    fn test_checkable_of_unrelated_reverts_is_all() {
        let mut earlier = EarlierReverts { vms: [id(2)].into(), definitions: [id(3)].into(), ..Default::default() };
        earlier.paths.insert("/d/other".into());

        assert_eq!(earlier.checkable(&revert()), revert());
    }

    #[test]
    fn test_checkable_leaves_out_only_what_is_reverted() {
        let of = |earlier: EarlierReverts| earlier.checkable(&revert());
        let expected = |change: fn(&mut Expected)| {
            let mut revert = revert();
            change(&mut revert.expected);
            revert
        };

        let defined = EarlierReverts { definitions: [id(1)].into(), ..Default::default() };
        assert_eq!(of(defined), expected(|expected| expected.definition = None));
        let removed = EarlierReverts { vms: [id(1)].into(), ..Default::default() };
        assert_eq!(
            of(removed),
            expected(|expected| {
                *expected = Expected { vm: None, definition: None, boot: None, stopped: false, ..expected.clone() };
            })
        );
        let named = EarlierReverts { names: [VmName::parse("web").unwrap()].into(), ..Default::default() };
        assert_eq!(of(named), expected(|expected| expected.free_name = None));
        let written = EarlierReverts { written: ["/d/b".into()].into(), ..Default::default() };
        assert_eq!(of(written), expected(|expected| expected.images[1].modified = None));
        let trash = EarlierReverts { trash: ["entry".to_owned()].into(), ..Default::default() };
        assert_eq!(of(trash), expected(|expected| expected.trash = None));
        let freed = EarlierReverts { paths: ["/d/free".into()].into(), ..Default::default() };
        assert_eq!(of(freed), expected(|expected| expected.free_paths.clear()));
    }

    #[test]
    fn test_checkable_leaves_out_snapshots_of_moved_images() {
        let earlier = EarlierReverts { paths: ["/d/b".into()].into(), ..Default::default() };

        let left = earlier.checkable(&revert());

        assert_eq!((left.expected.images.len(), left.expected.snapshots.len(), left.created.len()), (1, 1, 0));
        let tags = EarlierReverts { tags: vec![snapshot("/d/b", "three").tag], ..Default::default() };
        assert_eq!(tags.checkable(&revert()), Revert { created: Vec::new(), ..revert() });
    }
}
