//! Copies of a database: of a sound one as SQLite makes them, of a damaged one byte by byte.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use maqet_domain::port::StoreError;
use rusqlite::Connection;

use super::beside;
use crate::database::{Reader, patiently};
use crate::error::{explained, unusable};
use crate::limits;
use crate::place::{Finding, Place};

/// How the names of backups end; those of damaged databases end otherwise, and are never removed by us.
const ENDING: &str = ".db";

/// How the names of damaged databases end.
const DAMAGED: &str = ".damaged";

/// Backs up a database that is sound, and returns where to.
pub(super) fn of_sound(path: &Path, backups: &Path) -> Result<PathBuf, StoreError> {
    let place = Place::resolve(path)?;
    if place.look()? == Finding::Nothing {
        return Err(unusable(path, io::ErrorKind::NotFound.into()));
    }
    let explain = |error| explained(&place.given, "back the database up", error);
    let reader = patiently(limits::PATIENCE, || Reader::open(&place)).map_err(explain)?;
    of_connection(&place, &reader.connection, backups)
}

/// Backs up what `connection` reads.
pub(crate) fn of_connection(place: &Place, connection: &Connection, backups: &Path) -> Result<PathBuf, StoreError> {
    make_folder(backups).map_err(|error| unusable(backups, error))?;
    let target = reserve(backups, ENDING).map_err(|error| unusable(backups, error))?;
    let copied = connection.execute("VACUUM INTO ?1", [target.to_string_lossy()]);
    let copied = copied
        .map_err(|error| explained(&place.given, "back the database up", error))
        .and_then(|_| File::open(&target).and_then(|file| file.sync_all()).map_err(|error| unusable(&target, error)));
    if let Err(error) = copied {
        // What is half made is no backup.
        let _gone_already = fs::remove_file(&target);
        return Err(error);
    }
    rotate(backups);
    Ok(target)
}

/// Keeps the files of a damaged database, byte by byte; returns where.
pub(super) fn of_damaged(place: &Place, backups: &Path) -> io::Result<Vec<PathBuf>> {
    make_folder(backups)?;
    let target = reserve(backups, DAMAGED)?;
    let mut kept = Vec::new();
    for ending in ["", "-wal"] {
        let to = beside(&target, ending);
        match copy(&beside(&place.file, ending), &to) {
            Ok(()) => kept.push(to),
            // There may be a database without a log, and a log without its database.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let _was_reserved = fs::remove_file(&to);
            }
            Err(error) => {
                for half_made in kept.iter().chain([&to]) {
                    let _gone_already = fs::remove_file(half_made);
                }
                return Err(error);
            }
        }
    }
    Ok(kept)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = File::open(from)?;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
    io::copy(&mut from, &mut file)?;
    file.sync_all()
}

/// Returns the newest backup of a sound database.
pub(super) fn newest(backups: &Path) -> Option<PathBuf> {
    all(backups).pop()
}

/// Returns the backups, the oldest first: their names hold the time.
fn all(backups: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(backups).into_iter().flatten().flatten();
    let is_backup = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("maqet-"))
            && path.extension().is_some_and(|extension| extension == "db")
    };
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_backup).collect();
    found.sort();
    found
}

fn rotate(backups: &Path) {
    let all = all(backups);
    for old in all.iter().take(all.len().saturating_sub(limits::BACKUPS_KEPT)) {
        if let Err(error) = fs::remove_file(old) {
            // One backup too many harms nobody.
            let _ = error;
        }
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Makes an empty file of a name that nobody has, with the time in it.
fn reserve(backups: &Path, ending: &str) -> io::Result<PathBuf> {
    let now = Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ").to_string();
    let mut number = 0;
    loop {
        let more = if number == 0 { String::new() } else { format!("-{number}") };
        let path = backups.join(format!("maqet-{now}{more}{ending}"));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(_) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < limits::LOOKS => number += 1,
            Err(error) => return Err(error),
        }
    }
}
