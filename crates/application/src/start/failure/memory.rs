//! Paths at which QEMU could not put the guest's RAM.

use std::path::Path;

use maqet_domain::error::{Explain, Explanation};
use maqet_domain::machine::FileAccess;
use maqet_domain::port::{PathKind, PathObstacle};
use maqet_domain::qmp::wording::Names;
use maqet_domain::text::quote;

use super::Diagnosis;
use crate::start::memory_files::MemoryRefusal;

impl Diagnosis<'_> {
    /// Returns why QEMU may not create the guest's RAM at a path.
    pub(super) async fn memory_path(&self, path: &Path, names: &Names<'_>) -> (String, Explanation) {
        let paths = &self.app.ports.paths;
        let message = self.recognized.message;
        let refused = Explanation::new(message.code, message.fault).hint("name a directory of yours");
        match (paths.kind(path).await, paths.obstacle(path, FileAccess::Read).await) {
            (PathKind::NotFound, Some(PathObstacle::NotFound { .. })) => {
                let refusal = MemoryRefusal::NotFound { path: path.to_owned() };
                let parent = path.parent().unwrap_or(path).display();
                (format!("{refusal}, and you may not create it in `{parent}`"), refusal.explain())
            }
            (PathKind::NotFound, Some(PathObstacle::Closed { path: closed, reason })) => (
                format!(
                    "`{}`, which is to hold the guest's RAM, cannot be reached: `{}`: {reason}",
                    path.display(),
                    closed.display()
                ),
                refused.hint(format!("permit it: `sudo chmod a+x {}`", quote(&closed.to_string_lossy()))),
            ),
            (PathKind::Directory, _) if !paths.is_huge_pages(path).await => {
                let quoted = quote(&path.to_string_lossy());
                let mount = format!("for huge pages, mount them: `sudo mount -t hugetlbfs -o mode=1777 none {quoted}`");
                (self.recognized.cause(names), refused.hint(mount))
            }
            _ => {
                let quoted = quote(&path.to_string_lossy());
                (self.recognized.cause(names), refused.hint(format!("permit it: `sudo chmod a+rwx {quoted}`")))
            }
        }
    }
}
