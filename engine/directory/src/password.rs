//! Password hashes as they stand in the accounts table: `{SCHEME}text`.
//!
//! Hashing and checking take milliseconds to seconds of one core by design; callers run them on a bounded pool. The
//! schemes are those that people bring along from other servers, minus those that no longer protect anything
//! (`MD5-CRYPT`, `DES-CRYPT`, `CRAM-MD5`, `LDAP-MD5` and the like are refused by name).

mod stored;

pub use stored::{Price, Stored};

use argon2::Argon2;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use mail::Secret;
use sha_crypt::{CustomizedPasswordHasher as _, ShaCrypt};
use std::fmt;

/// Longest password taken, in octets; bounds the work of schemes whose cost grows with it.
pub const PASSWORD_OCTETS_MAX: usize = 1_024;
/// What bcrypt reads of a password; longer ones are refused when hashing. When checking, octets beyond are ignored, as
/// everywhere else, so that hashes made elsewhere keep working.
pub const BCRYPT_OCTETS_MAX: usize = 72;
/// bcrypt cost: default, least and most (R31). One more doubles the time.
pub const BCRYPT_COST: Bounds = Bounds { default: 5, least: 4, most: 31 };
/// Rounds of SHA-crypt; the upper bound keeps one login below a second or two.
pub const SHA_CRYPT_ROUNDS: Bounds = Bounds { default: 5_000, least: 1_000, most: 1_000_000 };
/// Passes of Argon2 over its memory.
pub const ARGON2_PASSES: Bounds = Bounds { default: 2, least: 1, most: 16 };
/// Memory of a new Argon2 hash in KiB (OWASP's first choice for two passes and one lane: 19 MiB).
pub const ARGON2_MEMORY_KIBIBYTES: u32 = 19 * 1_024;

/// Default and range of a cost parameter; what lies outside is moved to the nearer end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Taken when none is given.
    pub default: u32,
    /// Smallest.
    pub least: u32,
    /// Largest.
    pub most: u32,
}

impl Bounds {
    fn choose(self, wanted: Option<u32>) -> u32 {
        wanted.unwrap_or(self.default).clamp(self.least, self.most)
    }
}

/// A scheme that new hashes can be made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Argon2id (RFC 9106), the default for new accounts. Rounds are passes.
    Argon2id,
    /// bcrypt, `$2y$`. Rounds are the cost.
    BlfCrypt,
    /// SHA-512-crypt, `$6$`.
    Sha512Crypt,
    /// SHA-256-crypt, `$5$`.
    Sha256Crypt,
    /// Salted SHA-512, one round; only to feed old software.
    Ssha512,
    /// Salted SHA-256, one round; only to feed old software.
    Ssha256,
    /// The password itself; only for tests.
    Plain,
}

impl Scheme {
    /// All of them, best first.
    pub const ALL: [Scheme; 7] = [
        Scheme::Argon2id,
        Scheme::BlfCrypt,
        Scheme::Sha512Crypt,
        Scheme::Sha256Crypt,
        Scheme::Ssha512,
        Scheme::Ssha256,
        Scheme::Plain,
    ];

    /// The name between the braces.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Argon2id => "ARGON2ID",
            Scheme::BlfCrypt => "BLF-CRYPT",
            Scheme::Sha512Crypt => "SHA512-CRYPT",
            Scheme::Sha256Crypt => "SHA256-CRYPT",
            Scheme::Ssha512 => "SSHA512",
            Scheme::Ssha256 => "SSHA256",
            Scheme::Plain => "PLAIN",
        }
    }

    /// Finds a scheme by name, in any case, with or without braces.
    pub fn parse(name: &str) -> Option<Scheme> {
        let name = name.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(name);
        Scheme::ALL.into_iter().find(|scheme| scheme.name().eq_ignore_ascii_case(name))
    }
}

/// Why a password cannot be hashed, or a stored hash not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordError {
    /// Empty.
    Empty,
    /// Longer than [`PASSWORD_OCTETS_MAX`], or than [`BCRYPT_OCTETS_MAX`] for bcrypt.
    TooLong,
    /// Holds a NUL or a line end, which no client can send or some scheme would cut at; in `PLAIN` also a colon.
    Forbidden,
    /// A scheme that is not supported.
    UnknownScheme,
    /// The text does not fit its scheme.
    Malformed,
    /// Checking it would take too much time or memory.
    TooCostly,
    /// The system gave no random numbers or no memory.
    System,
}

impl fmt::Display for PasswordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PasswordError::Empty => "the password is empty",
            PasswordError::TooLong => "the password is too long (72 octets for BLF-CRYPT, otherwise 1024)",
            PasswordError::Forbidden => "the password holds a character that it must not",
            PasswordError::UnknownScheme => "the password scheme is not supported",
            PasswordError::Malformed => "the password hash does not fit its scheme",
            PasswordError::TooCostly => "the password hash asks for too much time or memory",
            PasswordError::System => "no random numbers or no memory",
        })
    }
}

impl std::error::Error for PasswordError {}

/// Hashes a password for the accounts table, scheme prefix included. `rounds` is clamped to the scheme's range.
pub fn hash(scheme: Scheme, password: &Secret, rounds: Option<u32>) -> Result<String, PasswordError> {
    let octets = password.expose().as_bytes();
    if octets.is_empty() {
        return Err(PasswordError::Empty);
    }
    if octets.len() > PASSWORD_OCTETS_MAX || (scheme == Scheme::BlfCrypt && octets.len() > BCRYPT_OCTETS_MAX) {
        return Err(PasswordError::TooLong);
    }
    if octets.iter().any(|octet| matches!(octet, 0 | b'\r' | b'\n')) {
        return Err(PasswordError::Forbidden);
    }
    let text = match scheme {
        Scheme::Argon2id => argon2id(octets, ARGON2_PASSES.choose(rounds))?,
        Scheme::BlfCrypt => bcrypt::hash_with_salt(octets, BCRYPT_COST.choose(rounds), random()?)
            .map_err(|_| PasswordError::System)?
            .format_for_version(bcrypt::Version::TwoY),
        Scheme::Sha512Crypt => sha_crypt(ShaCrypt::SHA512, octets, SHA_CRYPT_ROUNDS.choose(rounds))?,
        Scheme::Sha256Crypt => sha_crypt(ShaCrypt::SHA256, octets, SHA_CRYPT_ROUNDS.choose(rounds))?,
        Scheme::Ssha512 => salted(&digest::SHA512, octets)?,
        Scheme::Ssha256 => salted(&digest::SHA256, octets)?,
        Scheme::Plain if octets.iter().any(|octet| *octet == b':' || *octet < b' ') => {
            return Err(PasswordError::Forbidden);
        }
        Scheme::Plain => password.expose().to_owned(),
    };
    Ok(format!("{{{}}}{text}", scheme.name()))
}

fn argon2id(password: &[u8], passes: u32) -> Result<String, PasswordError> {
    let salt: [u8; 16] = random()?;
    let params = argon2::Params::new(ARGON2_MEMORY_KIBIBYTES, passes, 1, None).map_err(|_| PasswordError::TooCostly)?;
    let mut out = [0; 32];
    Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
        .hash_password_into(password, &salt, &mut out)
        .map_err(|_| PasswordError::System)?;
    Ok(format!(
        "$argon2id$v=19$m={ARGON2_MEMORY_KIBIBYTES},t={passes},p=1${}${}",
        STANDARD_NO_PAD.encode(salt),
        STANDARD_NO_PAD.encode(out)
    ))
}

fn sha_crypt(hasher: ShaCrypt, password: &[u8], rounds: u32) -> Result<String, PasswordError> {
    // Twelve octets become the sixteen salt characters that the scheme reads at most.
    let salt: [u8; 12] = random()?;
    let params = sha_crypt::Params::new(rounds).map_err(|_| PasswordError::TooCostly)?;
    hasher
        .hash_password_customized(password, &salt, None, None, params)
        .map(|hash| hash.as_str().to_owned())
        .map_err(|_| PasswordError::System)
}

fn salted(algorithm: &'static digest::Algorithm, password: &[u8]) -> Result<String, PasswordError> {
    let salt: [u8; 8] = random()?;
    let mut context = digest::Context::new(algorithm);
    context.update(password);
    context.update(&salt);
    Ok(STANDARD.encode([context.finish().as_ref(), &salt].concat()))
}

fn random<const OCTETS: usize>() -> Result<[u8; OCTETS], PasswordError> {
    let mut octets = [0; OCTETS];
    aws_lc_rs::rand::fill(&mut octets).map_err(|_| PasswordError::System)?;
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[test]
    fn r30_r31_bcrypt_hashes_have_the_guides_form_and_cost() {
        let of = |rounds| hash(Scheme::BlfCrypt, &secret("insecure"), rounds).unwrap();
        let eight = of(Some(8));
        let rest = eight.strip_prefix("{BLF-CRYPT}$2y$08$").unwrap();
        assert_eq!(rest.len(), 53);
        assert!(rest.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/')));
        assert!(of(None).starts_with("{BLF-CRYPT}$2y$05$"));
        assert!(of(Some(3)).starts_with("{BLF-CRYPT}$2y$04$"));
        assert_eq!(BCRYPT_COST.choose(Some(40)), 31);
        assert_ne!(of(Some(4)), of(Some(4)));
    }

    #[test]
    fn r33_what_is_hashed_is_verified_in_every_scheme() {
        for scheme in Scheme::ALL {
            let text = hash(scheme, &secret("pässword 1"), Some(1)).unwrap();
            assert!(text.starts_with(&format!("{{{}}}", scheme.name())), "{text}");
            let stored = Stored::parse(&text).unwrap();
            assert!(stored.verify(&secret("pässword 1")), "{text}");
            assert!(!stored.verify(&secret("pässword 2")), "{text}");
            assert!(!stored.verify(&secret("")), "{text}");
            assert_eq!(Scheme::parse(&scheme.name().to_lowercase()), Some(scheme));
        }
        assert_eq!(Scheme::parse("MD5-CRYPT"), None);
    }

    #[test]
    fn what_bcrypt_would_cut_is_refused_when_hashing() {
        assert_eq!(hash(Scheme::BlfCrypt, &secret(&"a".repeat(73)), None), Err(PasswordError::TooLong));
        let longest = hash(Scheme::BlfCrypt, &secret(&"a".repeat(72)), Some(4)).unwrap();
        assert!(Stored::parse(&longest).unwrap().verify(&secret(&"a".repeat(72))));
        for text in ["a\0b", "a\nb", "a\r"] {
            assert_eq!(hash(Scheme::BlfCrypt, &secret(text), None), Err(PasswordError::Forbidden));
        }
        assert_eq!(hash(Scheme::Argon2id, &secret(""), None), Err(PasswordError::Empty));
        assert_eq!(hash(Scheme::Plain, &secret("a:b"), None), Err(PasswordError::Forbidden));
        assert_eq!(hash(Scheme::Sha512Crypt, &secret(&"a".repeat(1_025)), None), Err(PasswordError::TooLong));
    }
}
