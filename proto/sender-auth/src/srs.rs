//! Rewriting of reverse-paths when mail is passed on (SRS, the Sender Rewriting Scheme).
//!
//! Who passes mail on with its reverse-path as it was is refused where the path's domain lists its hosts (SPF). So the
//! path becomes one of ours that holds the old one, and a report sent to it is passed back. There is no RFC; the forms are
//! those of Meng Wong's and Shevek's paper of 2004, which others recognise:
//!
//! - `SRS0=HASH=TT=domain=local@ours` for a path that nobody rewrote before us,
//! - `SRS1=HASH=first==HHH=TT=domain=local@ours` for one that `first` rewrote already: reports go back to `first`,
//!   however many hosts passed the message on in between.
//!
//! The hash keeps strangers from sending through us to whomever they like; the day `TT` lets an address end. No state is
//! kept, so a new path must hold the old one in [`LOCAL_PART_OCTETS_MAX`] octets. Where it cannot, it becomes
//! `SRS0=HASH=TT=KEY@ours`: a report to it is known to be genuine, but not whither it should go. `KEY` is the same for
//! the same old path, so that a log, or a caller who keeps a table, can tell.

use aws_lc_rs::{constant_time, hmac};
use mail::address::LOCAL_PART_OCTETS_MAX;
use mail::{Address, Domain, LocalPart, Secret};
use std::fmt;

/// Days that a rewritten path takes reports, the day of its making not counted. Longer than any usual queue keeps mail.
pub const VALID_DAYS: u32 = 21;
/// Least octets of a secret.
pub const SECRET_OCTETS_MIN: usize = 16;
/// Most secrets that are accepted at a time.
pub const SECRETS_MAX: usize = 8;
/// Characters of a hash: 30 bits, and a guess costs a whole transaction.
const HASH_CHARACTERS: usize = 6;
/// Characters that stand for a path which is too long: 80 bits.
const KEY_CHARACTERS: usize = 16;
/// Two characters of base32 count so many days before they begin anew.
const DAYS_MODULUS: u32 = 1 << 10;
/// RFC 4648 §6.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A day, counted from 1970-01-01 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub u32);

impl Day {
    /// The day of a moment in seconds since 1970.
    pub fn of(unix_seconds: u64) -> Day {
        Day(u32::try_from(unix_seconds / 86_400).unwrap_or(u32::MAX))
    }
}

/// Why there is no old path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SrsError {
    /// The address is none that this rewriter makes: another domain, or another form.
    NotRewritten,
    /// It has the form, but not our hash: forged, or cut on its way.
    Forged,
    /// It is genuine and older than [`VALID_DAYS`].
    Expired,
    /// It is genuine, but the old path was too long to be held; this is its key.
    Shortened(String),
}

impl fmt::Display for SrsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SrsError::NotRewritten => f.write_str("not a rewritten reverse-path of ours"),
            SrsError::Forged => f.write_str("the hash in the rewritten reverse-path is not ours"),
            SrsError::Expired => write!(f, "the rewritten reverse-path is older than {VALID_DAYS} days"),
            SrsError::Shortened(key) => write!(f, "the reverse-path with key {key} was too long to be kept"),
        }
    }
}

impl std::error::Error for SrsError {}

/// Why there is no rewriter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SrsSetupError {
    /// No secret, or more than [`SECRETS_MAX`].
    Secrets,
    /// A secret has less than [`SECRET_OCTETS_MIN`] octets.
    WeakSecret,
    /// The domain is an address literal.
    Domain,
}

impl fmt::Display for SrsSetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SrsSetupError::Secrets => write!(f, "one to {SECRETS_MAX} secrets are needed"),
            SrsSetupError::WeakSecret => write!(f, "a secret has less than {SECRET_OCTETS_MIN} octets"),
            SrsSetupError::Domain => f.write_str("reverse-paths are rewritten to a domain, not to an address literal"),
        }
    }
}

impl std::error::Error for SrsSetupError {}

/// Rewrites reverse-paths to one domain, and back.
pub struct Srs {
    domain: Domain,
    /// The first makes hashes; all are accepted, so that a secret can be replaced while its addresses are about.
    secrets: Vec<hmac::Key>,
}

impl fmt::Debug for Srs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Srs").field("domain", &self.domain).finish_non_exhaustive()
    }
}

impl Srs {
    /// A rewriter to a domain whose mail comes to us. New addresses are made with the first secret.
    pub fn new(domain: Domain, secrets: &[Secret]) -> Result<Srs, SrsSetupError> {
        if domain.is_literal() {
            return Err(SrsSetupError::Domain);
        }
        if secrets.is_empty() || secrets.len() > SECRETS_MAX {
            return Err(SrsSetupError::Secrets);
        }
        if secrets.iter().any(|secret| secret.expose().len() < SECRET_OCTETS_MIN) {
            return Err(SrsSetupError::WeakSecret);
        }
        let key = |secret: &Secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        Ok(Srs { domain, secrets: secrets.iter().map(key).collect() })
    }

    /// The reverse-path under which mail from `address` is passed on; `address` itself if it is of our domain.
    pub fn forward(&self, address: &Address, today: Day) -> Address {
        if address.domain == self.domain {
            return address.clone();
        }
        let Some(signer) = self.secrets.first() else { return address.clone() };
        let rewritten = match Rewritten::parse(address.local.as_str()) {
            // Another host rewrote it first: reports go back there, past everyone between.
            Some(Rewritten::First { rest, .. }) => again(signer, address.domain.as_str(), rest),
            Some(Rewritten::Again { first, rest, .. }) => again(signer, first, rest),
            None => {
                let held = format!("{}={}={}", stamp(today), address.domain, address.local.as_str());
                format!("SRS0={}={held}", hash(signer, "SRS0", &held))
            }
        };
        self.address_of(&rewritten).unwrap_or_else(|| self.shortened(signer, address, today))
    }

    /// The reverse-path that a recipient of a report stands for.
    pub fn reverse(&self, address: &Address, today: Day) -> Result<Address, SrsError> {
        if address.domain != self.domain {
            return Err(SrsError::NotRewritten);
        }
        match Rewritten::parse(address.local.as_str()).ok_or(SrsError::NotRewritten)? {
            Rewritten::First { hash, held, .. } => {
                self.verify(hash, "SRS0", held)?;
                let (day, held) = held.split_once('=').ok_or(SrsError::Forged)?;
                if !is_valid(day, today).ok_or(SrsError::Forged)? {
                    return Err(SrsError::Expired);
                }
                match held.split_once('=') {
                    Some((domain, local)) => old_path(domain, local),
                    None => Err(SrsError::Shortened(held.to_ascii_uppercase())),
                }
            }
            // The first host wrote the day, and judges it.
            Rewritten::Again { hash, first, rest } => {
                self.verify(hash, "SRS1", &format!("{first}={rest}"))?;
                old_path(first, &format!("SRS0{rest}"))
            }
        }
    }

    /// Whether an address has the form of what this rewriter makes, so that [`reverse`](Srs::reverse) decides on it.
    pub fn claims(&self, address: &Address) -> bool {
        address.domain == self.domain && Rewritten::parse(address.local.as_str()).is_some()
    }

    fn shortened(&self, signer: &hmac::Key, address: &Address, today: Day) -> Address {
        let key = base32(hmac::sign(signer, format!("KEY={address}").as_bytes()).as_ref(), KEY_CHARACTERS);
        let held = format!("{}={key}", stamp(today));
        let local = format!("SRS0={}={held}", hash(signer, "SRS0", &held));
        self.address_of(&local).unwrap_or_else(|| address.clone())
    }

    /// `None` when the local part is too long, quotes included where it takes them.
    fn address_of(&self, local: &str) -> Option<Address> {
        let local = local_part(local)?;
        (local.to_string().len() <= LOCAL_PART_OCTETS_MAX).then(|| Address { local, domain: self.domain.clone() })
    }

    fn verify(&self, given: &str, form: &str, held: &str) -> Result<(), SrsError> {
        let given = given.to_ascii_uppercase();
        let fits = |secret: &hmac::Key| {
            let ours = hash(secret, form, held);
            constant_time::verify_slices_are_equal(ours.as_bytes(), given.as_bytes()).is_ok()
        };
        if self.secrets.iter().any(fits) { Ok(()) } else { Err(SrsError::Forged) }
    }
}

/// What a rewritten local part says. The separator behind the form may be `=`, `+` or `-`, as others write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rewritten<'a> {
    /// `SRS0=hash=held`; `rest` is all behind `SRS0`.
    First { hash: &'a str, held: &'a str, rest: &'a str },
    /// `SRS1=hash=first=rest`; `rest` begins with the separator that stood behind `SRS0`.
    Again { hash: &'a str, first: &'a str, rest: &'a str },
}

impl Rewritten<'_> {
    fn parse(local: &str) -> Option<Rewritten<'_>> {
        let (form, rest) = local.split_at_checked("SRS0".len())?;
        let (hash, held) = rest.strip_prefix(is_separator)?.split_once('=')?;
        if form.eq_ignore_ascii_case("SRS0") {
            // A day follows in every dialect, or else this is somebody's name.
            return held.contains('=').then_some(Rewritten::First { hash, held, rest });
        }
        let (first, rest) = held.split_once('=')?;
        let is_again = form.eq_ignore_ascii_case("SRS1") && rest.starts_with(is_separator) && !first.is_empty();
        is_again.then_some(Rewritten::Again { hash, first, rest })
    }
}

fn is_separator(c: char) -> bool {
    matches!(c, '=' | '+' | '-')
}

fn again(signer: &hmac::Key, first: &str, rest: &str) -> String {
    let held = format!("{first}={rest}");
    format!("SRS1={}={held}", hash(signer, "SRS1", &held))
}

/// What only we could know of these words. Hosts on the way may change the case of a local part, so it does not count.
fn hash(secret: &hmac::Key, form: &str, held: &str) -> String {
    let text = format!("{form}={}", held.to_ascii_lowercase());
    base32(hmac::sign(secret, text.as_bytes()).as_ref(), HASH_CHARACTERS)
}

/// The first characters of the base32 form of these octets.
fn base32(octets: &[u8], characters: usize) -> String {
    let bit = |at: usize| octets.get(at / 8).map_or(0, |octet| usize::from(octet >> (7 - at % 8) & 1));
    let character = |index: usize| {
        let value = (0..5).fold(0, |value, at| value << 1 | bit(index * 5 + at));
        char::from(BASE32.get(value).copied().unwrap_or(b'A'))
    };
    (0..characters).map(character).collect()
}

/// The day as two characters.
fn stamp(day: Day) -> String {
    let days = day.0 % DAYS_MODULUS;
    [days >> 5, days & 31]
        .iter()
        .map(|value| char::from(BASE32.get(*value as usize).copied().unwrap_or(b'A')))
        .collect()
}

/// Whether a day is near enough; `None` if it is no day. One that is still to come is accepted, since the clocks of two
/// hosts may disagree about midnight.
fn is_valid(stamp: &str, today: Day) -> Option<bool> {
    let value = |octet: u8| BASE32.iter().position(|known| *known == octet.to_ascii_uppercase());
    let [high, low] = stamp.as_bytes() else { return None };
    let day = u32::try_from(value(*high)? << 5 | value(*low)?).ok()?;
    let age = (today.0 % DAYS_MODULUS + DAYS_MODULUS - day) % DAYS_MODULUS;
    Some(age <= VALID_DAYS || age == DAYS_MODULUS - 1)
}

fn old_path(domain: &str, local: &str) -> Result<Address, SrsError> {
    let domain = Domain::parse(domain).map_err(|_| SrsError::Forged)?;
    Ok(Address { local: local_part(local).ok_or(SrsError::Forged)?, domain })
}

/// A local part from its text without quotes.
fn local_part(text: &str) -> Option<LocalPart> {
    LocalPart::parse(text).ok().filter(|local| local.as_str() == text).or_else(|| {
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
        LocalPart::parse(&format!("\"{escaped}\"")).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: Day = Day(20_641);

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    fn srs_of(domain: &str, secrets: &[&str]) -> Srs {
        let secrets: Vec<Secret> = secrets.iter().map(|text| secret(text)).collect();
        Srs::new(Domain::parse(domain).unwrap(), &secrets).unwrap()
    }

    fn srs() -> Srs {
        srs_of("forward.example", &["the first secret of all"])
    }

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    /// SplitMix64; a seed repeats its numbers.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed ^ (mixed >> 31)) % limit as u64) as usize
        }

        fn text(&mut self, alphabet: &str, length: usize) -> String {
            let letters: Vec<char> = alphabet.chars().collect();
            (0..length).map(|_| letters[self.below(letters.len())]).collect()
        }

        /// An address with whatever a local part may hold.
        fn address(&mut self) -> Address {
            let length = 1 + self.below(40);
            let local = self.text("abcXYZ019.=+-_@ \"\\<>(),;:$%|'`/é", length);
            let length = 1 + self.below(20);
            let domain = format!("{}.example", self.text("abc019", length));
            Address { local: local_part(&local).unwrap(), domain: Domain::parse(&domain).unwrap() }
        }
    }

    #[test]
    fn v12_a_path_goes_there_and_back() {
        let srs = srs();
        let there = srs.forward(&address("brian@example.net"), TODAY);
        assert_eq!(there.to_string(), "SRS0=GELTHR=FB=example.net=brian@forward.example");
        assert_eq!(srs.reverse(&there, TODAY), Ok(address("brian@example.net")));
        assert!(srs.claims(&there) && !srs.claims(&address("brian@forward.example")));
        assert!(!srs.claims(&address("SRS0=x=y=z=w@other.example")));
    }

    #[test]
    fn what_goes_there_comes_back() {
        let srs = srs();
        let mut random = Random(7);
        let mut held = 0;
        for _ in 0..20_000 {
            let from = random.address();
            let day = Day(random.below(40_000) as u32);
            let there = srs.forward(&from, day);
            assert_eq!(there.domain.as_str(), "forward.example");
            assert!(there.local.to_string().len() <= LOCAL_PART_OCTETS_MAX);
            // What is printed into MAIL is what comes back in RCPT.
            assert_eq!(Address::parse(&there.to_string()), Ok(there.clone()));
            let later = Day(day.0 + random.below(VALID_DAYS as usize + 1) as u32);
            match srs.reverse(&there, later) {
                Ok(back) => {
                    assert_eq!(back, from);
                    held += 1;
                }
                Err(SrsError::Shortened(key)) => assert!(key.len() == KEY_CHARACTERS, "{there}"),
                Err(error) => panic!("{from} -> {there}: {error}"),
            }
            let lower = address(&there.to_string().to_lowercase());
            if let Ok(back) = srs.reverse(&lower, later) {
                assert_eq!(back.to_string().to_lowercase(), from.to_string().to_lowercase());
            }
        }
        assert!(held > 5_000, "{held}");
    }

    #[test]
    fn a_chain_of_hosts_reports_to_the_first() {
        let hosts: Vec<Srs> =
            ["a.example", "b.example", "c.example"].iter().map(|name| srs_of(name, &["another secret here"])).collect();
        let from = address("x=y@o.example");
        let first = hosts[0].forward(&from, TODAY);
        let second = hosts[1].forward(&first, TODAY);
        let third = hosts[2].forward(&second, TODAY);
        assert!(second.to_string().starts_with("SRS1=") && second.to_string().contains("=a.example=="), "{second}");
        assert!(third.to_string().contains("=a.example==") && !third.to_string().contains("b.example"), "{third}");
        // The report passes the host between.
        assert_eq!(hosts[2].reverse(&third, TODAY), Ok(first.clone()));
        assert_eq!(hosts[1].reverse(&second, TODAY), Ok(first.clone()));
        assert_eq!(hosts[0].reverse(&first, TODAY), Ok(from));
        assert!(hosts[1].reverse(&third, TODAY).is_err());
        // A host that writes other separators gets back what it wrote.
        for foreign in ["SRS0+a1b2=FB=o.example=x@other.example", "srs0-A=B=C=D@other.example"] {
            let foreign = address(foreign);
            let there = hosts[0].forward(&foreign, TODAY);
            let back = hosts[0].reverse(&there, TODAY).unwrap();
            assert!(back.to_string().eq_ignore_ascii_case(&foreign.to_string()), "{back}");
            let again = hosts[1].forward(&there, TODAY);
            let back = hosts[1].reverse(&again, TODAY).unwrap();
            assert!(back.to_string().eq_ignore_ascii_case(&foreign.to_string()), "{back}");
        }
    }

    #[test]
    fn our_own_addresses_stay() {
        let srs = srs();
        for own in ["brian@forward.example", "SRS0=x=y=z=w@forward.example"] {
            assert_eq!(srs.forward(&address(own), TODAY), address(own));
        }
    }

    #[test]
    fn forged_addresses_are_refused() {
        let srs = srs();
        let there = srs.forward(&address("brian@example.net"), TODAY).to_string();
        let local = there.strip_suffix("@forward.example").unwrap();
        // Any character changed, or left out, or the end cut off.
        for at in 0..local.len() {
            for forged in [
                format!("{}7{}", &local[..at], &local[at + 1..]),
                format!("{}{}", &local[..at], &local[at + 1..]),
                local[..at].to_owned(),
            ] {
                let Some(forged_local) = local_part(&forged) else { continue };
                if forged.eq_ignore_ascii_case(local) {
                    continue;
                }
                let forged = Address { local: forged_local, domain: Domain::parse("forward.example").unwrap() };
                let outcome = srs.reverse(&forged, TODAY);
                assert!(matches!(outcome, Err(SrsError::Forged | SrsError::NotRewritten)), "{forged}: {outcome:?}");
            }
        }
        for forged in [
            "SRS0=AAAAAA=FB=example.net=brian",
            "SRS0==FB=example.net=brian",
            "SRS0====",
            "SRS0=GELTHR=FB=example.org=brian",
            "SRS0=GELTHR=FC=example.net=brian",
            "SRS1=AAAAAA=example.net==x=y=z=w",
        ] {
            let forged = address(&format!("{forged}@forward.example"));
            assert_eq!(srs.reverse(&forged, TODAY), Err(SrsError::Forged), "{forged}");
        }
        for other in
            ["SRS0", "SRS0=", "SRS0=a", "SRS0=a=b", "SRS1=a=b", "SRS1=====", "SRS2=a=b=c=d", "brian", "srs0brian=a=b"]
        {
            let other = address(&format!("{other}@forward.example"));
            assert_eq!(srs.reverse(&other, TODAY), Err(SrsError::NotRewritten), "{other}");
        }
        let moved = there.replace("forward.example", "other.example");
        assert_eq!(srs.reverse(&address(&moved), TODAY), Err(SrsError::NotRewritten));
        assert_eq!(
            srs_of("forward.example", &["quite another secret"]).reverse(&address(&there), TODAY),
            Err(SrsError::Forged)
        );
        // A hash of one form is none of the other.
        let again = srs.forward(&address("SRS0=a=b=c=d@first.example"), TODAY).to_string();
        assert_eq!(srs.reverse(&address(&again.replacen("SRS1", "SRS0", 1)), TODAY), Err(SrsError::Forged));
    }

    #[test]
    fn addresses_end() {
        let srs = srs();
        for day in [0, 1_000, 1_023, 1_024, 20_641, 65_535] {
            let there = srs.forward(&address("brian@example.net"), Day(day));
            for age in 0..1_022 {
                let outcome = srs.reverse(&there, Day(day + age));
                assert_eq!(outcome.is_ok(), age <= VALID_DAYS, "day {day}, age {age}: {outcome:?}");
            }
            assert_eq!(srs.reverse(&there, Day(day + 22)), Err(SrsError::Expired));
            // The clock of who asks may be behind.
            assert!(day == 0 || srs.reverse(&there, Day(day - 1)).is_ok());
            assert!(day == 0 || srs.reverse(&there, Day(day.wrapping_sub(2) % (1 << 20))).is_err());
        }
        assert_eq!(Day::of(1_000_000_000), Day(11_574));
        assert_eq!(Day::of(u64::MAX), Day(u32::MAX));
        assert!(srs.reverse(&srs.forward(&address("a@b.example"), Day(u32::MAX)), Day(u32::MAX)).is_ok());
    }

    #[test]
    fn secrets_are_replaced_one_at_a_time() {
        let old = srs_of("forward.example", &["the first secret of all"]);
        let both = srs_of("forward.example", &["the second, a new secret", "the first secret of all"]);
        let new = srs_of("forward.example", &["the second, a new secret"]);
        let from = address("brian@example.net");
        assert_eq!(both.reverse(&old.forward(&from, TODAY), TODAY), Ok(from.clone()));
        assert_eq!(new.reverse(&both.forward(&from, TODAY), TODAY), Ok(from.clone()));
        assert_eq!(new.reverse(&old.forward(&from, TODAY), TODAY), Err(SrsError::Forged));
    }

    #[test]
    fn too_long_a_path_is_known_again_but_not_held() {
        let srs = srs();
        let long = address(&format!("bounces+{}=example.net@em1234.lists.example.com", "a".repeat(40)));
        let there = srs.forward(&long, TODAY);
        let Err(SrsError::Shortened(key)) = srs.reverse(&there, TODAY) else { panic!("{there}") };
        let later = Day(TODAY.0 + 3);
        assert_eq!(srs.reverse(&srs.forward(&long, later), later), Err(SrsError::Shortened(key.clone())));
        assert_ne!(srs.forward(&address(&format!("b{long}")), TODAY), there);
        assert_eq!(srs.reverse(&there, Day(TODAY.0 + 22)), Err(SrsError::Expired));
        let forged = there.to_string().replace(&key, "AAAAAAAAAAAAAAAA");
        assert_eq!(srs.reverse(&address(&forged), TODAY), Err(SrsError::Forged));
        // 64 octets fit, 65 do not.
        let longest = LOCAL_PART_OCTETS_MAX - "SRS0=HHHHHH=TT=o.example=".len();
        for (length, fits) in [(longest, true), (longest + 1, false)] {
            let there = srs.forward(&address(&format!("{}@o.example", "a".repeat(length))), TODAY);
            assert_eq!(srs.reverse(&there, TODAY).is_ok(), fits, "{there}");
        }
        // Quotes take room as well.
        let quoted = address(&format!("\"{} \"@o.example", "a".repeat(longest - 1)));
        assert!(matches!(srs.reverse(&srs.forward(&quoted, TODAY), TODAY), Err(SrsError::Shortened(_))));
    }

    #[test]
    fn v14_hostile_local_parts_are_carried_as_they_are() {
        let srs = srs();
        for local in [
            "\"a b\"",
            "\"a@b\"",
            "\"\\\"x\\\\\"",
            "a=b==c",
            "'--",
            "\"$(id)\"",
            "|sh",
            "%s",
            "\"<>\"",
            "\"a,b;c\"",
            "грета",
        ] {
            let from = address(&format!("{local}@o.example"));
            let there = srs.forward(&from, TODAY);
            assert!(!there.to_string().contains(['\r', '\n', '\0']));
            assert_eq!(Address::parse(&there.to_string()), Ok(there.clone()));
            assert_eq!(srs.reverse(&there, TODAY), Ok(from), "{there}");
        }
        let literal = address("a@[192.0.2.1]");
        assert_eq!(srs.reverse(&srs.forward(&literal, TODAY), TODAY), Ok(literal));
    }

    #[test]
    fn a_rewriter_needs_a_domain_and_secrets() {
        let domain = || Domain::parse("forward.example").unwrap();
        assert_eq!(Srs::new(domain(), &[]).unwrap_err(), SrsSetupError::Secrets);
        assert_eq!(Srs::new(domain(), &[secret("short")]).unwrap_err(), SrsSetupError::WeakSecret);
        let many: Vec<Secret> = (0..=SECRETS_MAX).map(|_| secret("0123456789abcdef")).collect();
        assert_eq!(Srs::new(domain(), &many).unwrap_err(), SrsSetupError::Secrets);
        let literal = Domain::parse("[192.0.2.1]").unwrap();
        assert_eq!(Srs::new(literal, &many[..1]).unwrap_err(), SrsSetupError::Domain);
    }
}
