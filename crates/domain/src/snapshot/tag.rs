//! The tags of snapshots: their names inside an image.
//!
//! A snapshot `NAME` has the tag `NAME` or `NAME~2`. To replace it, the new one is created under the other tag of the
//! pair, and the old one is removed once the new one is complete.

use super::ImageSnapshot;

/// The end of the second tag of a pair; no [`SnapshotName`](super::SnapshotName) has it.
pub(super) const SECOND: &str = "~2";

/// The name of the snapshot that is created before another one is loaded, so that the load can be taken back.
pub const BEFORE_LOAD: &str = "before-load";

/// The name of the snapshot with that tag if there are newer ones.
const OLDEST_SAFETY: &str = "before-load~1";

/// How many of these an image has at most: the states before several loads are kept while the VM is not started.
pub const MAX_SAFETIES: usize = 100;

/// The highest number in a tag: more than the images of a VM use together.
const LAST_SAFETY: usize = 10_000;

/// Returns the snapshots of the states before loads, the newest last.
pub fn safeties(all: &[ImageSnapshot]) -> Vec<&ImageSnapshot> {
    let mut found: Vec<&ImageSnapshot> = all.iter().filter(|snapshot| is_safety(&snapshot.name)).collect();
    // QEMU gives each snapshot an ID above those of the others.
    found.sort_by_key(|snapshot| snapshot.id.parse::<u64>().unwrap_or_default());
    found
}

/// Returns a tag for the next of them; `is_used` tells whether an image, or something else that is kept with it, has a tag.
///
/// All that is kept of one state has the same tag.
pub fn free_safety(is_used: impl Fn(&str) -> bool) -> Option<String> {
    let numbered = (2..=LAST_SAFETY).map(|number| format!("{BEFORE_LOAD}~{number}"));
    std::iter::once(BEFORE_LOAD.to_owned()).chain(numbered).find(|tag| !is_used(tag))
}

/// Returns whether a tag is one of these.
pub fn is_safety(tag: &str) -> bool {
    let number = tag.strip_prefix(BEFORE_LOAD);
    let is_number = |text: &str| text.parse::<usize>().is_ok_and(|number| (2..=LAST_SAFETY).contains(&number));
    number.is_some_and(|number| number.is_empty() || number.strip_prefix('~').is_some_and(is_number))
}

/// Returns the name by which users know a snapshot of an image with the snapshots `all`.
///
/// Both tags of a pair can only be in use while the snapshot is replaced, or by another tool; they are distinguished.
pub fn name_of<'s>(snapshot: &'s ImageSnapshot, all: &[ImageSnapshot]) -> &'s str {
    if is_safety(&snapshot.name) {
        let is_newest = safeties(all).last().is_none_or(|newest| newest.name == snapshot.name);
        return match snapshot.name.as_str() {
            _ if is_newest => BEFORE_LOAD,
            BEFORE_LOAD => OLDEST_SAFETY,
            tag => tag,
        };
    }
    match snapshot.name.strip_suffix(SECOND) {
        Some(name) if !name.is_empty() && !has_tag(all, name) => name,
        _ => &snapshot.name,
    }
}

/// Returns the snapshot that users know by this name.
pub fn find<'s>(all: &'s [ImageSnapshot], name: &str) -> Option<&'s ImageSnapshot> {
    all.iter().find(|snapshot| name_of(snapshot, all) == name)
}

/// Returns the tag of the pair of `name` that is free in an image; `None` if both are in use.
pub fn free_tag(all: &[ImageSnapshot], name: &str) -> Option<String> {
    let pair = [name.to_owned(), format!("{name}{SECOND}")];
    pair.into_iter().find(|tag| !has_tag(all, tag))
}

/// Returns whether an image has a snapshot with this tag.
pub fn has_tag(all: &[ImageSnapshot], tag: &str) -> bool {
    all.iter().any(|snapshot| snapshot.name == tag)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn image(tags: &[&str]) -> Vec<ImageSnapshot> {
        let snapshot = |tag: &&str| ImageSnapshot {
            id: "1".to_owned(),
            name: (*tag).to_owned(),
            created_at: Timestamp::UNIX_EPOCH,
            vm_state_bytes: 0,
            vm_clock_nanos: 0,
        };
        tags.iter().map(snapshot).collect()
    }

    #[track_caller]
    fn check(tags: &[&str], names: &[&str], free: Option<&str>) {
        let all = image(tags);
        assert_eq!(all.iter().map(|snapshot| name_of(snapshot, &all)).collect::<Vec<_>>(), names);
        assert_eq!(free_tag(&all, "a").as_deref(), free);
    }

    #[test]
    fn test_tag_name_is_that_of_the_pair() {
        check(&["b", "b~2~2"], &["b", "b~2"], Some("a"));
        check(&["a"], &["a"], Some("a~2"));
        check(&["a~2"], &["a"], Some("a"));
        check(&["a", "a~2"], &["a", "a~2"], None);
        check(&["~2"], &["~2"], Some("a"));
    }

    #[test]
    fn test_tag_newest_state_before_a_load_has_the_name() {
        let mut all = image(&["before-load", "a", "before-load~2", "before-load~12"]);
        for (id, snapshot) in ["1", "5", "10", "9"].into_iter().zip(&mut all) {
            id.clone_into(&mut snapshot.id);
        }

        let names: Vec<&str> = all.iter().map(|snapshot| name_of(snapshot, &all)).collect();

        assert_eq!(names, ["before-load~1", "a", "before-load", "before-load~12"]);
        assert_eq!(safeties(&all).last().unwrap().name, "before-load~2");
        assert_eq!(free_safety(|tag| has_tag(&all, tag)).as_deref(), Some("before-load~3"));
        assert_eq!(find(&all, "before-load").unwrap().id, "10");
        assert_eq!(find(&all, "before-load~1").unwrap().id, "1");
        assert_eq!(free_safety(|tag| has_tag(&image(&["a"]), tag)).as_deref(), Some("before-load"));
    }

    #[test]
    fn test_tag_is_found_by_either_of_a_pair() {
        let tag = |tags: &[&str], name: &str| find(&image(tags), name).map(|snapshot| snapshot.name.clone());

        assert_eq!(tag(&["b", "a~2"], "a").as_deref(), Some("a~2"));
        assert_eq!(tag(&["a~2", "a"], "a").as_deref(), Some("a"));
        assert_eq!(tag(&["a~2"], "a~2"), None);
    }
}
