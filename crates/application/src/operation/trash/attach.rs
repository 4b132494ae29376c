//! `storage attach`: adopts an image as a drive of a VM.

use std::path::{Path, PathBuf};

use derive_setters::Setters;
use maqet_domain::change::{Change, ChangeSet, StorageRecord};
use maqet_domain::config::{Node, Value};
use maqet_domain::event::kind;
use maqet_domain::port::ImageUse;
use maqet_domain::qemu::NodeName;
use maqet_domain::revert::RevertedRecord;
use maqet_domain::storage::ImageAccess;
use maqet_domain::vm::Vm;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::config::{Layers, check_layers, check_machine, origins, with_locations, without_name};
use crate::device::image_format::image_format;
use crate::operation::reverting;
use crate::start::backing::EarlierImages;
use crate::start::create_disks::find_drive;
use crate::start::drives::Drive;
use crate::start::image_owner::image_error;
use crate::trash::error::TrashRefusal;
use crate::trash::own_images::unused_images;
use crate::trash::used_files::UsedFiles;
use crate::{App, Error};

/// Attach an existing image to a VM as a drive
///
/// Adds the image to the definition of the VM, which uses it from its next start on. An image that maqet created for a
/// removed VM belongs to this VM from then on: `rm --delete-storage` moves it to the trash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct StorageAttach {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// The image
    pub image: PathBuf,
    /// The name of the drive [default: the name of the file, without its extension]
    #[cfg_attr(feature = "clap", arg(long))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[setters(strip_option)]
    pub name: Option<String>,
    /// The storage type, as in `raw` [default: `qcow2` for a qcow2 image]
    #[cfg_attr(feature = "clap", arg(long = "type", value_name = "TYPE"))]
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "type")]
    #[setters(strip_option)]
    pub kind: Option<String>,
    /// How the drive is attached, as in `virtio` [default: that of the type]
    #[cfg_attr(feature = "clap", arg(long))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[setters(strip_option)]
    pub interface: Option<String>,
    /// Prevent the guest from writing to it
    #[cfg_attr(feature = "clap", arg(long))]
    #[serde(default)]
    pub readonly: bool,
}

impl StorageAttach {
    /// Attaches the image at the absolute path `image` to the VM `vm`.
    pub fn new(vm: impl Into<String>, image: impl Into<PathBuf>) -> Self {
        Self { vm: vm.into(), image: image.into(), name: None, kind: None, interface: None, readonly: false }
    }
}

/// An image that is a drive of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Attached {
    /// The VM's ID.
    pub id: String,
    /// The VM's name.
    pub name: String,
    /// The drive.
    pub drive: String,
    /// The image.
    pub path: String,
    /// The storage type.
    pub r#type: String,
    /// Whether maqet created the image, so that `rm --delete-storage` moves it to the trash.
    pub owned: bool,
    /// Whether the VM is running, and gets the drive at its next start.
    pub is_running: bool,
}

impl Operation for StorageAttach {
    const NAME: &'static str = "storage.attach";
    const EFFECT: Effect = Effect::Changes;
    type Output = Attached;

    async fn run(&self, app: &App) -> Result<Done<Attached>, Error> {
        let (guard, vm) = app.vms().lock(&self.vm, Self::NAME).await?;
        self.require_unlocked(app, &vm).await?;
        self.refuse_used(app, &vm).await?;
        let earlier = app.ports.store.storage_at(&self.image).await?;
        let record = earlier.clone();
        let kind = self.storage_type(app, record.as_ref()).await?;
        let drive = self.drive_name(&vm)?;
        let base = with_entry(with_locations(&vm), self.entry(&drive, &kind));
        let layers = Layers { documents: &[], flags: Vec::new(), set: &[], lenient: false };
        let definition = without_name(check_layers(app, &layers, base).await?.definition);
        let machine = check_machine(app, definition.clone())?;
        let storage = find_drive(&vm.entry, &machine, &drive)?;
        let preflight = app.preflight();
        let image = preflight.check_drive(&Drive::new(storage, Path::new("")), &EarlierImages::default()).await?;

        let is_own =
            record.as_ref().is_some_and(StorageRecord::is_created) || self.image.starts_with(&app.folders.storage);
        let now = app.ports.clock.now();
        let record = StorageRecord {
            path: self.image.clone(),
            vm: Some(vm.entry.id),
            drive: drive.clone(),
            kind: if is_own { kind.clone() } else { StorageRecord::USED.to_owned() },
            size: image.and_then(|image| image.virtual_size),
            created_at: record.map_or(now, |record| record.created_at),
        };
        let attached = Attached {
            id: vm.entry.id.to_string(),
            name: vm.entry.name.to_string(),
            drive,
            path: shown(&self.image),
            r#type: kind,
            owned: is_own,
            is_running: app.observer().observe_process(&vm.entry).await.status.is_live(),
        };
        let data = json!({ "drive": attached.drive, "path": attached.path, "owned": attached.owned });
        let event = app.committer().event(kind::STORAGE_ATTACHED, &vm.entry, data);
        let reverted = RevertedRecord { path: self.image.clone(), record: earlier };
        let inverse = reverting(&vm, &definition, vec![reverted]);
        let origins = origins(&definition);
        let change = Change::DefinitionChanged { id: vm.entry.id, expected: vm.entry.revision, definition, origins };
        let changes = ChangeSet::default().and(change).and(Change::StorageAdded(record));
        Ok(Done::changing(attached, vm.entry.id, changes).event(event).undone_by(&inverse).holding(guard))
    }
}

impl StorageAttach {
    async fn require_unlocked(&self, app: &App, vm: &Vm) -> Result<(), Error> {
        if !app.ports.images.exists(&self.image).await {
            return Err(TrashRefusal::NoImage { path: self.image.clone() }.into());
        }
        let access = if self.readonly { ImageAccess::Read } else { ImageAccess::Write };
        let image = ImageUse { path: self.image.clone(), format: None, access };
        match app.ports.images.require_unlocked(&image).await {
            Ok(()) => Ok(()),
            Err(error) => Err(image_error(app, &vm.entry, error).await),
        }
    }

    /// Refuses the image of another drive, and one whose overlays a guest that writes to it would damage.
    async fn refuse_used(&self, app: &App, vm: &Vm) -> Result<(), Error> {
        let mut files = UsedFiles::of_vms(app, None).await?;
        let unused = unused_images(app, &files).await?;
        files.add_images(&unused).await;
        files.add_trash(&app.ports.trash.entries().await?).await;
        let mut uses = files.uses_of(&self.image).await;
        uses.retain(|used| !used.is_backing || !self.readonly);
        if uses.is_empty() {
            return Ok(());
        }
        Err(TrashRefusal::AttachedImageUsed { vm: vm.entry.name.clone(), uses }.into())
    }

    /// Returns the storage type: that of the caller, the one that the image was created with, or that of its format.
    async fn storage_type(&self, app: &App, record: Option<&StorageRecord>) -> Result<String, Error> {
        if let Some(kind) = &self.kind {
            return Ok(kind.clone());
        }
        if let Some(record) = record
            && app.drivers().get(&record.kind).is_some()
        {
            return Ok(record.kind.clone());
        }
        let is_iso = self.image.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("iso"));
        match image_format(app, &self.image, None, self.readonly).await?.as_str() {
            "raw" if is_iso => Ok("iso".to_owned()),
            format @ ("raw" | "qcow2") => Ok(format.to_owned()),
            format => {
                Err(TrashRefusal::FormatUnsupported { path: self.image.clone(), format: format.to_owned() }.into())
            }
        }
    }

    /// Returns the name of the drive: that of the caller, or one that is free and similar to the name of the file.
    fn drive_name(&self, vm: &Vm) -> Result<String, Error> {
        if let Some(name) = &self.name {
            return Ok(NodeName::parse(name)?.to_string());
        }
        let entries = vm.definition.get("storage").map(Node::items).unwrap_or_default();
        let taken: Vec<String> = entries.iter().filter_map(|entry| entry.get("name")?.written()).collect();
        let name = name_from(&self.image);
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| !taken.contains(name));
        Ok(NodeName::parse(&free.unwrap_or(name))?.to_string())
    }

    /// Returns the entry of the definition.
    fn entry(&self, drive: &str, kind: &str) -> Node {
        let text = |key: &str, value: &str| (key.to_owned(), Node::text(value));
        let mut entries = vec![text("name", drive), text("type", kind), text("file", &self.image.to_string_lossy())];
        entries.extend(self.interface.iter().map(|interface| text("interface", interface)));
        if self.readonly {
            entries.push(("readonly".to_owned(), Node::new(Value::Bool(true))));
        }
        Node::new(Value::Map(entries))
    }
}

/// Returns a definition with one more entry of `storage`.
fn with_entry(definition: Node, entry: Node) -> Node {
    let has_storage = definition.non_null("storage").is_some();
    definition.map_entries(|mut entries| {
        if has_storage {
            let add = |mut items: Vec<Node>| {
                items.push(entry.clone());
                items
            };
            return entries
                .into_iter()
                .map(|(key, node)| if key == "storage" { (key, node.map_items(add)) } else { (key, node) })
                .collect();
        }
        entries.retain(|(key, _)| key != "storage");
        entries.push(("storage".to_owned(), Node::new(Value::List(vec![entry]))));
        entries
    })
}

/// Returns a name for a drive from that of a file: with the letters that names of drives have, and room for a number.
fn name_from(image: &Path) -> String {
    const ROOM: usize = 3;
    let stem = image.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let usual = |letter: char| if letter.is_ascii_alphanumeric() || "-_.".contains(letter) { letter } else { '-' };
    let name: String = stem.chars().map(usual).skip_while(|letter| !letter.is_ascii_alphabetic()).collect();
    let name: String = name.chars().take(NodeName::MAX_LEN - ROOM).collect();
    if NodeName::parse(&name).is_ok() { name } else { "disk".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_name_from_file_is_a_valid_name() {
        for (file, name) in [
            ("/d/hdd.qcow2", "hdd"),
            ("/d/Debian 12 (old).raw", "debian-12--old-"),
            ("/d/2024-01.img", "disk"),
            ("/d/all.img", "disk"),
            ("/d/uefi-vars.qcow2", "disk"),
            ("/d/\u{e4}.img", "disk"),
        ] {
            assert_eq!(name_from(Path::new(file)), name, "{file}");
        }
        assert!(name_from(Path::new(&"x".repeat(80))).len() + 3 <= NodeName::MAX_LEN);
    }

    #[test]
    fn test_with_entry_appends_to_the_list_or_makes_one() {
        let node = |text: &str| serde_json::from_str::<Node>(text).unwrap();
        let entry = || node(r#"{"name": "b"}"#);

        assert_eq!(with_entry(node(r#"{"cpu": 1}"#), entry()), node(r#"{"cpu": 1, "storage": [{"name": "b"}]}"#));
        assert_eq!(with_entry(node(r#"{"storage": null}"#), entry()), node(r#"{"storage": [{"name": "b"}]}"#));
        let two = node(r#"{"storage": [{"name": "a"}, {"name": "b"}], "cpu": 1}"#);
        assert_eq!(with_entry(node(r#"{"storage": [{"name": "a"}], "cpu": 1}"#), entry()), two);
    }
}
