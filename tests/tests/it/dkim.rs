//! Our DKIM signatures, checked by others: OpenDKIM and dkimpy, over real messages, without DNS.
//!
//! Some of the corpus is signed, or as many messages as `PILLARBOX_DKIM_MESSAGES` says; `all` for the whole.

use crate::corpus::{Sample, repaired, samples, with_crlf};
use directory::signing::edit::NewKey;
use mail::Domain;
use peers::peer::{Outcome, Peer};
use sender_auth::dkim::{Canonical, Recipe, Selector, SignError, Signable, SignedFields, SigningKey};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Messages that are signed unless more are asked for.
const MESSAGES: usize = 300;
/// Messages in one run of a verifier.
const BATCH: usize = 500;
/// 2026-01-01; verifiers refuse what lies ahead.
const NOW: u64 = 1_767_225_600;
/// Selectors: a key each.
const SELECTORS: [(&str, NewKey); 2] = [("rsa", NewKey::Rsa2048), ("edwards", NewKey::Ed25519)];

fn keys() -> Vec<Arc<SigningKey>> {
    let domain = Domain::parse("example.net").unwrap();
    let made = SELECTORS.iter().map(|(selector, kind)| {
        SigningKey::from_pem(domain.clone(), Selector::parse(selector).unwrap(), &kind.make().unwrap()).unwrap()
    });
    made.map(Arc::new).collect()
}

/// Every pair of forms; two of them with other fields than usual, one with an end.
fn recipes() -> [Recipe; 4] {
    let all = ["to", "cc", "subject", "date", "reply-to", "message-id", "mime-version", "content-type", "x-mailer"];
    let few = SignedFields::new(&["subject", "date"], &[]).unwrap();
    let many = SignedFields::new(&all, &all).unwrap();
    let usual = Recipe::default();
    [
        usual.clone(),
        Recipe { header: Canonical::Simple, body: Canonical::Simple, ..usual.clone() },
        Recipe { header: Canonical::Simple, fields: few, ..usual.clone() },
        Recipe { body: Canonical::Simple, fields: many, lifetime_seconds: Some(100 * 365 * 86_400), ..usual },
    ]
}

fn chosen(unpacked: &Path) -> Vec<Sample> {
    let all = samples(unpacked);
    let wanted = match std::env::var("PILLARBOX_DKIM_MESSAGES") {
        Ok(text) if text == "all" => all.len(),
        Ok(text) => text.parse().expect("PILLARBOX_DKIM_MESSAGES is a number, or `all`"),
        Err(_) => MESSAGES,
    };
    let step = (all.len() / wanted.max(1)).max(1);
    all.into_iter().step_by(step).collect()
}

/// The message as we would store and send it, its signatures on top.
fn signed(message: &[u8], keys: &[Arc<SigningKey>], recipe: &Recipe) -> Result<Vec<u8>, SignError> {
    let end = message.windows(4).position(|four| four == b"\r\n\r\n").map_or(message.len(), |at| at + 4);
    // A message may begin with the empty line.
    let end = if message.starts_with(b"\r\n") { 2 } else { end };
    let (header, body) = message.split_at(end);
    let mut hash = recipe.body_hash();
    // As it comes from a disk or a network.
    body.chunks(1_000).for_each(|piece| hash.write(piece));
    let fields = recipe.sign(keys, &Signable { header, body: hash.finish(), now: NOW, identity: None })?;
    Ok([&fields, message].concat())
}

/// Signs all messages in every way, and gives the files.
fn sign_all(folder: &Path, samples: &[Sample], keys: &[Arc<SigningKey>]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut without_author = 0;
    for (number, sample) in samples.iter().enumerate() {
        let message = repaired(&with_crlf(&sample.octets));
        for (way, recipe) in recipes().iter().enumerate() {
            let name = folder.join(format!("{number}-{way}"));
            match signed(&message, keys, recipe) {
                Ok(octets) => std::fs::write(&name, octets).unwrap(),
                Err(SignError::FromFields(_)) => {
                    without_author += 1;
                    break;
                }
                Err(error) => panic!("{}: {error}", sample.name),
            }
            files.push(name);
        }
    }
    eprintln!("{} messages, {without_author} of them without exactly one From: field and so not signed", samples.len());
    assert!(without_author * 20 <= samples.len());
    files
}

/// Has messages judged by a script: every key of a file must have signed each message that a list names.
pub fn judge(script: &str, keys: &Path, list: &Path) -> Outcome {
    // The Debian packages belong to Debian's python3, which need not be the first in the path.
    let python = Peer::new("/usr/bin/python3").env("PYTHONDONTWRITEBYTECODE", "1");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(script);
    python.arg(script).arg(keys).arg(list).run().unwrap()
}

/// Has every signature of every message verified by a script, which also tries some messages altered.
fn verified_by(script: &str) {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys();
    let records: String = keys.iter().map(|key| format!("{} {}\n", key.record_name(), key.public_record())).collect();
    std::fs::write(folder.path().join("keys"), records).unwrap();
    let files = sign_all(folder.path(), &chosen(&folder.path().join("corpus")), &keys);
    let mut failed = String::new();
    let mut good = 0;
    for batch in files.chunks(BATCH) {
        let list = folder.path().join("list");
        let names: Vec<&str> = batch.iter().map(|name| name.to_str().unwrap()).collect();
        std::fs::write(&list, names.join("\n")).unwrap();
        let outcome = judge(script, &folder.path().join("keys"), &list);
        let text = outcome.text();
        let count = text.strip_prefix("good=").and_then(|rest| rest.split_whitespace().next());
        good += count.and_then(|count| count.parse::<usize>().ok()).unwrap_or(0);
        if outcome.status != Some(0) {
            failed.push_str(&text);
        }
    }
    assert!(failed.is_empty(), "{failed}");
    let all = files.len() * keys.len();
    eprintln!("{script}: {good} of {all} signatures are good, none is bad");
    assert!(good * 100 >= all * 99, "only {good} of {all} signatures were judged");
}

#[test]
fn r164_r165_dkimpy_verifies_every_signature() {
    verified_by("dkim_dkimpy.py");
}

#[test]
fn r164_r165_opendkim_verifies_every_signature() {
    verified_by("dkim_opendkim.py");
}
