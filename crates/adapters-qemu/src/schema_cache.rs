//! The port [`Schemas`]: the QMP schemas of QEMU binaries, cached in files.

use std::path::PathBuf;

use maqet_domain::port::Schemas;
use maqet_domain::qmp::Schema;
use maqet_domain::vm::ProcessIdentity;

use crate::binary_cache::{BinaryCache, Build};

/// The largest file that is read; one has about 35 KB.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Schemas in a folder, with a file for each binary.
#[derive(Debug)]
pub struct FileSchemas(BinaryCache);

impl FileSchemas {
    /// Keeps schemas in `folder`, which the first one creates.
    pub const fn new(folder: PathBuf) -> Self {
        Self(BinaryCache::new(folder, "qmp-schema", MAX_FILE_BYTES))
    }
}

impl Schemas for FileSchemas {
    fn get(&self, process: &ProcessIdentity) -> Option<Schema> {
        Schema::from_text(self.0.get(&Build::from_process(process)?)?).ok()
    }

    fn put(&self, process: &ProcessIdentity, schema: &Schema) {
        if let Some(build) = Build::from_process(process) {
            self.0.put(&build, schema.as_text());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use maqet_domain::vm::BootId;
    use serde_json::json;

    use super::*;

    fn schema(command: &str) -> Schema {
        let reply = json!([{"name": command, "meta-type": "command", "arg-type": "0", "ret-type": "0"},
            {"name": "0", "meta-type": "object", "members": []}]);
        Schema::from_reply(&reply).unwrap()
    }

    /// This process.
    fn own() -> ProcessIdentity {
        let boot_id = BootId("11111111-1111-4111-8111-111111111111".to_owned());
        ProcessIdentity { pid: std::process::id(), start_ticks: 1, boot_id, namespace: None }
    }

    fn only_file(folder: &Path) -> PathBuf {
        let files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        let [file] = files.as_slice() else { panic!("{files:?}") };
        file.clone()
    }

    #[test]
    fn test_put_writes_private_file() {
        let folder = tempfile::tempdir().unwrap();
        let schemas = FileSchemas::new(folder.path().join("cache"));

        let before = schemas.get(&own());
        schemas.put(&own(), &schema("query-status"));

        assert_eq!(before, None);
        assert_eq!(schemas.get(&own()), Some(schema("query-status")));
        let file = only_file(&folder.path().join("cache"));
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn test_get_corrupt_or_writable_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let schemas = FileSchemas::new(folder.path().to_owned());
        schemas.put(&own(), &schema("query-status"));
        let file = only_file(folder.path());
        let whole = fs::read_to_string(&file).unwrap();
        let broken = [
            String::new(),
            whole[..whole.len() - 1].to_owned(),
            whole.replace("query-status", "query-statux"),
            whole.replacen("maqet-cache 1", "maqet-cache 2", 1),
            // Of another state of the binary.
            whole.replacen(':', ":1", 1),
            "x".repeat(2 << 20),
        ];

        for content in broken {
            fs::write(&file, &content).unwrap();
            assert_eq!(schemas.get(&own()), None, "{}", &content[..content.len().min(200)]);
        }
        fs::write(&file, &whole).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(schemas.get(&own()), None);

        schemas.put(&own(), &schema("stop"));
        assert_eq!(schemas.get(&own()), Some(schema("stop")));
    }

    #[test]
    fn test_get_symbolic_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let schemas = FileSchemas::new(folder.path().to_owned());
        schemas.put(&own(), &schema("query-status"));
        let file = only_file(folder.path());
        let elsewhere = tempfile::tempdir().unwrap();
        let moved = elsewhere.path().join("moved");
        fs::rename(&file, &moved).unwrap();
        std::os::unix::fs::symlink(&moved, &file).unwrap();

        assert_eq!(schemas.get(&own()), None);
    }

    #[test]
    fn test_get_for_dead_process_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let schemas = FileSchemas::new(folder.path().to_owned());
        let gone = ProcessIdentity { pid: u32::MAX, ..own() };

        schemas.put(&gone, &schema("query-status"));

        assert_eq!(schemas.get(&gone), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
