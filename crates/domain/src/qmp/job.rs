//! Jobs of QEMU: commands that go on in the background, as `query-jobs` reports them.

use serde::Deserialize;
use serde_json::Value;

/// What a job is doing (QAPI `JobStatus`, QEMU 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobStatus {
    /// It does not exist yet, or no longer.
    Undefined,
    /// It was created and has not started.
    Created,
    /// It runs.
    Running,
    /// It was paused.
    Paused,
    /// It runs until it is asked to complete.
    Ready,
    /// It was paused while ready.
    Standby,
    /// It is done, and other jobs of its transaction are not.
    Waiting,
    /// It is done, and waits for `job-finalize`.
    Pending,
    /// It failed or was canceled, and cleans up.
    Aborting,
    /// It has ended, and waits for `job-dismiss`.
    Concluded,
    /// It is about to be removed.
    Null,
    /// A status of a newer QEMU.
    #[serde(other)]
    Unrecognised,
}

/// A job, as `query-jobs` reports it (QAPI `JobInfo`, QEMU 7.2).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobInfo {
    /// Its ID.
    pub id: String,
    /// The command that it carries out, as in `snapshot-save`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is doing.
    pub status: JobStatus,
    /// How much is done, in a unit of its kind; 1 of 1 for jobs that do not report it.
    pub current_progress: u64,
    /// How much there is to do; it can grow.
    pub total_progress: u64,
    /// Why it failed, once it has.
    pub error: Option<String>,
}

impl JobInfo {
    /// The prefix of the IDs of jobs that maqet starts.
    pub const ID_PREFIX: &str = "maqet-";

    /// Parses a reply to `query-jobs`; what is not a job is left out.
    pub fn from_reply(reply: &Value) -> Vec<Self> {
        let jobs = reply.as_array().into_iter().flatten();
        jobs.filter_map(|job| Self::deserialize(job).ok()).collect()
    }

    /// Returns whether maqet started it.
    pub fn is_ours(&self) -> bool {
        self.id.starts_with(Self::ID_PREFIX)
    }

    /// Returns whether it has ended.
    pub const fn has_ended(&self) -> bool {
        matches!(self.status, JobStatus::Concluded | JobStatus::Null)
    }

    /// Returns whether it waits for `job-finalize`, or has ended.
    pub const fn is_pending(&self) -> bool {
        self.has_ended() || matches!(self.status, JobStatus::Pending)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn test_job_info_has_status_progress_and_error() {
        let reply = json!([
            { "current-progress": 1, "status": "concluded", "total-progress": 1, "type": "snapshot-save",
              "id": "maqet-save-1", "error": "Snapshot 's2' already exists in one or more devices" },
            { "current-progress": 7, "status": "running", "total-progress": 9, "type": "backup", "id": "b0" },
            { "id": 7 },
        ]);

        let [save, backup] = &*JobInfo::from_reply(&reply) else { panic!("two jobs") };

        assert!(save.is_ours() && save.has_ended() && save.is_pending());
        assert_eq!(save.error.as_deref(), Some("Snapshot 's2' already exists in one or more devices"));
        assert!(!backup.is_ours() && !backup.has_ended() && !backup.is_pending());
        assert_eq!((backup.kind.as_str(), backup.current_progress, backup.total_progress), ("backup", 7, 9));
    }

    #[test]
    fn test_job_status_of_newer_qemu_is_unrecognised() {
        let status: JobStatus = serde_json::from_value(json!("dreaming")).unwrap();

        assert_eq!(status, JobStatus::Unrecognised);
    }

    proptest! {
        #[test]
        fn test_job_info_any_reply_does_not_panic(text in "[\\[\\]{}\":,a-z0-9]{0,200}") {
            let reply: Value = serde_json::from_str(&text).unwrap_or_default();
            let _ = JobInfo::from_reply(&reply);
        }
    }
}
