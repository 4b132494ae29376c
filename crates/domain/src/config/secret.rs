//! Which keys of a definition have secrets.

/// Returns whether the value at a path is a secret: of a credential, and the password of a user.
///
/// So is what was written in place of the map or list of them.
pub fn is_secret(path: &str) -> bool {
    let is_of_user = |rest: &str| rest.is_empty() || rest.starts_with(['.', '[']) && rest.ends_with(".password");
    path == "credentials" || path.starts_with("credentials.") || path.strip_prefix("seed.users").is_some_and(is_of_user)
}

/// Returns whether a text names a key that has secrets, so that parts of it are not shown as they cannot be separated.
pub fn names_secrets(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["credential", "passw", "seed.users"].iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_secret_paths_are_those_of_credentials_and_passwords() {
        for path in ["credentials", "credentials.a.b", "seed.users", "seed.users[0].password", "seed.users.x.password"]
        {
            assert!(is_secret(path), "{path}");
        }
        for path in ["", "seed", "seed.users[0]", "seed.users[0].name", "seed.users_password", "labels.password"] {
            assert!(!is_secret(path), "{path}");
        }
    }
}
