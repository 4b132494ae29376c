//! Which dependencies maqet accepts, and why.

/// Rules for the packages in the dependency graph, tests and development tasks included.
pub(super) struct Policy {
    /// The targets whose dependencies are checked.
    pub(super) targets: &'static [&'static str],
    /// Where packages may come from.
    pub(super) registry: &'static str,
    /// Licenses, by SPDX identifier, that any package may have.
    pub(super) licences: &'static [&'static str],
    /// Licenses that one package may have besides.
    pub(super) exceptions: &'static [Exception],
    /// Packages that are refused.
    pub(super) bans: &'static [Ban],
}

/// A license that is accepted for one package.
pub(super) struct Exception {
    pub(super) package: &'static str,
    pub(super) licence: &'static str,
}

/// A refused package.
pub(super) struct Ban {
    pub(super) package: &'static str,
    pub(super) reason: &'static str,
}

pub(super) const POLICY: Policy = Policy {
    // maqet needs pidfds, Unix sockets and /proc: Linux only.
    targets: &["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"],
    // A Git dependency has no version and can vanish.
    registry: "registry+https://github.com/rust-lang/crates.io-index",
    // Permissive licenses that only require naming the authors, like maqet's own MIT OR Apache-2.0.
    // ISC is MIT in fewer words.
    licences: &["MIT", "Apache-2.0", "ISC", "Unicode-3.0"],
    exceptions: &[
        // MIT without its only requirement.
        Exception { package: "borrow-or-share", licence: "MIT-0" },
        // Covers a part; as free as MIT, and forbids only to advertise with the names of the authors.
        Exception { package: "encoding_rs", licence: "BSD-3-Clause" },
        // As `encoding_rs`.
        Exception { package: "subtle", licence: "BSD-3-Clause" },
        // MIT in other words, for the C++ of the fuzzer, which is in no program that is published.
        Exception { package: "libfuzzer-sys", licence: "NCSA" },
        // Requires less than MIT: only that changed sources say so.
        Exception { package: "foldhash", licence: "Zlib" },
        // As `foldhash`. Cargo lists it for `flate2`, which is built without it.
        Exception { package: "zlib-rs", licence: "Zlib" },
    ],
    bans: &[
        Ban { package: "openssl-sys", reason: "needs a system library that a fresh machine lacks" },
        Ban { package: "serde_yaml", reason: "archived by its author; `serde-saphyr` reads our YAML (ADR 9)" },
    ],
};
