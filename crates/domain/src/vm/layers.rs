//! The layers of drives: images in which a guest goes on once a checkpoint has frozen the one before.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The images of a drive that checkpoints have frozen, and the one on top, to which the guest writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriveLayers {
    /// The drive.
    pub drive: String,
    /// The image that the definition names.
    pub base: PathBuf,
    /// The layers above it, the oldest first, each with the one before as its backing file; at least one.
    pub tops: Vec<PathBuf>,
}

impl DriveLayers {
    /// Returns the image that the guest writes to.
    pub fn top(&self) -> &Path {
        self.tops.last().unwrap_or(&self.base)
    }

    /// Returns all images, that of the definition first.
    pub fn images(&self) -> impl DoubleEndedIterator<Item = &Path> {
        std::iter::once(&self.base).chain(&self.tops).map(PathBuf::as_path)
    }

    /// Returns the image below the one on top.
    pub fn below_top(&self) -> Option<&Path> {
        self.images().rev().nth(1)
    }

    /// Returns the number in the names of the next layers of a VM: one that none of the paths has.
    pub fn next_number<'p>(taken: impl IntoIterator<Item = &'p Path>) -> u32 {
        taken.into_iter().filter_map(Self::number_of).max().map_or(1, |number| number.saturating_add(1))
    }

    /// Returns the number in the name of a layer; `None` for any other file.
    pub fn number_of(path: &Path) -> Option<u32> {
        let (_, number) = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?.rsplit_once(INFIX)?;
        number.parse::<u32>().ok()
    }

    /// Returns the name of the file of a layer.
    pub fn file_name(drive: &str, number: u32) -> String {
        format!("{drive}{INFIX}{number}{SUFFIX}")
    }
}

const INFIX: &str = ".layer-";
const SUFFIX: &str = ".qcow2";

/// Returns the layers of a drive.
pub fn layers_of<'l>(layers: &'l [DriveLayers], drive: &str) -> Option<&'l DriveLayers> {
    layers.iter().find(|layers| layers.drive == drive)
}

/// Returns the layers with one more on top of a drive, whose image without layers is `base`.
pub fn with_layer(mut layers: Vec<DriveLayers>, drive: &str, base: &Path, top: PathBuf) -> Vec<DriveLayers> {
    match layers.iter_mut().find(|layers| layers.drive == drive) {
        Some(known) => known.tops.push(top),
        None => layers.push(DriveLayers { drive: drive.to_owned(), base: base.to_owned(), tops: vec![top] }),
    }
    layers
}

/// Returns the layers without the one on top of a drive.
pub fn without_top(mut layers: Vec<DriveLayers>, drive: &str) -> Vec<DriveLayers> {
    if let Some(known) = layers.iter_mut().find(|layers| layers.drive == drive) {
        known.tops.pop();
    }
    layers.retain(|layers| !layers.tops.is_empty());
    layers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_layers_grow_and_shrink_down_to_the_image_of_the_user() {
        let layers = with_layer(Vec::new(), "hdd", Path::new("/d/hdd.raw"), "/s/hdd.layer-1.qcow2".into());
        let layers = with_layer(layers, "hdd", Path::new("/ignored"), "/s/hdd.layer-2.qcow2".into());

        let hdd = layers_of(&layers, "hdd").unwrap();
        assert_eq!(hdd.top(), Path::new("/s/hdd.layer-2.qcow2"));
        assert_eq!(hdd.below_top(), Some(Path::new("/s/hdd.layer-1.qcow2")));
        assert_eq!(hdd.base, Path::new("/d/hdd.raw"));

        let layers = without_top(layers, "hdd");
        assert_eq!(layers_of(&layers, "hdd").unwrap().below_top(), Some(Path::new("/d/hdd.raw")));
        assert_eq!(without_top(layers, "hdd"), []);
    }

    #[test]
    fn test_next_number_is_above_those_that_are_taken() {
        let taken = ["/a/hdd.layer-3.qcow2", "/a/hdd.layer-x.qcow2", "/a/ssd.layer-9.qcow2"].map(Path::new);

        assert_eq!(DriveLayers::next_number(taken), 10);
        assert_eq!(DriveLayers::next_number([]), 1);
        assert_eq!(DriveLayers::file_name("hdd", 4), "hdd.layer-4.qcow2");
    }
}
