//! The record of what changed in a disk since its backups: dirty bitmaps, of which the disk has one for each directory
//! with backups.
//!
//! QEMU neither reverts an image with a bitmap to a snapshot nor knows what changed if the image was rewritten outside of
//! it, and refuses to resize one whose bitmap is not valid (7.2, 10.0). So whatever rewrites a disk, other than a guest,
//! removes its bitmaps first; the next backup is then full.

use std::path::Path;
use std::time::Duration;

use maqet_domain::backup::{BITMAP_PREFIX, DirtyBitmap};
use maqet_domain::port::{HeldLock, ImageError, MonitorSession};
use maqet_domain::qmp::{QmpCommand, QmpError};

use crate::App;

/// Removes maqet's bitmaps from a disk that no QEMU has open; cheap if it has none.
pub(crate) async fn forget_changes(app: &App, disk: &Path, guard: &HeldLock) -> Result<(), ImageError> {
    let images = &*app.ports.backup_images;
    for bitmap in images.bitmaps(disk).await? {
        if bitmap.name.starts_with(BITMAP_PREFIX) {
            images.remove_bitmap(disk, &bitmap.name, guard).await?;
        }
    }
    Ok(())
}

/// Removes those of maqet's bitmaps from a disk that are not valid; returns whether it had any.
pub(crate) async fn forget_invalid_changes(app: &App, disk: &Path, guard: &HeldLock) -> Result<bool, ImageError> {
    let images = &*app.ports.backup_images;
    let bitmaps = images.bitmaps(disk).await?.into_iter();
    let invalid: Vec<_> = bitmaps.filter(|found| found.is_in_use && found.name.starts_with(BITMAP_PREFIX)).collect();
    for bitmap in &invalid {
        images.remove_bitmap(disk, &bitmap.name, guard).await?;
    }
    Ok(!invalid.is_empty())
}

/// Removes maqet's bitmaps from block nodes of a running QEMU, all or none.
pub(crate) async fn forget_changes_live(
    session: &mut dyn MonitorSession,
    nodes: &[&str],
    timeout: Duration,
) -> Result<(), QmpError> {
    let bitmaps = own_bitmaps(session, nodes, timeout, |_| true).await?;
    remove_bitmaps(session, &bitmaps, timeout).await
}

/// Removes those of maqet's bitmaps from a block node of a running QEMU that are not valid; returns whether it had any.
pub(crate) async fn forget_invalid_changes_live(
    session: &mut dyn MonitorSession,
    node: &str,
    timeout: Duration,
) -> Result<bool, QmpError> {
    let bitmaps = own_bitmaps(session, &[node], timeout, |bitmap| bitmap.inconsistent).await?;
    remove_bitmaps(session, &bitmaps, timeout).await?;
    Ok(!bitmaps.is_empty())
}

/// Returns maqet's bitmaps of block nodes, each with its node.
async fn own_bitmaps(
    session: &mut dyn MonitorSession,
    nodes: &[&str],
    timeout: Duration,
    is_wanted: fn(&DirtyBitmap) -> bool,
) -> Result<Vec<(String, String)>, QmpError> {
    let reply = session.execute(&QmpCommand::new("query-named-block-nodes").with("flat", true), timeout).await?;
    let reported = reply.as_array().into_iter().flatten();
    let reported = reported.filter_map(|node| Some((node["node-name"].as_str()?, node)));
    let bitmaps = reported.filter(|(name, _)| nodes.contains(name)).flat_map(|(name, node)| {
        let ours = DirtyBitmap::of_node(node).into_iter().filter(DirtyBitmap::is_ours).filter(is_wanted);
        ours.map(move |bitmap| (name.to_owned(), bitmap.name))
    });
    Ok(bitmaps.collect())
}

/// Removes bitmaps of block nodes, each given with its node, all or none.
pub(crate) async fn remove_bitmaps(
    session: &mut dyn MonitorSession,
    bitmaps: &[(String, String)],
    timeout: Duration,
) -> Result<(), QmpError> {
    if bitmaps.is_empty() {
        return Ok(());
    }
    let remove = |(node, name): &(String, String)| {
        QmpCommand::new("block-dirty-bitmap-remove").with("node", node.as_str()).with("name", name.as_str())
    };
    session.execute(&QmpCommand::transaction(bitmaps.iter().map(remove)), timeout).await.map(drop)
}
