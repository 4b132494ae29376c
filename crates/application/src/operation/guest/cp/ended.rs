//! How the script of a copy ended.

use maqet_domain::guest::copy::CopyFailure;
use maqet_domain::vm::VmName;

use super::super::exec::{ExecOutcome, ExecResult};
use crate::guest::copy::error::CopyError;
use crate::{Error, HumanDuration};

/// What tar(1) says of files that change while it reads them, which is no failure.
const CHANGED: [&str; 2] = ["file changed as we read it", "File removed before we read it"];

/// What a copy needs to explain how it ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended<'a> {
    pub(super) vm: &'a VmName,
    /// The path in the guest.
    pub(super) path: &'a str,
    pub(super) timeout: Option<HumanDuration>,
    /// What the script wrote to its standard error.
    pub(super) errors: &'a str,
}

impl Ended<'_> {
    /// Returns why the copy failed, if it did.
    pub(super) fn check(self, result: &ExecResult) -> Result<(), Error> {
        let vm = self.vm.clone();
        let reason = || result.reason.clone().unwrap_or_else(|| "the guest was reset".to_owned());
        match result.outcome {
            ExecOutcome::Exited => Ok(self.check_code(result.exit_code)?),
            ExecOutcome::Signalled => {
                Err(self.failed(&format!("its script was killed by signal {}", result.signal.unwrap_or_default())))?
            }
            ExecOutcome::TimedOut => {
                Err(CopyError::TimedOut { vm, after: self.timeout.unwrap_or(HumanDuration::new(<_>::default())) })?
            }
            ExecOutcome::VmEnded | ExecOutcome::Lost => Err(CopyError::VmEnded { vm, reason: reason() })?,
            ExecOutcome::Interrupted | ExecOutcome::Detached => Err(Error::Cancelled { vm }),
        }
    }

    fn check_code(self, code: u8) -> Result<(), CopyError> {
        match (code, CopyFailure::from_code(code)) {
            (0, _) => Ok(()),
            (1, _) if self.has_only_changed() => Ok(()),
            (_, Some(failure)) => Err(CopyError::Guest { vm: self.vm.clone(), path: self.path.to_owned(), failure }),
            (_, None) if self.errors.is_empty() => Err(self.failed(&format!("its script exited with {code}"))),
            (_, None) => Err(self.failed(self.errors)),
        }
    }

    /// Returns whether all that went wrong is that files changed meanwhile.
    fn has_only_changed(self) -> bool {
        let mut lines = self.errors.lines().peekable();
        lines.peek().is_some() && lines.all(|line| CHANGED.iter().any(|text| line.ends_with(text)))
    }

    fn failed(self, reason: &str) -> CopyError {
        // The last line says what failed in the end.
        let reason: String = reason.lines().last().unwrap_or_default().escape_debug().collect();
        CopyError::Failed { vm: self.vm.clone(), path: self.path.to_owned(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(errors: &str, code: u8) -> Result<(), String> {
        let vm = "web".parse().unwrap();
        let ended = Ended { vm: &vm, path: "/srv", timeout: None, errors };
        ended.check_code(code).map_err(|error| error.to_string())
    }

    #[test]
    fn test_ended_files_that_change_are_no_failure() {
        assert_eq!(check("tar: ./a: file changed as we read it", 1), Ok(()));
        assert_eq!(check("tar: ./a: file changed as we read it\ntar: ./b: File removed before we read it", 1), Ok(()));
        assert!(check("tar: ./a: file changed as we read it\ntar: ./b: Cannot open", 1).is_err());
        assert!(check("tar: ./a: file changed as we read it", 2).is_err());
        assert!(check("", 1).is_err());
    }

    #[test]
    fn test_ended_failures_name_the_cause() {
        assert_eq!(check("", 40), Err("`/srv` does not exist in VM `web`".to_owned()));
        assert_eq!(
            check("x\ncat: write error: No space left on device", 1),
            Err("cannot copy `/srv` in VM `web`: cat: write error: No space left on device".to_owned())
        );
        assert_eq!(check("", 3), Err("cannot copy `/srv` in VM `web`: its script exited with 3".to_owned()));
    }
}
