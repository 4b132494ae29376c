//! One call of `qemu-img` on one image.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use maqet_adapters_linux::process::{
    CaptureError, Captured, Group, LockKind, begin, finish, in_words, locker_of, name_of_process,
};
use maqet_adapters_linux::{ProcessEnvironment, Unfound};
use maqet_domain::port::{Guard, ImageError, ImageUser};
use maqet_fault_points::{FaultPoint, FaultPoints};

use crate::limits::{IMAGE_OUTPUT_BYTES, LAST_WORDS_BYTES, LAST_WORDS_LINES};

const NAME: &str = "qemu-img";

/// What all calls of `qemu-img` have in common.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) environment: ProcessEnvironment,
    pub(crate) faults: FaultPoints,
}

/// `qemu-img`, found, about to do something to an image.
pub(crate) struct Tool<'a> {
    tools: &'a Tools,
    program: PathBuf,
    action: &'static str,
    image: PathBuf,
    deadline: Duration,
    lock: Option<File>,
}

impl<'a> Tool<'a> {
    /// Finds `qemu-img`; `action` and `image` are for its errors.
    pub(crate) fn find(
        tools: &'a Tools,
        action: &'static str,
        image: &Path,
        deadline: Duration,
    ) -> Result<Self, ImageError> {
        let program = tools.environment.find(OsStr::new(NAME)).map_err(|unfound| match unfound {
            Unfound::Missing => ImageError::ToolMissing { tool: NAME.to_owned() },
            Unfound::NotRunnable(path, why) => ImageError::Io { action: "run", path, source: why.into() },
        })?;
        let image = absolute(image).map_err(|why| failed("find", image, why))?;
        Ok(Self { tools, program, action, image, deadline, lock: None })
    }

    /// Returns the tool, holding a lock for as long as it runs.
    pub(super) fn holding(self, guard: &dyn Guard) -> Self {
        let file = guard.handle().and_then(|handle| handle.downcast_ref::<File>());
        Self { lock: file.and_then(|file| file.try_clone().ok()), ..self }
    }

    /// Returns what the tool is given as its standard input, which it does not read: the file of the lock.
    ///
    /// Should we be killed, the tool works on; without the lock somebody would find the image in use, or the VM's QEMU
    /// be refused it.
    fn input(&self) -> Stdio {
        let lock = self.lock.as_ref().and_then(|file| file.try_clone().ok());
        lock.map_or_else(Stdio::null, Stdio::from)
    }

    pub(super) fn faults(&self) -> &FaultPoints {
        &self.tools.faults
    }

    async fn captured(&self, command: Command) -> Result<Captured, CaptureError> {
        let child = begin(command, self.input(), Group::Ours)?;
        self.faults().reach(FaultPoint::ImageToolStarted);
        finish(child, self.deadline, IMAGE_OUTPUT_BYTES).await
    }

    /// Returns the image, absolute: a relative name with a colon would be read as a protocol.
    pub(super) fn image(&self) -> OsString {
        self.image.clone().into_os_string()
    }

    /// Runs `words` and then `rest`; returns what was printed.
    pub(crate) async fn run<'w>(
        &self,
        words: impl IntoIterator<Item = &'w str>,
        rest: impl IntoIterator<Item = OsString>,
    ) -> Result<Vec<u8>, ImageError> {
        let mut command = self.tools.environment.plain_command(&self.program);
        command.args(words).args(rest).current_dir("/");

        match self.captured(command).await {
            Ok(captured) if captured.status.success() => Ok(captured.stdout),
            Ok(captured) => Err(self.refused(&captured)),
            Err(CaptureError::Spawn(why) | CaptureError::Io(why)) => Err(failed("run", &self.program, why)),
            Err(CaptureError::TimedOut) => Err(ImageError::TimedOut { action: self.action, path: self.image.clone() }),
            Err(CaptureError::TooMuch) => {
                Err(self.refusal(format!("{NAME} printed more than {} MiB", IMAGE_OUTPUT_BYTES >> 20)))
            }
        }
    }

    /// Returns the error of a call that ended badly.
    fn refused(&self, captured: &Captured) -> ImageError {
        let said = String::from_utf8_lossy(&captured.stderr);
        let path = self.image.clone();
        match Trouble::of(&said) {
            Trouble::InUse => ImageError::InUse { by: user_of(&path), path },
            Trouble::Full => ImageError::Full { path },
            Trouble::Other => {
                let words = last_words(&said);
                let ended = || format!("{NAME} ended with {}", in_words(captured.status));
                self.refusal(if words.is_empty() { ended() } else { words })
            }
        }
    }

    pub(crate) fn refusal(&self, last_words: String) -> ImageError {
        ImageError::Refused { action: self.action, path: self.image.clone(), last_words }
    }
}

/// Returns who has an image open.
pub(crate) fn user_of(image: &Path) -> Option<ImageUser> {
    let pid = locker_of(&image.metadata().ok()?, LockKind::OpenFile)?;
    Some(ImageUser { pid, program: name_of_process(pid)? })
}

pub(super) fn absolute(path: &Path) -> std::io::Result<PathBuf> {
    std::path::absolute(path)
}

pub(super) fn failed(action: &'static str, path: &Path, why: std::io::Error) -> ImageError {
    match why.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            ImageError::Full { path: path.to_owned() }
        }
        _ => ImageError::Io { action, path: path.to_owned(), source: why.into() },
    }
}

/// What the messages of `qemu-img` (7.2, in English) mean, as far as callers can act on it.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    InUse,
    Full,
    Other,
}

impl Trouble {
    fn of(said: &str) -> Self {
        // As in: Failed to get "write" lock / Failed to get shared "write" lock.
        let locked = said.contains("Is another process using the image")
            || said.lines().any(|line| line.contains("Failed to get ") && line.ends_with("\" lock"));
        if locked {
            Self::InUse
        } else if said.contains("No space left on device") || said.contains("Disk quota exceeded") {
            Self::Full
        } else {
            Self::Other
        }
    }
}

fn last_words(said: &str) -> String {
    let start = said.char_indices().map(|(index, _)| index).find(|index| said.len() - index <= LAST_WORDS_BYTES);
    let end = &said[start.unwrap_or_default()..];
    let lines: Vec<&str> = end
        .lines()
        .map(|line| line.strip_prefix("qemu-img: ").unwrap_or(line).trim_end())
        .filter(|line| !line.is_empty())
        .collect();
    lines[lines.len().saturating_sub(LAST_WORDS_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_trouble_lock_of_another_process_is_in_use() {
        let said = concat!(
            "qemu-img: Could not open '/d/a': Failed to get \"write\" lock\n",
            "Is another process using the image [/d/a]?\n",
        );

        assert_eq!(Trouble::of(said), Trouble::InUse);
        assert_eq!(Trouble::of("qemu-img: Failed to get shared \"write\" lock\n"), Trouble::InUse);
    }

    #[test]
    fn test_trouble_no_space_is_full() {
        assert_eq!(Trouble::of("qemu-img: /d/a: Could not resize image: No space left on device"), Trouble::Full);
    }

    #[test]
    fn test_trouble_anything_else_is_other() {
        assert_eq!(Trouble::of("qemu-img: Could not open 'x': Permission denied"), Trouble::Other);
    }

    #[test]
    fn test_last_words_are_bounded_and_without_the_tools_name() {
        assert_eq!(last_words("qemu-img: a: no\n\n"), "a: no");
        assert!(last_words(&"ü".repeat(10_000)).len() <= LAST_WORDS_BYTES);
    }
}
