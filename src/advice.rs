//! Advice about settings that work but are unwise, in nats-server's words, for the log at start.

use broker::auth::is_bcrypt;

use crate::config::Options;

/// A `max_payload` above this is advised against, bytes. Seen in nats-server 2.15.1.
const PAYLOAD_ADVISED_BYTES_MAX: u32 = 8 << 20;

/// What to say when a password of the configuration is not hashed. As in nats-server, a token does
/// not count, and a user of a list counts even with an empty password.
pub(crate) fn about_passwords(options: &Options) -> Option<&'static str> {
    let auth = &options.auth;
    let single = auth.password.expose();
    let is_plain = !single.is_empty() && !is_bcrypt(single)
        || auth.users.iter().any(|user| !user.is_nkey && !is_bcrypt(user.password.expose()));
    is_plain.then_some("Plaintext passwords detected, use nkeys or bcrypt")
}

/// What to say when payloads may be very large.
pub(crate) fn about_payloads(options: &Options) -> Option<&'static str> {
    (options.limits.payload_bytes_max > PAYLOAD_ADVISED_BYTES_MAX).then_some(
        "Maximum payloads over 8.00 MB are generally discouraged and could lead to poor performance",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Secret, UserOptions};

    const HASH: &str = "$2a$11$V1qrpBVyCm5Ir3Mzj7Ehlu8OU1hCBCkLQqrCjlzhbKJgWzlCkbJmG";

    fn says_plain(single: &str, users: &[(&str, bool)]) -> bool {
        let mut options = Options::default();
        options.auth.password = Secret::new(single);
        options.auth.users = users
            .iter()
            .map(|(password, is_nkey)| UserOptions {
                password: Secret::new(*password),
                is_nkey: *is_nkey,
                ..UserOptions::default()
            })
            .collect();
        about_passwords(&options).is_some()
    }

    #[test]
    fn only_passwords_that_are_not_hashed_are_told() {
        assert!(says_plain("secret", &[]));
        assert!(!says_plain("", &[]));
        assert!(!says_plain(HASH, &[]));
        assert!(says_plain("", &[(HASH, false), ("secret", false)]));
        assert!(says_plain("", &[("", false)]));
        assert!(says_plain("", &[("$2a$x", false)]));
        assert!(!says_plain("", &[(HASH, false), ("", true)]));
        let mut options = Options::default();
        options.auth.token = Secret::new("secret");
        assert_eq!(about_passwords(&options), None);
    }

    #[test]
    fn payloads_are_told_above_the_bound_only() {
        let mut options = Options::default();
        assert_eq!(about_payloads(&options), None);
        options.limits.payload_bytes_max = 8 << 20;
        assert_eq!(about_payloads(&options), None);
        options.limits.payload_bytes_max += 1;
        assert!(about_payloads(&options).is_some());
    }
}
