//! The contract of a store as scenarios: one for each guarantee and each error that the ports document.
//!
//! A store brings a [`Subject`] and instantiates the suite with [`store_conformance!`](crate::store_conformance).

#![expect(clippy::unwrap_used, reason = "the scenarios are tests, though they are compiled as a library")]

mod commit;
mod layers;
mod log;
mod snapshot;
mod transfer;
mod vm;

use std::sync::Arc;

use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::port::{Store, StoreError};
use maqet_domain::vm::Vm;

pub use self::commit::*;
pub use self::layers::*;
pub use self::log::*;
pub use self::snapshot::*;
pub use self::transfer::*;
pub use self::vm::*;
use super::sample;

/// A new, empty database that can be opened any number of times.
pub trait Subject {
    /// Opens a handle, as another process would.
    fn open(&self) -> Arc<dyn Store>;
}

/// Generates a test of every scenario; `$subject` is evaluated for each of them, inside an `async fn`.
#[macro_export]
macro_rules! store_conformance {
    ($subject:expr) => {
        $crate::store_conformance! { $subject;
            test_by_id_added_vm_comes_back_whole
            test_by_id_unknown_vm_is_none
            test_by_name_added_vm_comes_back_whole
            test_by_name_unknown_or_other_case_is_none
            test_definition_of_any_shape_keeps_values_and_order
            test_run_in_every_phase_comes_back_whole
            test_run_path_not_utf8_round_trips
            test_run_forwards_come_back_in_order
            test_list_empty_store_is_empty
            test_list_many_vms_are_sorted_by_name
            test_vms_of_any_order_are_whole_and_sorted_by_name
            test_id_prefix_of_any_form_and_case_finds_vm
            test_id_prefix_several_matches_are_sorted
            test_id_prefix_invalid_finds_nothing
            test_id_prefix_empty_finds_all
            test_vm_added_existing_name_is_refused
            test_vm_added_existing_id_is_refused
            test_vm_added_name_of_removed_vm_succeeds
            test_vm_removed_at_other_revision_is_conflict
            test_vm_removed_twice_is_conflict
            test_vm_removed_leaves_storage_without_owner
            test_run_changed_counts_the_revision
            test_run_changed_to_none_removes_the_run
            test_run_changed_at_other_revision_is_conflict
            test_run_changed_of_unknown_vm_is_conflict
            test_definition_changed_is_read_back_with_origins
            test_definition_changed_without_origins_has_none
            test_definition_changed_at_other_revision_is_conflict
            test_definition_changed_of_unknown_vm_is_conflict
            test_definition_changed_is_reverted_by_later_refusal
            test_run_changed_concurrently_succeeds_once
            test_vm_added_concurrently_succeeds_once
            test_commit_later_change_refused_reverts_earlier_ones
            test_commit_change_sees_those_before_it
            test_commit_refused_leaves_no_history_and_no_events
            test_commit_nothing_changes_nothing
            test_handles_of_one_store_see_each_others_writes
            test_pending_changed_is_read_back_and_counts
            test_pending_changed_to_none_is_cleared
            test_pending_changed_at_other_revision_is_conflict
            test_vm_added_with_pending_comes_back_whole
            test_layers_changed_are_read_back_and_count
            test_layers_changed_to_none_are_gone
            test_layers_changed_at_other_revision_is_conflict
            test_vm_added_with_layers_comes_back_whole
            test_snapshot_records_are_ordered_and_whole
            test_snapshot_same_tag_replaces_the_record
            test_snapshot_removed_leaves_the_others
            test_snapshot_of_unknown_vm_is_conflict
            test_vm_removed_removes_its_snapshot_records
            test_storage_records_are_in_creation_order
            test_storage_same_path_replaces_the_record
            test_storage_of_unknown_vm_is_conflict
            test_storage_used_keeps_record_of_other_vm
            test_storage_without_owner_has_no_vm
            test_storage_at_a_path_is_of_any_vm
            test_history_newest_entries_come_first
            test_history_entries_outlive_their_vm
            test_history_of_a_vm_is_found_by_id_or_name
            test_history_entry_reverted_twice_is_refused
            test_history_above_the_limit_loses_the_oldest
            test_storage_removed_leaves_other_records
            test_events_come_back_in_order_after_a_sequence
            test_events_outlive_their_vm
        }
    };
    ($subject:expr; $($scenario:ident)+) => {
        $(
            #[tokio::test]
            async fn $scenario() {
                $crate::store::conformance::$scenario(&$subject).await;
            }
        )+
    };
}

async fn commit(store: &dyn Store, changes: ChangeSet) {
    store.commit(changes).await.unwrap_or_else(|error| panic!("the commit was refused: {error}"));
}

/// Adds a VM and returns it.
async fn add(store: &dyn Store, name: &str, number: u32) -> Vm {
    let vm = sample::vm(name, number);
    commit(store, sample::adding(&vm)).await;
    vm
}

fn one(change: Change) -> ChangeSet {
    ChangeSet::default().and(change)
}

async fn names(store: &dyn Store) -> Vec<String> {
    let entries = store.list().await.expect("the list can be read");
    entries.into_iter().map(|entry| entry.name.to_string()).collect()
}

#[track_caller]
fn check_conflict(result: &Result<(), StoreError>, vm: &Vm) {
    assert!(
        matches!(result, Err(StoreError::Conflict { id }) if *id == vm.entry.id),
        "expected a conflict over `{}`, not {result:?}",
        vm.entry.name
    );
}

#[track_caller]
fn check_name_taken(result: &Result<(), StoreError>, vm: &Vm) {
    assert!(
        matches!(result, Err(StoreError::Exists { name }) if *name == vm.entry.name),
        "expected that the name `{}` is taken, not {result:?}",
        vm.entry.name
    );
}

#[cfg(test)]
mod tests {
    const SUITE: &str = include_str!("mod.rs");
    const SCENARIOS: [&str; 5] = [
        include_str!("commit.rs"),
        include_str!("layers.rs"),
        include_str!("log.rs"),
        include_str!("snapshot.rs"),
        include_str!("vm.rs"),
    ];

    #[test]
    fn test_conformance_list_names_every_scenario() {
        let mut listed: Vec<&str> = SUITE.lines().map(str::trim).filter(|line| is_name(line)).collect();
        listed.sort_unstable();

        let written = SCENARIOS.iter().flat_map(|file| file.lines());
        let mut written: Vec<&str> =
            written.filter_map(|line| line.strip_prefix("pub async fn ")?.split('(').next()).collect();
        written.sort_unstable();

        assert_eq!(listed, written);
    }

    fn is_name(line: &str) -> bool {
        line.starts_with("test_") && line.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    }
}
