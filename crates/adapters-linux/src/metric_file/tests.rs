use std::fs::OpenOptions;

use super::*;

/// A folder with a file of metrics, which does not exist yet.
fn metrics() -> (tempfile::TempDir, FileMetrics) {
    let folder = tempfile::tempdir().unwrap();
    let metrics = FileMetrics::new(folder.path().join("metrics"));
    (folder, metrics)
}

fn measured(name: &'static str, millis: u64) -> Measurement {
    Measurement { key: MetricKey::operation(name), failed: false, duration: Duration::from_millis(millis) }
}

fn counts(metrics: &FileMetrics) -> Vec<(String, u64)> {
    let record = metrics.read().unwrap();
    record.metrics.iter().map(|metric| (metric.key.name.to_string(), metric.durations.count())).collect()
}

/// Overwrites one byte of the file.
fn damage(metrics: &FileMetrics, offset: u64) {
    let file = OpenOptions::new().write(true).open(&metrics.path).unwrap();
    file.write_all_at(&[0xa5], offset).unwrap();
}

/// Returns where the block of a metric is.
fn block_of(metrics: &FileMetrics, name: &str) -> u64 {
    let content = fs::read(&metrics.path).unwrap();
    let at = content.windows(name.len()).position(|part| part == name.as_bytes()).unwrap();
    (at / BLOCK * BLOCK) as u64
}

#[test]
fn test_add_keeps_counts_failures_and_durations() {
    let (_folder, metrics) = metrics();
    let failed = Measurement { failed: true, ..measured("start", 20) };

    metrics.add(&[measured("start", 40), failed.clone(), measured("ls", 1)]).unwrap();
    metrics.add(&[failed]).unwrap();

    let record = metrics.read().unwrap();
    let start = record.metrics.iter().find(|metric| metric.key.name == "start").unwrap();
    assert_eq!((start.durations.count(), start.failures, start.total), (3, 2, Duration::from_millis(80)));
    assert!(record.since.is_some() && !record.started_over);
    let mode = fs::metadata(&metrics.path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
}

#[test]
fn test_add_without_directory_creates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = FileMetrics::new(folder.path().join("data/metrics"));

    assert_eq!(metrics.add(&[measured("ls", 1)]).unwrap(), MetricsAdded::Done);

    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    assert_eq!(metrics.read().unwrap().since, None);
}

#[test]
fn test_add_after_a_commit_creates_the_directory() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = FileMetrics::new(folder.path().join("data/metrics"));
    let commit = Measurement { key: MetricKey::step(step::COMMIT), ..measured("", 1) };

    metrics.add(&[measured("add", 2), commit]).unwrap();

    assert_eq!(counts(&metrics).len(), 2);
}

#[test]
fn test_add_while_locked_is_busy_and_adds_nothing() {
    let (_folder, metrics) = metrics();
    metrics.add(&[measured("ls", 1)]).unwrap();
    let held = LockedFile::try_lock(private_file(&metrics.path).unwrap()).unwrap().unwrap();

    assert_eq!(metrics.add(&[measured("ls", 1)]).unwrap(), MetricsAdded::Busy);

    drop(held);
    assert_eq!(counts(&metrics), [("ls".to_owned(), 1)]);
}

#[test]
fn test_add_concurrent_loses_nothing() {
    const WRITERS: usize = 32;
    const EACH: u64 = 50;
    let (_folder, metrics) = metrics();

    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                for _ in 0..EACH {
                    while metrics.add(&[measured("ls", 1), measured("status", 2)]).unwrap() == MetricsAdded::Busy {}
                }
            });
        }
    });

    let expected = WRITERS as u64 * EACH;
    assert_eq!(counts(&metrics), [("ls".to_owned(), expected), ("status".to_owned(), expected)]);
}

#[test]
fn test_add_to_damaged_header_or_block_starts_over() {
    for offset in [|_: &FileMetrics| 3, |metrics: &FileMetrics| block_of(metrics, "start") + 100] {
        let (_folder, metrics) = metrics();
        metrics.add(&[measured("ls", 1), measured("start", 1)]).unwrap();
        damage(&metrics, offset(&metrics));

        let refused = metrics.read();
        let added = metrics.add(&[measured("start", 1)]).unwrap();

        assert!(matches!(refused, Err(MetricError::Damaged { .. })));
        assert_eq!(added, MetricsAdded::StartedOver);
        assert_eq!(counts(&metrics), [("start".to_owned(), 1)]);
        assert!(metrics.read().unwrap().started_over);
    }
}

#[test]
fn test_file_of_newer_version_is_left_alone() {
    let (_folder, metrics) = metrics();
    metrics.add(&[measured("ls", 1)]).unwrap();
    OpenOptions::new().write(true).open(&metrics.path).unwrap().write_all_at(&9_u32.to_le_bytes(), 8).unwrap();
    let before = fs::read(&metrics.path).unwrap();

    let refused = metrics.add(&[measured("ls", 1)]).unwrap_err();

    assert!(matches!(refused, MetricError::UnsupportedVersion { found: 9, known: 1, .. }), "{refused}");
    assert!(matches!(metrics.read(), Err(MetricError::UnsupportedVersion { found: 9, .. })));
    assert_eq!(fs::read(&metrics.path).unwrap(), before);
}

#[test]
fn test_file_that_is_no_file_is_an_error() {
    let (_folder, metrics) = metrics();
    std::os::unix::fs::symlink("/dev/null", &metrics.path).unwrap();

    assert!(matches!(metrics.add(&[measured("ls", 1)]), Err(MetricError::Unwritable { .. })));
    assert!(matches!(metrics.read(), Err(MetricError::Unreadable { .. })));
}

#[test]
fn test_full_file_keeps_what_it_has() {
    let (_folder, metrics) = metrics();
    let names: Vec<Measurement> = (0..SLOTS + 5)
        .map(|number| Measurement {
            key: MetricKey { kind: MetricKind::Operation, name: format!("op-{number:04}").into() },
            ..measured("", 1)
        })
        .collect();

    metrics.add(&names).unwrap();

    assert_eq!(counts(&metrics).len(), SLOTS);
    assert_eq!(fs::metadata(&metrics.path).unwrap().len(), ((SLOTS + 1) * BLOCK) as u64);
}

#[test]
fn test_long_name_is_cut_between_characters() {
    let (_folder, metrics) = metrics();

    metrics
        .add(&[
            measured("an-operation-of-another-programm\u{e4}", 1),
            measured("x23456789012345678901234567890\u{e4}\u{e4}", 1),
        ])
        .unwrap();

    let names: Vec<String> = counts(&metrics).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["an-operation-of-another-programm", "x23456789012345678901234567890\u{e4}"]);
}

#[test]
fn test_publish_new_file_is_readable_by_others_and_keeps_a_mode() {
    let (folder, metrics) = metrics();
    let file = folder.path().join("maqet.prom");
    let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o777;

    metrics.publish(&file, "one\n").unwrap();
    assert_eq!(mode(), 0o644);
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    metrics.publish(&file, "two\n").unwrap();

    assert_eq!((mode(), fs::read_to_string(&file).unwrap()), (0o640, "two\n".to_owned()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn test_publish_to_device_or_directory_is_refused() {
    let (folder, metrics) = metrics();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();

    for file in [link.as_path(), folder.path()] {
        assert!(matches!(metrics.publish(file, "one\n"), Err(MetricError::Unwritable { .. })), "{}", file.display());
    }
    assert!(link.is_symlink());
}
