//! A hash read from the accounts table: parsed once, checked against many passwords.

use super::{ARGON2_PASSES, BCRYPT_COST, BCRYPT_OCTETS_MAX, PASSWORD_OCTETS_MAX, PasswordError, SHA_CRYPT_ROUNDS};
use argon2::Argon2;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD_NO_PAD};
use mail::Secret;
use sha_crypt::{PasswordVerifier as _, ShaCrypt};
use std::fmt;

/// Most memory of one Argon2 check in KiB, and most memory times passes: 256 MiB, and four times that.
pub const ARGON2_MEMORY_KIBIBYTES_MAX: u32 = 256 << 10;
const ARGON2_WORK_KIBIBYTES_MAX: u64 = 1 << 20;
const ARGON2_LANES_MAX: u32 = 16;
/// Bounds of salts and outputs in octets.
const ARGON2_SALT_OCTETS: std::ops::RangeInclusive<usize> = 8..=64;
const ARGON2_HASH_OCTETS: std::ops::RangeInclusive<usize> = 16..=64;
/// Longest salt behind a salted digest, and longest stored text, in octets.
const DIGEST_SALT_OCTETS_MAX: usize = 64;
const STORED_OCTETS_MAX: usize = 4_096;

/// Base64 with or without padding, as other programs write it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a check costs: checks of equal price take equal time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Price {
    /// One digest or comparison.
    Digest,
    /// SHA-crypt.
    ShaCrypt {
        /// SHA-512 instead of SHA-256.
        wide: bool,
        /// Its rounds.
        rounds: u32,
    },
    /// bcrypt.
    Bcrypt {
        /// Its cost.
        cost: u32,
    },
    /// Argon2.
    Argon2 {
        /// Memory in KiB.
        memory: u32,
        /// Passes over it.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
}

/// A parsed hash. It cannot be printed.
pub struct Stored {
    form: Form,
}

enum Form {
    Plain(Vec<u8>),
    Digest {
        algorithm: &'static digest::Algorithm,
        hash: Vec<u8>,
        salt: Vec<u8>,
    },
    ShaCrypt {
        wide: bool,
        rounds: u32,
        text: String,
    },
    Bcrypt {
        cost: u32,
        salt: [u8; 16],
        text: String,
    },
    Argon2 {
        algorithm: argon2::Algorithm,
        version: argon2::Version,
        params: argon2::Params,
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stored({:?})", self.price())
    }
}

impl Stored {
    /// Reads `{SCHEME}text`; without braces, `CRYPT` is meant, as in every passwd-file.
    pub fn parse(text: &str) -> Result<Stored, PasswordError> {
        if text.is_empty() {
            return Err(PasswordError::Empty);
        }
        if text.len() > STORED_OCTETS_MAX {
            return Err(PasswordError::TooLong);
        }
        let (scheme, data) = match text.strip_prefix('{') {
            Some(rest) => rest.split_once('}').ok_or(PasswordError::Malformed)?,
            None => ("CRYPT", text),
        };
        let scheme = scheme.to_ascii_uppercase();
        let (scheme, encoding) = match scheme.split_once('.') {
            None => (scheme.as_str(), Encoding::Usual),
            Some((scheme, "B64" | "BASE64")) => (scheme, Encoding::Base64),
            Some((scheme, "HEX")) => (scheme, Encoding::Hex),
            Some(_) => return Err(PasswordError::UnknownScheme),
        };
        let form = match scheme {
            "PLAIN" | "CLEAR" | "CLEARTEXT" => match encoding {
                Encoding::Usual => Form::Plain(data.as_bytes().to_vec()),
                other => Form::Plain(other.decode(data)?),
            },
            "SHA" | "SHA1" => plain_digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, data, encoding)?,
            "SHA256" => plain_digest(&digest::SHA256, data, encoding)?,
            "SHA512" => plain_digest(&digest::SHA512, data, encoding)?,
            "SSHA" => salted_digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, data, encoding)?,
            "SSHA256" => salted_digest(&digest::SHA256, data, encoding)?,
            "SSHA512" => salted_digest(&digest::SHA512, data, encoding)?,
            _ => crypt(scheme, encoding.text(data)?.as_str())?,
        };
        Ok(Stored { form })
    }

    /// What checking it costs.
    pub fn price(&self) -> Price {
        match &self.form {
            Form::Plain(_) | Form::Digest { .. } => Price::Digest,
            Form::ShaCrypt { wide, rounds, .. } => Price::ShaCrypt { wide: *wide, rounds: *rounds },
            Form::Bcrypt { cost, .. } => Price::Bcrypt { cost: *cost },
            Form::Argon2 { params, .. } => {
                Price::Argon2 { memory: params.m_cost(), passes: params.t_cost(), lanes: params.p_cost() }
            }
        }
    }

    /// Whether the password itself is what is stored.
    pub fn is_clear(&self) -> bool {
        matches!(self.form, Form::Plain(_))
    }

    /// A hash that no password fits, and whose check takes as long as any of its price: for logins that do not exist,
    /// so that time tells nobody whether they do (R72).
    pub fn decoy(price: Price) -> Stored {
        let form = match price {
            Price::Digest => Form::Digest { algorithm: &digest::SHA512, hash: vec![0; 64], salt: vec![0; 8] },
            Price::ShaCrypt { wide, rounds } => {
                let (id, hash) = if wide { ("6", ".".repeat(86)) } else { ("5", ".".repeat(43)) };
                Form::ShaCrypt { wide, rounds, text: format!("${id}$rounds={rounds}$................${hash}") }
            }
            Price::Bcrypt { cost } => Form::Bcrypt { cost, salt: [0; 16], text: String::new() },
            Price::Argon2 { memory, passes, lanes } => match argon2::Params::new(memory, passes, lanes, None) {
                Ok(params) => Form::Argon2 {
                    algorithm: argon2::Algorithm::Argon2id,
                    version: argon2::Version::V0x13,
                    params,
                    salt: vec![0; 16],
                    hash: vec![0; 32],
                },
                Err(_) => return Stored::decoy(Price::Digest),
            },
        };
        Stored { form }
    }

    /// Whether the password fits. Compares in constant time; takes as long as [`price`](Stored::price) says.
    pub fn verify(&self, password: &Secret) -> bool {
        let octets = password.expose().as_bytes();
        // bcrypt repeats its key, NUL included, so "a" and "a\0a" would be one password: what holds a NUL never fits.
        let possible = octets.len() <= PASSWORD_OCTETS_MAX && !octets.contains(&0);
        let octets = octets.get(..PASSWORD_OCTETS_MAX).unwrap_or(octets);
        let fits = match &self.form {
            Form::Plain(stored) => {
                let of = |octets: &[u8]| digest::digest(&digest::SHA256, octets);
                verify_slices_are_equal(of(stored).as_ref(), of(octets).as_ref()).is_ok()
            }
            Form::Digest { algorithm, hash, salt } => {
                let mut context = digest::Context::new(algorithm);
                context.update(octets);
                context.update(salt);
                verify_slices_are_equal(context.finish().as_ref(), hash).is_ok()
            }
            Form::ShaCrypt { wide, text, .. } => {
                let hasher = if *wide { ShaCrypt::SHA512 } else { ShaCrypt::SHA256 };
                hasher.verify_password(octets, text.as_str()).is_ok()
            }
            Form::Bcrypt { cost, salt, text } => {
                let octets = octets.get(..BCRYPT_OCTETS_MAX).unwrap_or(octets);
                bcrypt::hash_with_salt(octets, *cost, *salt).is_ok_and(|made| {
                    let made = made.format_for_version(bcrypt::Version::TwoB);
                    verify_slices_are_equal(made.as_bytes(), text.as_bytes()).is_ok()
                })
            }
            Form::Argon2 { algorithm, version, params, salt, hash } => {
                let mut made = vec![0; hash.len()];
                Argon2::new(*algorithm, *version, params.clone())
                    .hash_password_into(octets, salt, &mut made)
                    .is_ok_and(|()| verify_slices_are_equal(&made, hash).is_ok())
            }
        };
        fits && possible
    }
}

/// How the octets of a digest are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Usual,
    Base64,
    Hex,
}

impl Encoding {
    fn decode(self, data: &str) -> Result<Vec<u8>, PasswordError> {
        match self {
            Encoding::Usual | Encoding::Base64 => BASE64.decode(data).map_err(|_| PasswordError::Malformed),
            Encoding::Hex => hexadecimal(data).ok_or(PasswordError::Malformed),
        }
    }

    fn text(self, data: &str) -> Result<String, PasswordError> {
        match self {
            Encoding::Usual => Ok(data.to_owned()),
            other => String::from_utf8(other.decode(data)?).map_err(|_| PasswordError::Malformed),
        }
    }
}

fn hexadecimal(data: &str) -> Option<Vec<u8>> {
    if !data.len().is_multiple_of(2) {
        return None;
    }
    let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    data.as_bytes().chunks(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.last()?)?)).collect()
}

fn plain_digest(algorithm: &'static digest::Algorithm, data: &str, encoding: Encoding) -> Result<Form, PasswordError> {
    let octets = algorithm.output_len();
    // An unmarked digest of twice the length is hexadecimal; base64 of the same digest is always shorter.
    let encoding = if encoding == Encoding::Usual && data.len() == 2 * octets { Encoding::Hex } else { encoding };
    let hash = encoding.decode(data)?;
    if hash.len() != octets {
        return Err(PasswordError::Malformed);
    }
    Ok(Form::Digest { algorithm, hash, salt: Vec::new() })
}

fn salted_digest(algorithm: &'static digest::Algorithm, data: &str, encoding: Encoding) -> Result<Form, PasswordError> {
    let mut hash = encoding.decode(data)?;
    if hash.len() <= algorithm.output_len() || hash.len() > algorithm.output_len() + DIGEST_SALT_OCTETS_MAX {
        return Err(PasswordError::Malformed);
    }
    let salt = hash.split_off(algorithm.output_len());
    Ok(Form::Digest { algorithm, hash, salt })
}

/// The schemes of crypt(3), told apart by their prefix, which must fit the scheme's name.
fn crypt(scheme: &str, text: &str) -> Result<Form, PasswordError> {
    let id = text.strip_prefix('$').and_then(|rest| rest.split('$').next()).unwrap_or("");
    match (scheme, id) {
        ("CRYPT" | "BLF-CRYPT", "2a" | "2b" | "2y") => bcrypt_form(text),
        ("CRYPT" | "SHA256-CRYPT", "5") => sha_crypt_form(false, text),
        ("CRYPT" | "SHA512-CRYPT", "6") => sha_crypt_form(true, text),
        ("ARGON2ID", "argon2id") => argon2_form(argon2::Algorithm::Argon2id, text),
        ("ARGON2I", "argon2i") => argon2_form(argon2::Algorithm::Argon2i, text),
        ("BLF-CRYPT" | "SHA256-CRYPT" | "SHA512-CRYPT" | "ARGON2ID" | "ARGON2I", _) => Err(PasswordError::Malformed),
        _ => Err(PasswordError::UnknownScheme),
    }
}

fn bcrypt_form(text: &str) -> Result<Form, PasswordError> {
    let parts: bcrypt::HashParts = text.parse().map_err(|_| PasswordError::Malformed)?;
    let cost = parts.get_cost();
    if !(BCRYPT_COST.least..=BCRYPT_COST.most).contains(&cost) {
        return Err(PasswordError::TooCostly);
    }
    let salt = parts.get_salt_raw();
    Ok(Form::Bcrypt { cost, salt, text: parts.format_for_version(bcrypt::Version::TwoB) })
}

fn sha_crypt_form(wide: bool, text: &str) -> Result<Form, PasswordError> {
    let mut fields = text.split('$').skip(2);
    let mut salt = fields.next().ok_or(PasswordError::Malformed)?;
    let mut rounds = SHA_CRYPT_ROUNDS.default;
    if let Some(number) = salt.strip_prefix("rounds=") {
        rounds = decimal(number)?;
        salt = fields.next().ok_or(PasswordError::Malformed)?;
    }
    if rounds > SHA_CRYPT_ROUNDS.most {
        return Err(PasswordError::TooCostly);
    }
    let hash = fields.next().ok_or(PasswordError::Malformed)?;
    let fits = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'/');
    let well_formed = fields.next().is_none()
        && rounds >= SHA_CRYPT_ROUNDS.least
        && (1..=16).contains(&salt.len())
        && hash.len() == if wide { 86 } else { 43 }
        && salt.bytes().chain(hash.bytes()).all(fits);
    if well_formed { Ok(Form::ShaCrypt { wide, rounds, text: text.to_owned() }) } else { Err(PasswordError::Malformed) }
}

fn argon2_form(algorithm: argon2::Algorithm, text: &str) -> Result<Form, PasswordError> {
    let fields: Vec<&str> = text.split('$').skip(2).take(5).collect();
    let [version, costs, salt, hash] = fields.as_slice() else { return Err(PasswordError::Malformed) };
    let version = match *version {
        "v=19" => argon2::Version::V0x13,
        "v=16" => argon2::Version::V0x10,
        _ => return Err(PasswordError::Malformed),
    };
    let costs: Vec<&str> = costs.split(',').take(4).collect();
    let [memory, passes, lanes] = costs.as_slice() else { return Err(PasswordError::Malformed) };
    let cost = |text: &str, name: &str| decimal(text.strip_prefix(name).ok_or(PasswordError::Malformed)?);
    let (memory, passes, lanes) = (cost(memory, "m=")?, cost(passes, "t=")?, cost(lanes, "p=")?);
    // A line of the table must not be able to take all memory or all time of the machine.
    if memory > ARGON2_MEMORY_KIBIBYTES_MAX
        || passes > ARGON2_PASSES.most
        || lanes > ARGON2_LANES_MAX
        || u64::from(memory) * u64::from(passes) > ARGON2_WORK_KIBIBYTES_MAX
    {
        return Err(PasswordError::TooCostly);
    }
    let decode = |text: &str| STANDARD_NO_PAD.decode(text).map_err(|_| PasswordError::Malformed);
    let (salt, hash) = (decode(salt)?, decode(hash)?);
    if !ARGON2_SALT_OCTETS.contains(&salt.len()) || !ARGON2_HASH_OCTETS.contains(&hash.len()) {
        return Err(PasswordError::Malformed);
    }
    let params = argon2::Params::new(memory, passes, lanes, None).map_err(|_| PasswordError::Malformed)?;
    Ok(Form::Argon2 { algorithm, version, params, salt, hash })
}

fn decimal(text: &str) -> Result<u32, PasswordError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(PasswordError::Malformed);
    }
    // A number that does not fit is beyond every bound.
    text.parse().map_err(|_| PasswordError::TooCostly)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(stored: &str, password: &str) -> bool {
        Stored::parse(stored).unwrap().verify(&Secret::new(password.to_owned()))
    }

    #[test]
    fn r30_r33_hashes_of_other_programs_are_verified() {
        for stored in [
            "{BLF-CRYPT}$2a$08$6U9XVhAdBjylRGg96P9i.esHQYhrGHHv.OpCpqqAPYtAYFOePAe9O",
            "{BLF-CRYPT}$2y$05$hO4tTfea8rAcDhjm8Z.7..6rsfM0AQaxEtvL9KRKiK9v.yKv3/ZYu",
            "{BLF-CRYPT}$2b$05$hO4tTfea8rAcDhjm8Z.7..6rsfM0AQaxEtvL9KRKiK9v.yKv3/ZYu",
            "{CRYPT}$2y$05$J3m7t9boSH1VstjTdFMaKe3V.f8al4hY7QS9/UjE8Nqzk9gSGKpdS",
            "$2y$05$J3m7t9boSH1VstjTdFMaKe3V.f8al4hY7QS9/UjE8Nqzk9gSGKpdS",
            "{SHA512-CRYPT}$6$tyz47tylXczrWr1C$vFW6lzFlUb5nHF9U1nS6VPHJFrcQjSkIFloum4nmhnUA/SEbgHR00QlIqQvrh2SffXdunr/1Mjeo5UF5sNCW10",
            "{SHA256-CRYPT}$5$1WrY8Pvn81yiMpuR$xYNVyxWPsNeeadEaB/Vhty1eHDkMg2EtXDGATX3wUJ.",
            "{SSHA}N5c2G5JFwROKw88D/Mt5qCwKPHOWHAzW",
            "{SSHA256}4OEUWWFir2V8iY2cgJ6HMc0rKqrpBtouFQW5nJcsMYgyyosC",
            "{SSHA512}rIgt65Jr3lfov8EppSWEwUXQ/zmt/T8+fk5pp4VYnCohVOjTqSlWCA+wyLGKTtfr2Q5pL4dlvmRpa6kkQa0Xiba3CtM=",
            "{SHA}ojN+jsbELZbRJeRb0qj9+MMjPUs=",
            "{SHA256}HZLa5QSnD7yubTchpV1+rK+U0xM+pfA5S30gPWSEERA=",
            "{sha256}1d92dae504a70fbcae6d3721a55d7eacaf94d3133ea5f0394b7d203d64841110",
            "{SHA256.HEX}1d92dae504a70fbcae6d3721a55d7eacaf94d3133ea5f0394b7d203d64841110",
            "{SSHA.HEX}9385de6b7355e2248397af66c1b221db6d2169ca444f499a",
            "{SHA512}D4XrQvVdrBKzqAojCHmNqmW6WnKmJbZ7hKHejdY0As79qz6yg6g2uPo5CrI1M3+glbPJ4ZBv7aCmjvMBTnDRmA==",
            "{PLAIN}insecure",
            "{CLEARTEXT}insecure",
            "{PLAIN.B64}aW5zZWN1cmU=",
            "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$pArS2dcSVBv3iJmgvc8VtA$2MDrjY8aspDzLGDzAZrTNb8H84mZ5xoCtXpOkjNigMk",
            "{ARGON2I}$argon2i$v=19$m=32768,t=4,p=1$eU2EBCISsRx+B6S36Cj5VA$nq0fzqUlVf/p1abKqdgQQYvxbmAriNpzjpkwfYTVf38",
        ] {
            assert!(fits(stored, "insecure"), "{stored}");
            assert!(!fits(stored, "insecurf"), "{stored}");
        }
    }

    #[test]
    fn hostile_hashes_are_refused_when_read() {
        let hash32 = "2MDrjY8aspDzLGDzAZrTNb8H84mZ5xoCtXpOkjNigMk";
        for (text, error) in [
            (String::new(), PasswordError::Empty),
            ("{BLF-CRYPT".into(), PasswordError::Malformed),
            ("{BLF-CRYPT}".into(), PasswordError::Malformed),
            (
                "{BLF-CRYPT}$2x$05$hO4tTfea8rAcDhjm8Z.7..6rsfM0AQaxEtvL9KRKiK9v.yKv3/ZYu".into(),
                PasswordError::Malformed,
            ),
            ("{BLF-CRYPT}$2y$05$hO4tTfea8rAcDhjm8Z.7..6rsfM0AQaxEtvL9KRKiK9v.yKv3/ZY".into(), PasswordError::Malformed),
            ("{BLF-CRYPT}$2y$05$ü4tTfea8rAcDhjm8Z.7..6rsfM0AQaxEtvL9KRKiK9v.yKv3/ZYu".into(), PasswordError::Malformed),
            (
                "{BLF-CRYPT}$2y$99$hO4tTfea8rAcDhjm8Z.7..6rsfM0AQaxEtvL9KRKiK9v.yKv3/ZYu".into(),
                PasswordError::TooCostly,
            ),
            ("{BLF-CRYPT}$6$a$b".into(), PasswordError::Malformed),
            (format!("{{SHA512-CRYPT}}$6$rounds=999999999$a${}", ".".repeat(86)), PasswordError::TooCostly),
            (format!("{{SHA512-CRYPT}}$6$rounds=99999999999999$a${}", ".".repeat(86)), PasswordError::TooCostly),
            (format!("{{SHA512-CRYPT}}$6$rounds=10$a${}", ".".repeat(86)), PasswordError::Malformed),
            (format!("{{SHA512-CRYPT}}$6$a${}", ".".repeat(85)), PasswordError::Malformed),
            (format!("{{SHA512-CRYPT}}$6$a${}$", ".".repeat(86)), PasswordError::Malformed),
            (format!("{{ARGON2ID}}$argon2id$v=19$m=4194304,t=1,p=1$AAAAAAAAAAA${hash32}"), PasswordError::TooCostly),
            (format!("{{ARGON2ID}}$argon2id$v=19$m=65536,t=4000,p=1$AAAAAAAAAAA${hash32}"), PasswordError::TooCostly),
            (format!("{{ARGON2ID}}$argon2id$v=19$m=262144,t=16,p=1$AAAAAAAAAAA${hash32}"), PasswordError::TooCostly),
            (format!("{{ARGON2ID}}$argon2id$v=19$m=8,t=1,p=9$AAAAAAAAAAA${hash32}"), PasswordError::Malformed),
            (format!("{{ARGON2ID}}$argon2id$v=19$m=+8,t=1,p=1$AAAAAAAAAAA${hash32}"), PasswordError::Malformed),
            (format!("{{ARGON2ID}}$argon2id$v=19$m=64,t=1,p=1$AA${hash32}"), PasswordError::Malformed),
            ("{ARGON2ID}$argon2id$v=19$m=64,t=1,p=1$AAAAAAAAAAA$".into(), PasswordError::Malformed),
            ("{SSHA}".into(), PasswordError::Malformed),
            ("{SSHA}ojN+jsbELZbRJeRb0qj9+MMjPUs=".into(), PasswordError::Malformed),
            ("{SHA.hex}zz".into(), PasswordError::Malformed),
            ("{SHA.rot13}zz".into(), PasswordError::UnknownScheme),
            ("{MD5-CRYPT}$1$a$b".into(), PasswordError::UnknownScheme),
            ("{CRYPT}ab1bFaO3gk".into(), PasswordError::UnknownScheme),
            ("secret".into(), PasswordError::UnknownScheme),
            ("x".repeat(5_000), PasswordError::TooLong),
        ] {
            assert_eq!(Stored::parse(&text).map(|_| ()), Err(error), "{text}");
        }
    }

    #[test]
    fn what_a_scheme_would_cut_never_fits() {
        let stored = super::super::hash(super::super::Scheme::BlfCrypt, &Secret::new("a".into()), Some(4)).unwrap();
        assert!(fits(&stored, "a"));
        for password in ["a\0a", "a\0", "", &"a".repeat(2_000)] {
            assert!(!fits(&stored, password), "{password:?}");
        }
        // Hashes made elsewhere from longer passwords: what bcrypt read of them decides.
        let long = super::super::hash(super::super::Scheme::BlfCrypt, &Secret::new("b".repeat(72)), Some(4)).unwrap();
        assert!(fits(&long, &"b".repeat(80)));
        assert!(!fits(&long, &"b".repeat(71)));
    }

    #[test]
    fn r72_decoys_cost_the_same_and_fit_nothing() {
        for price in [
            Price::Digest,
            Price::ShaCrypt { wide: true, rounds: 1_000 },
            Price::ShaCrypt { wide: false, rounds: 1_000 },
            Price::Bcrypt { cost: 4 },
            Price::Argon2 { memory: 64, passes: 1, lanes: 1 },
        ] {
            let decoy = Stored::decoy(price);
            assert_eq!(decoy.price(), price);
            assert!(!decoy.verify(&Secret::new("insecure".into())));
        }
        // The decoy must be a hash that the check really computes, not one that it refuses at once.
        let Form::ShaCrypt { text, .. } = Stored::decoy(Price::ShaCrypt { wide: true, rounds: 1_000 }).form else {
            panic!("not SHA-crypt");
        };
        assert!(sha_crypt_form(true, &text).is_ok());
    }

    #[test]
    fn a_hash_is_not_printed() {
        assert_eq!(format!("{:?}", Stored::parse("{PLAIN}hunter2").unwrap()), "Stored(Digest)");
    }
}
