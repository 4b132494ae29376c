//! Texts that are checked once, when they are made.

/// Implements `as_str`, `Display` and `FromStr` for a text whose only constructor is `parse`.
macro_rules! checked_text {
    ($name:ident, $error:ident) => {
        impl $name {
            /// Returns it as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }
    };
}

pub(crate) use checked_text;
