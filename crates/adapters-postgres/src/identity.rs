//! To whom VMs belong.

/// The user of a host to whom VMs belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The name of the host.
    pub host: String,
    /// The name of the user there.
    pub owner: String,
}
