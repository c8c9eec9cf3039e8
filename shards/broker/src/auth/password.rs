//! Passwords: what is bcrypt, comparing what is not, and the check that runs elsewhere.

use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq;
use wire::secret::Secret;

use super::users::User;
use super::{Login, Reason, settings::ConnectionKind};

/// Characters of salt and hash in a bcrypt text.
const BCRYPT_TAIL_LEN: usize = 53;

/// The cost of a bcrypt hash, if the text is one: `$2a$`, `$2b$`, `$2x$` or `$2y$`, two digits and
/// `$`. Only this prefix decides, as in nats-server: a broken hash is no plain password.
pub(super) fn bcrypt_cost(password: &str) -> Option<u8> {
    let rest = password.strip_prefix("$2")?;
    let rest = rest.strip_prefix(['a', 'b', 'x', 'y'])?.strip_prefix('$')?;
    let (digits, rest) = rest.split_at_checked(2)?;
    if !rest.starts_with('$') || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// Whether a configured password counts as a bcrypt hash; everything else is a plain password.
pub fn is_bcrypt(password: &str) -> bool {
    bcrypt_cost(password).is_some()
}

/// A well-formed bcrypt text that no password is known for; verifying against it costs what
/// verifying a real one of that cost does.
pub(super) fn dummy_bcrypt(cost: u8) -> Secret {
    Secret::new(format!("$2b${cost:02}${}", ".".repeat(BCRYPT_TAIL_LEN)))
}

/// Compares in a time that depends on the lengths alone.
pub(super) fn is_same(configured: &str, given: &str) -> bool {
    configured.as_bytes().ct_eq(given.as_bytes()).into()
}

/// A bcrypt comparison that is to run off the shard; hand the outcome to [`PasswordCheck::finish`].
///
/// Logins of unknown users get one as well, so that they take as long as a wrong password.
pub struct PasswordCheck {
    hash: Secret,
    given: Secret,
    target: Target,
}

/// What a passed check leads to.
pub(super) enum Target {
    /// This user, if it may connect in this way.
    User(Arc<User>, ConnectionKind),
    /// Nobody: the check only takes time.
    Nobody,
}

impl PasswordCheck {
    pub(super) const fn new(hash: Secret, given: Secret, target: Target) -> Self {
        Self { hash, given, target }
    }

    /// The bcrypt hash to verify against.
    #[must_use]
    pub fn hash(&self) -> &str {
        self.hash.expose()
    }

    /// The password that the client gave.
    #[must_use]
    pub fn given(&self) -> &str {
        self.given.expose()
    }

    /// Ends the login: `verified` is whether the password fits the hash; false also when the hash
    /// is broken.
    #[must_use]
    pub fn finish(self, verified: bool) -> Login {
        match self.target {
            Target::User(user, kind) if verified => User::bind(&user, kind),
            Target::User(..) => Login::Reject(Reason::WrongPassword),
            Target::Nobody => Login::Reject(Reason::UnknownUser),
        }
    }
}

impl fmt::Debug for PasswordCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordCheck")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bcrypt_is_told_by_its_prefix() {
        for (text, cost) in [
            ("$2a$11$abc", Some(11)),
            ("$2b$04$", Some(4)),
            ("$2x$10$x", Some(10)),
            ("$2y$31$x", Some(31)),
            ("$2c$04$x", None),
            ("$2a$4$x", None),
            ("$2a$1x$x", None),
            ("$2a$11", None),
            ("$2a$+1$x", None),
            ("$2a$\u{e9}$x", None),
            ("2a$11$x", None),
            ("", None),
        ] {
            assert_eq!(bcrypt_cost(text), cost, "{text}");
        }
    }

    #[test]
    fn plain_comparison() {
        assert!(is_same("", "") && is_same("a", "a"));
        assert!(!is_same("a", "b") && !is_same("a", "aa") && !is_same("", "a"));
    }

    #[test]
    fn the_dummy_is_well_formed() {
        let dummy = dummy_bcrypt(4);
        assert_eq!(dummy.expose().len(), 60);
        assert_eq!(bcrypt_cost(dummy.expose()), Some(4));
    }
}
