//! One call of `qemu-img` on an image.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use maqet_adapters_linux::process::{
    CaptureError, Captured, ChildGuard, Group, LockKind, Output, display_status, find_locker, process_name,
    spawn_captured, wait_into, wait_observed,
};
use maqet_adapters_linux::{ProcessEnvironment, ProgramError};
use maqet_domain::port::{Guard, ImageError, ImageUser, ImageWork};
use maqet_domain::qmp::wording::{is_disk_full, is_image_locked};
use maqet_fault_points::{FaultPoint, FaultPoints};
use tokio::time::sleep;

use super::progress::{WHOLE, last_share};
use crate::bound::{Ending, bound_command};
use crate::limits::{IMAGE_PROGRESS_INTERVAL, MAX_IMAGE_OUTPUT_BYTES};
use crate::stderr_tail::stderr_tail;

const NAME: &str = "qemu-img";

/// The environment of all calls of `qemu-img`.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) environment: ProcessEnvironment,
    pub(crate) faults: FaultPoints,
}

/// A call of `qemu-img` on an image.
pub(crate) struct Tool<'a> {
    tools: &'a Tools,
    program: PathBuf,
    action: &'static str,
    image: PathBuf,
    timeout: Duration,
    lifetime: Lifetime,
}

/// What ends a tool early.
enum Lifetime {
    /// Its deadline, or that its result is no longer waited for.
    Short,
    /// The end of this process, or that its result is no longer waited for: it reads, or writes a temporary file.
    Bound,
    /// Nothing, as it changes an image in place, and one that is cut off may be damaged. It has the file of a lock as its
    /// standard input, which it does not read: without the lock, another command would find the image in use, or the
    /// QEMU of the VM could not open it.
    InPlace(Option<File>),
}

impl<'a> Tool<'a> {
    /// Finds `qemu-img`; `action` and `image` are for errors.
    pub(crate) fn find(
        tools: &'a Tools,
        action: &'static str,
        image: &Path,
        timeout: Duration,
    ) -> Result<Self, ImageError> {
        let program = tools.environment.find(OsStr::new(NAME)).map_err(|error| match error {
            ProgramError::NotFound => ImageError::ToolNotFound { tool: NAME.to_owned() },
            ProgramError::NotExecutable(path, error) => ImageError::Io { action: "run", path, source: error.into() },
        })?;
        let image = absolute(image).map_err(|error| io_error("find", image, error))?;
        Ok(Self { tools, program, action, image, timeout, lifetime: Lifetime::Short })
    }

    /// Finds `qemu-img` for work without a deadline, of which nothing is left if this process is killed.
    pub(super) fn bound(tools: &'a Tools, action: &'static str, image: &Path) -> Result<Self, ImageError> {
        let tool = Self::find(tools, action, image, Duration::MAX)?;
        Ok(Self { lifetime: Lifetime::Bound, ..tool })
    }

    /// Finds `qemu-img` for a change in place, which is finished whatever happens to this process; until then, the lock is
    /// held.
    pub(super) fn in_place(
        tools: &'a Tools,
        action: &'static str,
        image: &Path,
        guard: &dyn Guard,
    ) -> Result<Self, ImageError> {
        let tool = Self::find(tools, action, image, Duration::MAX)?;
        let file = guard.handle().and_then(|handle| handle.downcast_ref::<File>());
        let lock = file.and_then(|file| file.try_clone().ok());
        Ok(Self { lifetime: Lifetime::InPlace(lock), ..tool })
    }

    /// Starts the tool.
    fn spawn(&self, command: Command) -> Result<ChildGuard, CaptureError> {
        // Ctrl-C in a terminal would end what is of the group of this process.
        let (input, group) = match &self.lifetime {
            Lifetime::Short => (Stdio::null(), Group::Inherited),
            Lifetime::Bound => (Stdio::piped(), Group::New),
            Lifetime::InPlace(lock) => {
                let lock = lock.as_ref().and_then(|file| file.try_clone().ok());
                (lock.map_or_else(Stdio::null, Stdio::from), Group::New)
            }
        };
        let mut child = spawn_captured(command, input, group)?;
        if let Lifetime::InPlace(_) = &self.lifetime {
            child.run_to_end();
        }
        self.faults().reach(FaultPoint::ImageToolStarted);
        Ok(child)
    }

    pub(super) fn faults(&self) -> &FaultPoints {
        &self.tools.faults
    }

    async fn capture(&self, command: Command) -> Result<Captured, CaptureError> {
        let child = self.spawn(command)?;
        let mut output = Output::default();
        let exit = wait_into(child, self.timeout, MAX_IMAGE_OUTPUT_BYTES, &mut output).await?;
        Ok(Captured { status: exit.status, output })
    }

    /// Returns the absolute path of the image: a relative one with a colon would be a protocol.
    pub(super) fn image(&self) -> OsString {
        self.image.clone().into_os_string()
    }

    /// Runs the tool with `options` and then `rest`; returns its output.
    pub(crate) async fn run<'o>(
        &self,
        options: impl IntoIterator<Item = &'o str>,
        rest: impl IntoIterator<Item = OsString>,
    ) -> Result<Vec<u8>, ImageError> {
        let captured = self.finish(options, rest).await?;
        self.require_success(captured)
    }

    /// Runs the tool; also returns the output of a call that failed.
    pub(super) async fn finish<'o>(
        &self,
        options: impl IntoIterator<Item = &'o str>,
        rest: impl IntoIterator<Item = OsString>,
    ) -> Result<Captured, ImageError> {
        self.capture(self.command(options, rest)).await.map_err(|error| self.capture_error(error))
    }

    /// Runs the tool for [`ImageWork`], and reports what it prints of its progress (`-p`); also returns the output of a
    /// call that failed.
    pub(super) async fn work<'o>(
        &self,
        options: impl IntoIterator<Item = &'o str>,
        rest: impl IntoIterator<Item = OsString>,
        work: &ImageWork<'_>,
    ) -> Result<Captured, ImageError> {
        let child = self.spawn(self.command(options, rest)).map_err(|error| self.capture_error(error))?;
        let mut output = Output::default();
        // Beyond the whole until something is printed.
        let done = AtomicU64::new(u64::MAX);
        let mut observe = |printed: &[u8]| {
            if let Some(share) = last_share(printed) {
                done.store(share, Ordering::Relaxed);
                (work.progress)(share, WHOLE);
            }
        };
        let repeat = async {
            loop {
                sleep(IMAGE_PROGRESS_INTERVAL).await;
                let share = done.load(Ordering::Relaxed);
                if share <= WHOLE {
                    (work.progress)(share, WHOLE);
                }
            }
        };
        let exit = tokio::select! {
            exit = wait_observed(child, self.timeout, MAX_IMAGE_OUTPUT_BYTES, &mut output, &mut observe) => exit,
            () = repeat => Err(CaptureError::TimedOut),
        };
        let exit = exit.map_err(|error| self.capture_error(error))?;
        Ok(Captured { status: exit.status, output })
    }

    /// Returns the output of a call that succeeded.
    pub(super) fn require_success(&self, captured: Captured) -> Result<Vec<u8>, ImageError> {
        if captured.status.success() { Ok(captured.output.stdout) } else { Err(self.call_error(&captured)) }
    }

    fn command<'o>(
        &self,
        options: impl IntoIterator<Item = &'o str>,
        rest: impl IntoIterator<Item = OsString>,
    ) -> Command {
        let environment = &self.tools.environment;
        let mut command = match &self.lifetime {
            Lifetime::Bound => bound_command(&self.program, Ending::Kill, |path| environment.english_command(path)),
            Lifetime::Short | Lifetime::InPlace(_) => environment.english_command(&self.program),
        };
        command.args(options).args(rest).current_dir("/");
        command
    }

    fn capture_error(&self, error: CaptureError) -> ImageError {
        match error {
            CaptureError::Spawn(error) | CaptureError::Io(error) => io_error("run", &self.program, error),
            CaptureError::TimedOut => ImageError::TimedOut { action: self.action, path: self.image.clone() },
            CaptureError::OutputTooLarge => {
                self.refusal(format!("{NAME} printed more than {} MiB", MAX_IMAGE_OUTPUT_BYTES >> 20))
            }
        }
    }

    /// Returns the error of a call that failed.
    pub(super) fn call_error(&self, captured: &Captured) -> ImageError {
        let stderr = String::from_utf8_lossy(&captured.output.stderr);
        let path = self.image.clone();
        if is_image_locked(&stderr) {
            return ImageError::InUse { by: user_of(&path), path };
        }
        if is_disk_full(&stderr) {
            return ImageError::Full { path };
        }
        let tail = stderr_tail(&captured.output.stderr);
        let status = || format!("{NAME} ended with {}", display_status(captured.status));
        self.refusal(if tail.is_empty() { status() } else { tail })
    }

    pub(crate) fn refusal(&self, stderr: String) -> ImageError {
        ImageError::Refused { action: self.action, path: self.image.clone(), stderr }
    }
}

/// Returns the process that has an image open.
pub(crate) fn user_of(image: &Path) -> Option<ImageUser> {
    let pid = find_locker(&image.metadata().ok()?, LockKind::OpenFile)?;
    Some(ImageUser { pid, program: process_name(pid)? })
}

pub(super) fn absolute(path: &Path) -> std::io::Result<PathBuf> {
    std::path::absolute(path)
}

pub(super) fn io_error(action: &'static str, path: &Path, error: std::io::Error) -> ImageError {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            ImageError::Full { path: path.to_owned() }
        }
        _ => ImageError::Io { action, path: path.to_owned(), source: error.into() },
    }
}
