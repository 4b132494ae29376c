//! Named values of one kind.

use std::sync::Arc;

use crate::error::{Explain, Explanation, Fault};
use crate::text::similar;

/// Something with a name to be found under.
pub trait Named {
    /// Returns the name.
    fn name(&self) -> &'static str;
}

/// Values of one kind by their name; a plain value, with as many side by side as wanted.
#[derive(Debug)]
pub struct Registry<T: ?Sized> {
    what: &'static str,
    entries: Vec<Arc<T>>,
}

/// A name that was registered already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {what} `{name}` is registered already")]
pub struct DuplicateName {
    /// What kind of thing it names.
    pub what: &'static str,
    /// The name.
    pub name: String,
}

impl Explain for DuplicateName {
    fn explain(&self) -> Explanation {
        Explanation::new("plugin.duplicate-name", Fault::Usage)
    }
}

impl<T: ?Sized> Clone for Registry<T> {
    fn clone(&self) -> Self {
        Self { what: self.what, entries: self.entries.clone() }
    }
}

impl<T: Named + ?Sized> Registry<T> {
    /// Makes an empty registry; `what` says what it holds, as in `storage type`.
    pub const fn new(what: &'static str) -> Self {
        Self { what, entries: Vec::new() }
    }

    /// Adds an entry, which must bring a new name.
    pub fn register(&mut self, entry: Arc<T>) -> Result<(), DuplicateName> {
        if self.get(entry.name()).is_some() {
            return Err(DuplicateName { what: self.what, name: entry.name().to_owned() });
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Returns the entry of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<T>> {
        self.entries.iter().find(|entry| entry.name() == name)
    }

    /// Returns the entries in the order they were registered.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.entries.iter()
    }

    /// Returns the names in the order they were registered.
    pub fn names(&self) -> Vec<&'static str> {
        self.entries.iter().map(|entry| entry.name()).collect()
    }

    /// Returns the names that look like `given`.
    pub fn similar(&self, given: &str) -> Vec<String> {
        similar(given, self.names())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Qcow2, builtin_drivers};

    #[test]
    fn test_registry_second_entry_of_a_name_is_refused() {
        let mut registry = builtin_drivers().unwrap();

        let refused = registry.register(Arc::new(Qcow2));

        assert_eq!(refused, Err(DuplicateName { what: "storage type", name: "qcow2".to_owned() }));
    }

    #[test]
    fn test_registry_near_name_is_found() {
        assert_eq!(builtin_drivers().unwrap().similar("qcow"), ["qcow2"]);
    }
}
