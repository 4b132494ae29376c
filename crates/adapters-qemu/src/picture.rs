//! The port [`Pictures`]: images of the screen in files.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use maqet_adapters_linux::atomic_file::AtomicFile;
use maqet_adapters_linux::private_file::open_regular;
use maqet_domain::picture::{PictureFormat, Ppm};
use maqet_domain::port::{PictureError, PictureFile, Pictures};
use maqet_domain::vm::RunPaths;
use uuid::Uuid;

use crate::limits::MAX_PICTURE_BYTES;

/// The prefix of the files that QEMU writes, by which stale ones are found.
const PREFIX: &str = "picture-";

/// Pictures in files of the host.
#[derive(Debug, Clone, Copy, Default)]
pub struct FilePictures;

#[derive(Debug)]
struct TemporaryPicture(PathBuf);

impl Drop for TemporaryPicture {
    fn drop(&mut self) {
        // QEMU may not have written it.
        let _ = fs::remove_file(&self.0);
    }
}

impl PictureFile for TemporaryPicture {
    fn path(&self) -> &Path {
        &self.0
    }

    fn read(&self) -> Result<Vec<u8>, PictureError> {
        read(&self.0).map_err(|error| PictureError::ReadFailed { source: error.into() })
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.take(MAX_PICTURE_BYTES + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_PICTURE_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than {} MiB", MAX_PICTURE_BYTES >> 20),
        ));
    }
    Ok(bytes)
}

#[async_trait]
impl Pictures for FilePictures {
    fn new_file(&self, paths: &RunPaths, format: PictureFormat) -> Box<dyn PictureFile> {
        let name = format!("{PREFIX}{}.{format}", Uuid::new_v4().simple());
        Box::new(TemporaryPicture(paths.sockets.join(name)))
    }

    fn to_png(&self, ppm: &[u8]) -> Result<Vec<u8>, PictureError> {
        let picture = Ppm::parse(ppm).ok_or(PictureError::InvalidImage { length: ppm.len() })?;
        encoded(picture).map_err(|error| PictureError::EncodeFailed { source: error.into() })
    }

    async fn save(&self, file: &Path, picture: &[u8]) -> Result<(), PictureError> {
        if let Some(kind) = kind_of_other(file) {
            return Err(PictureError::NotAFile { file: file.to_owned(), kind });
        }
        save(file, picture).map_err(|error| PictureError::WriteFailed { file: file.to_owned(), source: error.into() })
    }
}

fn encoded(picture: Ppm<'_>) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, picture.width, picture.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(picture.pixels)?;
    writer.finish()?;
    Ok(bytes)
}

/// Returns what exists at a path, if that is not a regular file.
fn kind_of_other(file: &Path) -> Option<&'static str> {
    let kind = fs::symlink_metadata(file).ok()?.file_type();
    match (kind.is_file(), kind.is_dir(), kind.is_symlink()) {
        (true, ..) => None,
        (_, true, _) => Some(PictureError::DIRECTORY),
        (_, _, true) => Some("a symbolic link"),
        _ => Some("not a regular file"),
    }
}

/// Writes the file that the user asked for, with the mode of any new file.
fn save(file: &Path, picture: &[u8]) -> io::Result<()> {
    let mut new = AtomicFile::create_shared(file)?;
    new.write_all(picture)?;
    new.replace_unsynced()
}

/// Returns the pictures in the folder of a run; those that are not being taken are stale.
pub(crate) fn screendump_files(sockets: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(sockets).into_iter().flatten().flatten();
    let names = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    names.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use maqet_domain::picture::png_size;
    use maqet_domain::vm::BootNumber;

    use super::*;

    #[test]
    fn test_to_png_keeps_every_pixel() {
        let pixels: Vec<u8> = (0..=255).cycle().take(37 * 11 * 3).collect();

        let made = FilePictures.to_png(&[b"P6\n37 11\n255\n".as_slice(), &pixels].concat()).unwrap();

        assert_eq!(png_size(&made), Some((37, 11)));
        let mut reader = png::Decoder::new(io::Cursor::new(made)).read_info().unwrap();
        let mut read = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut read).unwrap();
        assert_eq!(read, pixels);
    }

    #[test]
    fn test_file_dropped_removes_picture() {
        let folder = tempfile::tempdir().unwrap();
        let paths = RunPaths::new(folder.path(), folder.path(), BootNumber(1));
        fs::create_dir(&paths.sockets).unwrap();

        let file = FilePictures.new_file(&paths, PictureFormat::Ppm);
        fs::write(file.path(), "P6").unwrap();
        let before = screendump_files(&paths.sockets);
        assert_eq!((file.read().unwrap(), before), (b"P6".to_vec(), vec![file.path().to_owned()]));
        drop(file);

        assert!(screendump_files(&paths.sockets).is_empty());
    }

    #[tokio::test]
    async fn test_save_replaces_only_regular_file() {
        let folder = tempfile::tempdir().unwrap();
        let [file, link, inner] = ["screen.png", "link.png", "folder.png"].map(|name| folder.path().join(name));
        fs::write(&file, "an older picture, which is longer").unwrap();
        symlink(&file, &link).unwrap();
        fs::create_dir(&inner).unwrap();

        FilePictures.save(&file, b"new").await.unwrap();
        let through_link = FilePictures.save(&link, b"other").await;
        let onto_folder = FilePictures.save(&inner, b"other").await;
        let nowhere = FilePictures.save(&folder.path().join("none/screen.png"), b"new").await;

        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert!(through_link.is_err() && onto_folder.is_err() && nowhere.is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }
}
