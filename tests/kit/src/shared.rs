//! One costly fixture for all tests that run at the same time.

use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A value created by its first user and dropped after its last one.
///
/// For a booted guest: `static GUEST: Shared<BootedGuest> = Shared::new();`, then in each test
/// `let guest = GUEST.get_or_make(BootedGuest::boot);`. A plain static is never dropped and would leave its QEMU
/// behind; this one is, at the price of another boot if the tests happen not to overlap.
#[derive(Debug)]
pub struct Shared<T>(Mutex<Weak<T>>);

impl<T> Shared<T> {
    /// Returns a place without a value.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(Weak::new()))
    }

    /// Returns the value in use, or a new one; others wait while it is created.
    pub fn get_or_make(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = place.upgrade() {
            return value;
        }

        let value = Arc::new(make());
        *place = Arc::downgrade(&value);
        value
    }
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_shared_value_in_use_is_created_once() {
        let place = Shared::new();

        let first = place.get_or_make(|| 1);
        let second = place.get_or_make(|| 2);

        assert_eq!((*first, *second), (1, 1));
    }

    #[test]
    fn test_shared_value_unused_is_dropped_and_recreated() {
        let place = Shared::new();

        drop(place.get_or_make(|| 1));

        assert_eq!(*place.get_or_make(|| 2), 2);
    }
}
