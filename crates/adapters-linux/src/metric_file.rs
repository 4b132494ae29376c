//! The port [`MetricStore`]: one file of fixed size, which all processes change in place.
//!
//! The file is a hash table of [`SLOTS`] blocks after a header of one block. A block has the metric's name, its counts
//! and a checksum, and is written by one system call within one page of memory, so a process that is killed leaves the
//! old or the new block. A lock of the file keeps changes of other processes apart. Nothing is written through to the
//! disk: after a power failure, metrics of the last seconds may be missing, or the file is damaged and started over.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use maqet_domain::metric::{BUCKETS, Histogram, Measurement, Metric, MetricKey, MetricKind, MetricRecord, step};
use maqet_domain::port::{MetricError, MetricStore, MetricsAdded};

use crate::atomic_file::AtomicFile;
use crate::limits::{METRIC_LOCK_TRIES, METRIC_READS};
use crate::locked_file::LockedFile;
use crate::private_file::{open_regular, private_file, with_folder};

/// The size of a block.
const BLOCK: usize = 512;

/// How many metrics fit; maqet has about a hundred operations and steps.
const SLOTS: usize = 255;

/// How a file begins, with the version of its format.
const MAGIC: &[u8; 8] = b"maqetmtr";
const VERSION: u32 = 1;

/// The longest name that is kept; longer ones, of operations of others, are cut.
const MAX_NAME: usize = 32;

/// Metrics in a file of this user.
#[derive(Debug, Clone)]
pub struct FileMetrics {
    path: PathBuf,
}

impl FileMetrics {
    /// Keeps metrics in the file `path`, which is created if its directory exists, and its directory once
    /// something was committed.
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    fn unwritable(&self, error: io::Error) -> MetricError {
        MetricError::Unwritable { path: self.path.clone(), source: error.into() }
    }

    fn unsupported(&self, found: u32) -> MetricError {
        MetricError::UnsupportedVersion { path: self.path.clone(), found, known: VERSION }
    }

    fn add_to(&self, file: &File, measurements: &[Measurement]) -> Result<MetricsAdded, MetricError> {
        let mut by_key: BTreeMap<MetricKey, Vec<&Measurement>> = BTreeMap::new();
        for measurement in measurements {
            by_key.entry(short(&measurement.key)).or_default().push(measurement);
        }
        let unwritable = |error| self.unwritable(error);
        let outcome = match Header::read(file).map_err(unwritable)? {
            Content::Valid(_) => MetricsAdded::Done,
            Content::Newer(found) => return Err(self.unsupported(found)),
            Content::Empty => start_over(file, false).map(|()| MetricsAdded::Done).map_err(unwritable)?,
            Content::Damaged => start_over(file, true).map(|()| MetricsAdded::StartedOver).map_err(unwritable)?,
        };
        match add_all(file, &by_key).map_err(unwritable)? {
            Added::All => Ok(outcome),
            Added::FoundDamage => {
                start_over(file, true).and_then(|()| add_all(file, &by_key)).map_err(unwritable)?;
                Ok(MetricsAdded::StartedOver)
            }
        }
    }
}

impl MetricStore for FileMetrics {
    fn add(&self, measurements: &[Measurement]) -> Result<MetricsAdded, MetricError> {
        // What only reads creates no directory; the database may be elsewhere, so that there is none yet.
        let has_commit = measurements.iter().any(|measured| measured.key == MetricKey::step(step::COMMIT));
        let opened = if has_commit { with_folder(&self.path, private_file) } else { private_file(&self.path) };
        let mut file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(MetricsAdded::Done),
            opened => opened.map_err(|error| self.unwritable(error))?,
        };
        for _ in 0..METRIC_LOCK_TRIES {
            match LockedFile::try_lock(file).map_err(|error| self.unwritable(error))? {
                Ok(file) => return self.add_to(&file, measurements),
                Err(busy) => file = busy,
            }
            std::thread::yield_now();
        }
        Ok(MetricsAdded::Busy)
    }

    fn read(&self) -> Result<MetricRecord, MetricError> {
        let unreadable = |error: io::Error| MetricError::Unreadable { path: self.path.clone(), source: error.into() };
        for _ in 0..METRIC_READS {
            let content = match open_regular(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                opened => opened.and_then(|file| read_all(&file)).map_err(unreadable)?,
            };
            let mut blocks = content.chunks(BLOCK).map(padded);
            let header = match Header::parse(&blocks.next().unwrap_or([0; BLOCK])) {
                Content::Valid(header) => header,
                Content::Empty => return Ok(MetricRecord { since: None, started_over: false, metrics: Vec::new() }),
                Content::Newer(found) => return Err(self.unsupported(found)),
                Content::Damaged => continue,
            };
            let metrics: Result<Vec<Metric>, _> = blocks.filter_map(|block| parse(&block).intact()).collect();
            // A block that was read while it was written seems damaged.
            if let Ok(mut metrics) = metrics {
                metrics.sort_unstable_by(|one, other| one.key.cmp(&other.key));
                let Header { since, started_over } = header;
                return Ok(MetricRecord { since: Some(since), started_over, metrics });
            }
        }
        Err(MetricError::Damaged { path: self.path.clone() })
    }

    fn publish(&self, file: &Path, content: &str) -> Result<(), MetricError> {
        publish(file, content.as_bytes())
            .map_err(|error| MetricError::Unwritable { path: file.to_owned(), source: error.into() })
    }
}

fn publish(file: &Path, content: &[u8]) -> io::Result<()> {
    // The file that a link leads to is replaced, as it would be written to.
    let target = if file.is_symlink() { fs::canonicalize(file)? } else { file.to_owned() };
    let mode = match fs::symlink_metadata(&target) {
        Ok(found) if found.is_file() => found.permissions().mode() & 0o777,
        Ok(_) => return Err(io::Error::other("it is not a regular file")),
        Err(_) => 0o644,
    };
    let mut new = AtomicFile::create(&target)?;
    new.write_all(content)?;
    fs::set_permissions(new.temporary(), Permissions::from_mode(mode))?;
    new.replace_unsynced()
}

/// What a block has.
enum Content<T> {
    Empty,
    Valid(T),
    Damaged,
    /// A header of a version that this program does not know.
    Newer(u32),
}

/// A block that is not one of this version's.
struct NotIntact;

impl<T> Content<T> {
    /// Returns what the block has, if anything.
    fn intact(self) -> Option<Result<T, NotIntact>> {
        match self {
            Self::Valid(value) => Some(Ok(value)),
            Self::Empty => None,
            Self::Damaged | Self::Newer(_) => Some(Err(NotIntact)),
        }
    }
}

/// The first block: magic, version, time, whether it was started over, checksum of these.
struct Header {
    since: Timestamp,
    started_over: bool,
}

impl Header {
    fn read(file: &File) -> io::Result<Content<Self>> {
        Ok(Self::parse(&read_block(file, 0)?))
    }

    fn parse(block: &[u8; BLOCK]) -> Content<Self> {
        if is_empty(block) {
            return Content::Empty;
        }
        let mut fields = Fields(block);
        let (magic, version) = (fields.take::<8>(), u32::from_le_bytes(fields.take()));
        if magic == *MAGIC && version > VERSION {
            return Content::Newer(version);
        }
        let (since, started_over) = (i64::from_le_bytes(fields.take()), fields.take::<1>() == [1]);
        let is_intact = u32::from_le_bytes(fields.take()) == crc32fast::hash(&block[..21]);
        match Timestamp::from_microsecond(since) {
            Ok(since) if is_intact && magic == *MAGIC && version == VERSION => {
                Content::Valid(Self { since, started_over })
            }
            Ok(_) | Err(_) => Content::Damaged,
        }
    }

    fn encode(&self) -> [u8; BLOCK] {
        let mut bytes = [&MAGIC[..], &VERSION.to_le_bytes(), &self.since.as_microsecond().to_le_bytes()].concat();
        bytes.push(u8::from(self.started_over));
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        padded(&bytes)
    }
}

/// Removes all metrics.
fn start_over(file: &File, started_over: bool) -> io::Result<()> {
    file.set_len(0)?;
    let header = Header { since: Timestamp::now(), started_over };
    file.write_all_at(&header.encode(), 0)
}

enum Added {
    All,
    FoundDamage,
}

/// Adds measurements to their blocks; those for which no block is free are dropped.
fn add_all(file: &File, by_key: &BTreeMap<MetricKey, Vec<&Measurement>>) -> io::Result<Added> {
    for (key, measurements) in by_key {
        let first = crc32fast::hash(key.name.as_bytes()) as usize;
        for probe in 0..SLOTS {
            let offset = ((1 + (first + probe) % SLOTS) * BLOCK) as u64;
            let mut metric = match parse(&read_block(file, offset)?) {
                Content::Valid(metric) if metric.key == *key => metric,
                Content::Valid(_) => continue,
                Content::Empty => Metric::new(key.clone()),
                Content::Damaged | Content::Newer(_) => return Ok(Added::FoundDamage),
            };
            for measured in measurements {
                metric.add(measured.failed, measured.duration);
            }
            file.write_all_at(&encode(&metric), offset)?;
            break;
        }
    }
    Ok(Added::All)
}

/// Returns the key that is kept for `key`.
fn short(key: &MetricKey) -> MetricKey {
    let mut end = key.name.len().min(MAX_NAME);
    while !key.name.is_char_boundary(end) {
        end -= 1;
    }
    let name = match &key.name {
        Cow::Borrowed(name) => Cow::Borrowed(&name[..end]),
        Cow::Owned(name) => Cow::Owned(name[..end].to_owned()),
    };
    MetricKey { kind: key.kind, name }
}

/// Reads a metric's block: checksum, kind, length of the name, the name, failures, total in microseconds, counts.
fn parse(block: &[u8; BLOCK]) -> Content<Metric> {
    if is_empty(block) {
        return Content::Empty;
    }
    let mut fields = Fields(block);
    let is_intact = u32::from_le_bytes(fields.take()) == crc32fast::hash(&block[4..]);
    let kind = match fields.take() {
        [0] => Some(MetricKind::Operation),
        [1] => Some(MetricKind::Step),
        [_] => None,
    };
    let [length] = fields.take();
    let name = fields.take::<MAX_NAME>();
    let name = name.get(..usize::from(length)).and_then(|name| std::str::from_utf8(name).ok());
    let (Some(kind), Some(name), true) = (kind, name, is_intact) else { return Content::Damaged };
    let key = MetricKey { kind, name: name.to_owned().into() };
    let (failures, total) = (u64::from_le_bytes(fields.take()), u64::from_le_bytes(fields.take()));
    let counts = [(); BUCKETS].map(|()| u32::from_le_bytes(fields.take()));
    let (total, durations) = (Duration::from_micros(total), Histogram::from_counts(counts));
    Content::Valid(Metric { key, failures, total, durations })
}

fn encode(metric: &Metric) -> [u8; BLOCK] {
    let mut bytes = Vec::with_capacity(BLOCK);
    bytes.push(u8::from(metric.key.kind == MetricKind::Step));
    let mut name = metric.key.name.as_bytes().to_vec();
    bytes.push(u8::try_from(name.len()).unwrap_or_default());
    name.resize(MAX_NAME, 0);
    bytes.extend(name);
    bytes.extend(metric.failures.to_le_bytes());
    bytes.extend(u64::try_from(metric.total.as_micros()).unwrap_or(u64::MAX).to_le_bytes());
    bytes.extend(metric.durations.counts().iter().flat_map(|count| count.to_le_bytes()));
    bytes.resize(BLOCK - 4, 0);
    let checksum = crc32fast::hash(&bytes).to_le_bytes();
    padded(&[&checksum[..], &bytes].concat())
}

/// The bytes of a block that are not read yet.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    /// Takes the next bytes; zeros beyond the end.
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_at_checked(N).unwrap_or((&[], &[]));
        self.0 = rest;
        field.try_into().unwrap_or([0; N])
    }
}

fn is_empty(block: &[u8; BLOCK]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

/// Returns a block that begins with `bytes`.
fn padded(bytes: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    for (to, from) in block.iter_mut().zip(bytes) {
        *to = *from;
    }
    block
}

/// Reads a block; it is empty beyond the end of the file.
fn read_block(file: &File, offset: u64) -> io::Result<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    let mut filled = 0;
    while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(block)
}

fn read_all(file: &File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, ((SLOTS + 1) * BLOCK) as u64), &mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests;
