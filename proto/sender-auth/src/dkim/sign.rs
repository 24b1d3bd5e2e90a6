//! Making DKIM-Signature fields (RFC 6376 §5).
//!
//! The body was hashed while it passed; the header section is given at the end, as it will be sent: after everything that
//! changes it (R155). The same message, time and key give the same octets.

use super::canonical::{BodyDigest, BodyHash, Canonical, append_field};
use super::key::SigningKey;
use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mail::Address;
use message::header::{self, Field};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Longest header section that is signed, in octets.
pub const HEADER_OCTETS_MAX: usize = 1 << 20;
/// Most names of fields to be signed.
pub const NAMES_MAX: usize = 64;
/// Most fields of one name that are signed, the lowest ones, unless the name is oversigned. RFC 5322 §3.6 allows one of
/// most.
pub const INSTANCES_MAX: usize = 16;
/// Widest line of a signature, without its line end. Only a long domain or identity can make one wider.
const LINE_OCTETS_MAX: usize = 77;

/// Fields that are signed where they are there: those of RFC 6376 §5.4.1, the MIME fields that §5.4 advises, and those of
/// one-click unsubscription (RFC 8058 §4). From: is among them always.
pub const FIELDS: [&str; 25] = [
    "from",
    "sender",
    "reply-to",
    "subject",
    "date",
    "message-id",
    "to",
    "cc",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "in-reply-to",
    "references",
    "resent-date",
    "resent-from",
    "resent-to",
    "resent-cc",
    "list-id",
    "list-help",
    "list-unsubscribe",
    "list-unsubscribe-post",
    "list-subscribe",
    "list-post",
    "list-owner",
    "list-archive",
];

/// How messages are signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Form of the header fields.
    pub header: Canonical,
    /// Form of the body.
    pub body: Canonical,
    /// Which fields.
    pub fields: SignedFields,
    /// Seconds that a signature is valid, `x=`; `None`: for ever.
    pub lifetime_seconds: Option<u64>,
}

impl Default for Recipe {
    /// Relaxed in both, the fields of [`FIELDS`], From: oversigned, valid for ever.
    fn default() -> Recipe {
        let (header, body) = (Canonical::Relaxed, Canonical::Relaxed);
        Recipe { header, body, fields: SignedFields::default(), lifetime_seconds: None }
    }
}

/// Names of the fields to be signed, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedFields(Vec<(String, Oversign)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Oversign {
    /// Every field of this name that is there.
    No,
    /// One more than there are, so that none can be added (RFC 6376 §5.4).
    Yes,
}

/// Why a field cannot be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldsError {
    /// Not a field name.
    NoName(String),
    /// A field that is changed on the way by design, or must not be signed.
    Unsignable(String),
    /// More than [`NAMES_MAX`].
    TooMany,
}

impl fmt::Display for FieldsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FieldsError::NoName(name) => write!(f, "{name:?} is no field name"),
            FieldsError::Unsignable(name) => write!(f, "{name} changes on the way and cannot be signed"),
            FieldsError::TooMany => write!(f, "more than {NAMES_MAX} names of fields to sign"),
        }
    }
}

impl std::error::Error for FieldsError {}

impl Default for SignedFields {
    fn default() -> SignedFields {
        let oversign = |name| if name == "from" { Oversign::Yes } else { Oversign::No };
        SignedFields(FIELDS.iter().map(|name| ((*name).to_owned(), oversign(*name))).collect())
    }
}

impl SignedFields {
    /// Fields to be signed, in any case, and those of them (or others) to be oversigned: signed once more than they are
    /// there, so that nobody can add one. From: is signed and oversigned whatever is asked for.
    pub fn new(names: &[&str], oversigned: &[&str]) -> Result<SignedFields, FieldsError> {
        let mut fields: Vec<(String, Oversign)> = vec![("from".to_owned(), Oversign::Yes)];
        let oversigned = oversigned.iter().map(|name| (name, Oversign::Yes));
        for (name, oversign) in names.iter().map(|name| (name, Oversign::No)).chain(oversigned) {
            let name = name.to_ascii_lowercase();
            if name.is_empty() || !name.bytes().all(|octet| octet.is_ascii_graphic() && !matches!(octet, b':' | b';')) {
                return Err(FieldsError::NoName(name));
            }
            // RFC 6376 §3.5, h=: no signature covers itself. §5.4: Return-Path may be changed or removed. §5.4.1: trace
            // fields are added above.
            if matches!(name.as_str(), "dkim-signature" | "return-path" | "received") {
                return Err(FieldsError::Unsignable(name));
            }
            let is_full = fields.len() == NAMES_MAX;
            match fields.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) if oversign == Oversign::Yes => *known = oversign,
                Some(_) => {}
                None if is_full => return Err(FieldsError::TooMany),
                None => fields.push((name, oversign)),
            }
        }
        Ok(SignedFields(fields))
    }

    /// The names as they stand in `h=`, each as often as it is signed.
    fn listed(&self, fields: &[Field<'_>]) -> Vec<&str> {
        let mut listed = Vec::new();
        for (name, oversign) in &self.0 {
            let present = fields.iter().filter(|field| field.is(name)).count();
            let count = match oversign {
                Oversign::No => present.min(INSTANCES_MAX),
                // RFC 6376 §8.15: were one of many left out, another could be added in its place.
                Oversign::Yes => present + 1,
            };
            listed.extend(std::iter::repeat_n(name.as_str(), count));
        }
        listed
    }
}

/// A message to be signed.
#[derive(Debug, Clone, Copy)]
pub struct Signable<'a> {
    /// Its header section, with or without the empty line behind it; lines end with CRLF.
    pub header: &'a [u8],
    /// The hash of its body, from [`Recipe::body_hash`].
    pub body: BodyDigest,
    /// Now, in seconds since 1970.
    pub now: u64,
    /// On whose behalf the domain signs, `i=`; at the signing domain or below it.
    pub identity: Option<&'a Address>,
}

/// Why a message cannot be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignError {
    /// The header section is longer than [`HEADER_OCTETS_MAX`].
    HeaderTooLarge,
    /// So many From: fields, where RFC 5322 §3.6 wants one: which of them a reader would see is not known.
    FromFields(usize),
    /// The identity is not at the signing domain, nor below it (RFC 6376 §3.5, i=).
    Identity,
    /// The crypto library failed.
    Crypto,
}

impl fmt::Display for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SignError::HeaderTooLarge => write!(f, "the header section has more than {HEADER_OCTETS_MAX} octets"),
            SignError::FromFields(0) => f.write_str("there is no From: field"),
            SignError::FromFields(count) => write!(f, "there are {count} From: fields"),
            SignError::Identity => f.write_str("the identity does not belong to the signing domain"),
            SignError::Crypto => f.write_str("the crypto library failed"),
        }
    }
}

impl std::error::Error for SignError {}

impl Recipe {
    /// A hash for a body that begins.
    pub fn body_hash(&self) -> BodyHash {
        BodyHash::new(self.body)
    }

    /// The DKIM-Signature fields of a message, one for each key, to be put on top of it; empty without keys. Signatures
    /// of several keys do not depend on each other (RFC 8463 §6).
    pub fn sign(&self, keys: &[Arc<SigningKey>], message: &Signable<'_>) -> Result<Vec<u8>, SignError> {
        if message.header.len() > HEADER_OCTETS_MAX {
            return Err(SignError::HeaderTooLarge);
        }
        let fields: Vec<Field<'_>> = header::fields(message.header).collect();
        let authors = fields.iter().filter(|field| field.is("From")).count();
        if authors != 1 {
            return Err(SignError::FromFields(authors));
        }
        let listed = self.fields.listed(&fields);
        let context = header_hash(&fields, &listed, self.header);
        let mut out = Vec::new();
        for key in keys {
            let unsigned = self.unsigned(key, message, &listed)?;
            let mut context = context.clone();
            update_with_signature(&mut context, unsigned.as_bytes(), self.header);
            let signature = key.sign(&context.finish()).ok_or(SignError::Crypto)?;
            out.extend_from_slice(&with_signature(unsigned, &signature));
        }
        Ok(out)
    }

    /// The field up to its signature, which follows the `b=` at its end.
    fn unsigned(&self, key: &SigningKey, message: &Signable<'_>, listed: &[&str]) -> Result<String, SignError> {
        let mut field = Folded::new("DKIM-Signature:");
        field.word(" v=1;");
        field.word(&format!(" a={};", key.algorithm().signature_type()));
        field.word(&format!(" c={}/{};", self.header, message.body.form));
        field.word(&format!(" d={};", key.domain()));
        field.word(&format!(" s={};", key.selector()));
        field.word(&format!(" t={};", message.now));
        if let Some(lifetime) = self.lifetime_seconds {
            // RFC 6376 §3.5: x= is greater than t=.
            field.word(&format!(" x={};", message.now.saturating_add(lifetime.max(1))));
        }
        if let Some(identity) = message.identity {
            let mut above = std::iter::successors(Some(identity.domain.clone()), mail::Domain::parent);
            if !above.any(|domain| domain == *key.domain()) {
                return Err(SignError::Identity);
            }
            field.word(&format!(" i={};", quoted_printable(&identity.to_string())));
        }
        for (index, name) in listed.iter().enumerate() {
            let start = if index == 0 { " h=" } else { "" };
            let end = if index + 1 == listed.len() { ';' } else { ':' };
            field.word(&format!("{start}{name}{end}"));
        }
        field.word(&format!(" bh={};", STANDARD.encode(message.body.sha256)));
        field.fold();
        field.text.push_str("b=");
        Ok(field.text)
    }
}

/// A hash of the header fields that are listed, each name standing for the lowest field of it that is not yet taken; one
/// that is not there is nothing (RFC 6376 §3.7, §5.4, §5.4.2).
fn header_hash(fields: &[Field<'_>], listed: &[&str], form: Canonical) -> Context {
    let mut left: HashMap<&str, Vec<&[u8]>> = HashMap::new();
    for name in listed {
        left.entry(name)
            .or_insert_with(|| fields.iter().filter(|field| field.is(name)).map(|field| field.raw).collect());
    }
    let mut context = Context::new(&SHA256);
    let mut canonical = Vec::new();
    for name in listed {
        if let Some(raw) = left.get_mut(name).and_then(Vec::pop) {
            canonical.clear();
            append_field(raw, form, &mut canonical);
            context.update(&canonical);
        }
    }
    context
}

/// Adds the signature's own field, its `b=` empty and without a line end (RFC 6376 §3.7).
fn update_with_signature(context: &mut Context, unsigned: &[u8], form: Canonical) {
    let mut canonical = Vec::new();
    append_field(unsigned, form, &mut canonical);
    context.update(canonical.strip_suffix(b"\r\n").unwrap_or(&canonical));
}

fn with_signature(unsigned: String, signature: &[u8]) -> Vec<u8> {
    let mut field = unsigned.into_bytes();
    let encoded = STANDARD.encode(signature);
    let mut rest = encoded.as_bytes();
    // The first line holds ` b=` already.
    let mut room = LINE_OCTETS_MAX - " b=".len();
    while let Some((line, after)) = rest.split_at_checked(room.min(rest.len())).filter(|(line, _)| !line.is_empty()) {
        field.extend_from_slice(line);
        field.extend_from_slice(if after.is_empty() { b"\r\n" } else { b"\r\n " });
        rest = after;
        room = LINE_OCTETS_MAX - " ".len();
    }
    field
}

/// A field that grows word by word and is folded before a word that does not fit (RFC 5322 §2.2.3).
struct Folded {
    text: String,
    line_octets: usize,
}

impl Folded {
    fn new(name: &str) -> Folded {
        Folded { text: name.to_owned(), line_octets: name.len() }
    }

    /// Adds a word with the space that may stand before it.
    fn word(&mut self, word: &str) {
        if self.line_octets + word.len() > LINE_OCTETS_MAX {
            self.fold();
        }
        let word = if self.line_octets == 1 { word.trim_start() } else { word };
        self.text.push_str(word);
        self.line_octets += word.len();
    }

    fn fold(&mut self) {
        self.text.push_str("\r\n ");
        self.line_octets = 1;
    }
}

/// RFC 6376 §2.11.
fn quoted_printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for octet in text.bytes() {
        if octet.is_ascii_graphic() && !matches!(octet, b';' | b'=') {
            out.push(char::from(octet));
        } else {
            out.push_str(&format!("={octet:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dkim::Selector;
    use aws_lc_rs::signature::{ED25519, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, UnparsedPublicKey};
    use mail::{Domain, Secret};

    const NOW: u64 = 1_528_637_909;
    const RSA: &str = include_str!("../../tests/keys/rsa.pem");
    const ED25519_PEM: &str = include_str!("../../tests/keys/ed25519.pem");
    const RSA_RECORD_OF_RFC_8463: &str = "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWR\
        iGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutAC\
        DfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3\
        Ip3G+2kryOTIKT+l/K4w3QIDAQAB";
    /// The signatures of RFC 8463 §A.3.
    const SIGNATURES_OF_RFC_8463: [&str; 2] = [
        "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n \
         q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n subject : date : message-id : from : subject : date;\r\n \
         bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n \
         b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r\n Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r\n",
        "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n \
         q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n date : message-id : from : subject : date;\r\n \
         bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n \
         b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3\r\n \
         DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\r\n \
         dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=\r\n",
    ];
    const HEADER: &str = "From: Joe SixPack <joe@football.example.com>\r\n\
        To: Suzie Q <suzie@shopping.example.net>\r\n\
        Subject: Is dinner ready?\r\n\
        Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n\
        Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n\r\n";
    const BODY: &str = "Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n\r\n";

    fn key(selector: &str, pem: &str) -> Arc<SigningKey> {
        let domain = Domain::parse("football.example.com").unwrap();
        let selector = Selector::parse(selector).unwrap();
        Arc::new(SigningKey::from_pem(domain, selector, &Secret::new(pem.to_owned())).unwrap())
    }

    fn keys() -> [Arc<SigningKey>; 2] {
        [key("test", RSA), key("brisbane", ED25519_PEM)]
    }

    fn records() -> Vec<(String, String)> {
        keys().iter().map(|key| (key.selector().to_string(), key.public_record())).collect()
    }

    fn sign(recipe: &Recipe, header: &str, body: &str) -> Result<String, SignError> {
        let mut hash = recipe.body_hash();
        hash.write(body.as_bytes());
        let message = Signable { header: header.as_bytes(), body: hash.finish(), now: NOW, identity: None };
        Ok(String::from_utf8(recipe.sign(&keys(), &message)?).unwrap())
    }

    /// Checks one signature as a receiver would. It believes the syntax; only true signatures come here.
    fn is_verified(signature: &str, header: &str, body: &str, records: &[(String, String)]) -> bool {
        let (field, value) = (signature.trim_end(), signature.split_once(':').unwrap().1);
        let tags: HashMap<String, String> = value
            .split(';')
            .map(|tag| tag.split_once('=').unwrap())
            .map(|(name, value)| (name.trim().to_owned(), value.split_whitespace().collect()))
            .collect();
        let form = |name: &str| if name == "simple" { Canonical::Simple } else { Canonical::Relaxed };
        let (header_form, body_form) = tags["c"].split_once('/').unwrap();
        let mut hash = BodyHash::new(form(body_form));
        hash.write(body.as_bytes());
        let listed: Vec<&str> = tags["h"].split(':').collect();
        let fields: Vec<Field<'_>> = header::fields(header.as_bytes()).collect();
        let mut context = header_hash(&fields, &listed, form(header_form));
        let unsigned = &field[..field.rfind(" b=").unwrap() + 3];
        update_with_signature(&mut context, unsigned.as_bytes(), form(header_form));
        let record = &records.iter().find(|(selector, _)| *selector == tags["s"]).unwrap().1;
        let public = STANDARD.decode(record.split_once("p=").unwrap().1).unwrap();
        let given = STANDARD.decode(&tags["b"]).unwrap();
        let fits = if tags["a"] == "rsa-sha256" {
            let algorithm = &RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY;
            UnparsedPublicKey::new(algorithm, public).verify_digest(&context.finish(), &given).is_ok()
        } else {
            UnparsedPublicKey::new(&ED25519, public).verify(context.finish().as_ref(), &given).is_ok()
        };
        fits && STANDARD.encode(hash.finish().sha256) == tags["bh"]
    }

    /// The signatures in a text, one by one.
    fn fields_of(signatures: &str) -> Vec<&str> {
        header::fields(signatures.as_bytes()).map(|field| std::str::from_utf8(field.raw).unwrap()).collect()
    }

    fn assert_verified(signatures: &str, header: &str, body: &str, expected: bool) {
        let fields = fields_of(signatures);
        assert_eq!(fields.len(), 2);
        for field in fields {
            assert_eq!(is_verified(field, header, body, &records()), expected, "{field}\nover\n{header}");
        }
    }

    #[test]
    fn the_signatures_of_rfc_8463_are_what_we_compute() {
        let mut records = records();
        records[0].1 = RSA_RECORD_OF_RFC_8463.to_owned();
        for signature in SIGNATURES_OF_RFC_8463 {
            assert!(is_verified(signature, HEADER, BODY, &records), "{signature}");
            assert!(!is_verified(signature, &HEADER.replace("dinner", "supper"), BODY, &records));
            assert!(!is_verified(signature, HEADER, &BODY.replace("lost", "won"), &records));
        }
    }

    #[test]
    fn r164_the_same_message_time_and_key_give_the_same_octets() {
        let signed = sign(&Recipe::default(), HEADER, BODY).unwrap();
        assert_eq!(signed, sign(&Recipe::default(), HEADER, BODY).unwrap());
        assert_eq!(
            fields_of(&signed)[1],
            "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; s=brisbane; \
             t=1528637909; h=from:from:subject:date:\r\n message-id:to; \
             bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n \
             b=3x0ouGspXDW0Ri+7TYSAzEOPNf+tiRf/FrPKe/g63Q7ABPO7SSAWCIP5SbtDJexl1b20cTIT0L\r\n UTYKQbS56RAw==\r\n"
        );
    }

    #[test]
    fn every_form_verifies_and_bears_what_it_should() {
        for (header, body) in [
            (Canonical::Simple, Canonical::Simple),
            (Canonical::Simple, Canonical::Relaxed),
            (Canonical::Relaxed, Canonical::Simple),
            (Canonical::Relaxed, Canonical::Relaxed),
        ] {
            let recipe = Recipe { header, body, lifetime_seconds: Some(604_800), ..Recipe::default() };
            let signed = sign(&recipe, HEADER, BODY).unwrap();
            assert!(signed.contains(&format!("c={header}/{body};")) && signed.contains("t=1528637909; x=1529242709;"));
            assert_verified(&signed, HEADER, BODY, true);
            assert_verified(&signed, HEADER, &format!("{BODY}\r\n\r\n"), true);
            let refolded = HEADER.replace("Subject: Is dinner", "SUBJECT:\tIs  \r\n dinner");
            assert_verified(&signed, &refolded, BODY, header == Canonical::Relaxed);
            assert_verified(&signed, HEADER, &BODY.replace("  Are", " Are"), body == Canonical::Relaxed);
            // A trace field on top changes nothing, nor do the signatures themselves.
            assert_verified(&signed, &format!("Received: from x\r\n{signed}{HEADER}"), BODY, true);
        }
    }

    #[test]
    fn v15_nobody_can_add_an_oversigned_field() {
        let fields = SignedFields::new(&["To", "date"], &["Subject", "Reply-To"]).unwrap();
        let recipe = Recipe { fields, ..Recipe::default() };
        let signed = sign(&recipe, HEADER, BODY).unwrap();
        assert!(signed.contains("h=from:from:to:date:subject:subject:reply-to;"), "{signed}");
        assert_verified(&signed, HEADER, BODY, true);
        for added in ["From: x@y", "subject: Won!", "Reply-To: x@y"] {
            assert_verified(&signed, &format!("{added}\r\n{HEADER}"), BODY, false);
            assert_verified(&signed, &HEADER.replace("\r\n\r\n", &format!("\r\n{added}\r\n\r\n")), BODY, false);
        }
        // Not oversigned: one on top does no harm, the lowest is signed.
        assert_verified(&signed, &format!("To: x@y\r\n{HEADER}"), BODY, true);
        assert_verified(&signed, &HEADER.replace("\r\n\r\n", "\r\nTo: x@y\r\n\r\n"), BODY, false);
    }

    #[test]
    fn repeated_fields_are_signed_from_the_bottom_up() {
        let header = "To: one\r\nTo: two\r\nFrom: a@b\r\nTo: three\r\n\r\n";
        let signed = sign(&Recipe::default(), header, BODY).unwrap();
        assert!(signed.contains("h=from:from:to:to:to;"), "{signed}");
        assert_verified(&signed, header, BODY, true);
        assert_verified(&signed, "To: two\r\nTo: one\r\nFrom: a@b\r\nTo: three\r\n\r\n", BODY, false);
        let many = format!("From: a@b\r\n{}\r\n", "To: x@y\r\n".repeat(1_000));
        let signed = sign(&Recipe::default(), &many, BODY).unwrap();
        let unfolded: String = signed.split_whitespace().collect();
        assert_eq!(unfolded.matches(":to").count(), 2 * INSTANCES_MAX);
        assert_verified(&signed, &many, BODY, true);
        // Oversigned, there is no number beyond which one may be added.
        let recipe = Recipe { fields: SignedFields::new(&[], &["to"]).unwrap(), ..Recipe::default() };
        let signed = sign(&recipe, &many, BODY).unwrap();
        assert_verified(&signed, &many, BODY, true);
        assert_verified(&signed, &format!("To: y@x\r\n{many}"), BODY, false);
    }

    #[test]
    fn lines_stay_narrow() {
        let every: String = FIELDS.iter().map(|name| format!("{name}: x\r\n")).collect();
        let long = "List-A-Very-Long-Name-That-Nobody-Would-Give-To-A-Field-But-Somebody-Could";
        let names: Vec<&str> = FIELDS.iter().copied().chain([long]).collect();
        let fields = SignedFields::new(&names, &names).unwrap();
        let signed = sign(&Recipe { fields, ..Recipe::default() }, &format!("{every}\r\n"), BODY).unwrap();
        for line in signed.split_terminator("\r\n") {
            assert!((2..=LINE_OCTETS_MAX).contains(&line.len()) && !line.contains(['\r', '\n']), "{line}");
            assert!(line.trim() == line.trim_end() && !line.contains("  ") || line.starts_with(' '), "{line}");
        }
        assert_verified(&signed, &every, BODY, true);
    }

    #[test]
    fn the_identity_belongs_to_the_domain() {
        let recipe = Recipe::default();
        let body = recipe.body_hash().finish();
        let with = |identity: &str| {
            let identity = Address::parse(identity).unwrap();
            let message = Signable { header: HEADER.as_bytes(), body, now: NOW, identity: Some(&identity) };
            recipe.sign(&keys(), &message).map(|signed| String::from_utf8(signed).unwrap())
        };
        for (identity, shown) in [
            ("joe@football.example.com", "i=joe@football.example.com;"),
            ("joe@a.b.football.example.com", "i=joe@a.b.football.example.com;"),
            ("\"a b;c=\"@football.example.com", "i=\"a=20b=3Bc=3D\"@football.example.com;"),
            ("é@football.example.com", "i==C3=A9@football.example.com;"),
        ] {
            let signed = with(identity).unwrap();
            assert!(signed.contains(shown), "{signed}");
        }
        for stranger in ["joe@example.com", "joe@notfootball.example.com", "joe@football.example.com.test"] {
            assert_eq!(with(stranger), Err(SignError::Identity), "{stranger}");
        }
    }

    #[test]
    fn v28_header_sections_that_are_odd_are_signed_or_refused() {
        let recipe = Recipe::default();
        for (header, error) in [
            ("", SignError::FromFields(0)),
            ("\r\nFrom: a@b\r\n", SignError::FromFields(0)),
            ("Subject: x\r\n From: a@b\r\n\r\n", SignError::FromFields(0)),
            ("From: a@b\r\nfrom : c@d\r\n\r\n", SignError::FromFields(2)),
        ] {
            assert_eq!(sign(&recipe, header, BODY), Err(error), "{header:?}");
        }
        let large = format!("From: a@b\r\nX: {}\r\n\r\n", "x".repeat(HEADER_OCTETS_MAX));
        assert_eq!(sign(&recipe, &large, BODY), Err(SignError::HeaderTooLarge));
        for header in ["From: a@b", "From:", "From:\r\n \r\n", "From\t: \u{e9}\0\u{1}\r\nTo\r\nCc:x\ry\r\n"] {
            let signed = sign(&recipe, header, BODY).unwrap();
            assert_verified(&signed, header, BODY, true);
        }
        assert_eq!(
            recipe.sign(
                &[],
                &Signable { header: HEADER.as_bytes(), body: recipe.body_hash().finish(), now: 0, identity: None }
            ),
            Ok(Vec::new())
        );
    }

    #[test]
    fn v14_names_of_fields_are_names() {
        for name in ["", "a b", "a:b", "a;b", "a\r\nb", "é"] {
            assert_eq!(SignedFields::new(&[name], &[]), Err(FieldsError::NoName(name.to_owned())));
        }
        for name in ["DKIM-Signature", "Return-Path", "received"] {
            assert!(matches!(SignedFields::new(&[], &[name]), Err(FieldsError::Unsignable(_))), "{name}");
        }
        let many: Vec<String> = (0..NAMES_MAX).map(|number| format!("x-{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(SignedFields::new(&many, &[]), Err(FieldsError::TooMany));
        assert!(SignedFields::new(&many[1..], &["from"]).is_ok());
        assert_eq!(SignedFields::new(&FIELDS, &[]), Ok(SignedFields::default()));
    }
}
