//! The suites live in `tests/tests`.
