//! The file that remembers policies over a restart (RFC 8461 §10.2: the longer one is remembered, the fewer the moments
//! at which somebody could hide it).
//!
//! It is a memory, not the truth: what of it cannot be read is left out, and the policy is fetched again.

use dns::Name;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use transport_security::mta_sts::Policy;
use transport_security::mta_sts::cache::Cached;

/// More than the policies that are kept can take.
const FILE_OCTETS_MAX: u64 = 256 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    policies: Vec<StoredPolicy>,
}

#[derive(Serialize, Deserialize)]
struct StoredPolicy {
    domain: String,
    id: String,
    fetched_at: u64,
    /// The lines of the policy.
    policy: Vec<String>,
}

const VERSION: u32 = 1;

/// The policies in a file, at most so many; none when there is no file yet.
pub(super) fn load(path: &Path, policies_max: usize) -> io::Result<Vec<(Name, Cached)>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(FILE_OCTETS_MAX).read_to_end(&mut text)?;
    let stored: Stored = serde_json::from_slice(&text)?;
    if stored.version != VERSION {
        return Err(io::Error::other(format!("version {} of the file is not known", stored.version)));
    }
    let cached = |stored: StoredPolicy| {
        let policy = Arc::new(Policy::parse(stored.policy.join("\n").as_bytes()).ok()?);
        Some((Name::parse(&stored.domain).ok()?, Cached { policy, id: stored.id, fetched_at: stored.fetched_at }))
    };
    Ok(stored.policies.into_iter().filter_map(cached).take(policies_max).collect())
}

/// Replaces the file by one with these policies.
pub(super) fn save(path: &Path, policies: &[(Name, Arc<Cached>)]) -> io::Result<()> {
    let policies = policies
        .iter()
        .map(|(domain, cached)| StoredPolicy {
            domain: domain.as_str().to_owned(),
            id: cached.id.clone(),
            fetched_at: cached.fetched_at,
            policy: cached.policy.lines(),
        })
        .collect();
    let text = serde_json::to_vec(&Stored { version: VERSION, policies })?;
    crate::state_file::replace(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn cached(mode: &str) -> Cached {
        let text = format!("version: STSv1\nmode: {mode}\nmx: *.example.net\nmax_age: 86400\n");
        let policy = Arc::new(Policy::parse(text.as_bytes()).unwrap());
        Cached { policy, id: "1".to_owned(), fetched_at: 1_800_000_000 }
    }

    #[test]
    fn policies_outlive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mta-sts.json");
        assert!(load(&path, 10).unwrap().is_empty());
        let policies: Vec<(Name, Cached)> = ["enforce", "testing", "none"]
            .map(|mode| (Name::parse(&format!("{mode}.example")).unwrap(), cached(mode)))
            .into();
        let shared: Vec<_> = policies.iter().map(|(name, cached)| (name.clone(), Arc::new(cached.clone()))).collect();
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), folder.path().join("mta-sts.json.new")).unwrap();
        for _ in 0..2 {
            save(&path, &shared).unwrap();
            assert_eq!(load(&path, 10).unwrap(), policies);
        }
        assert_eq!(load(&path, 2).unwrap().len(), 2);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "V51: no link was followed");
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mta-sts.json");
        for text in ["", "[]", "{\"version\":2,\"policies\":[]}", "{\"version\":1"] {
            std::fs::write(&path, text).unwrap();
            assert!(load(&path, 10).is_err(), "{text}");
        }
        let good =
            r#"{"domain":"a.example","id":"1","fetched_at":1,"policy":["version: STSv1","mode: none","max_age: 5"]}"#;
        let (bad_policy, bad_name) = (good.replace("STSv1", "STSv9"), good.replace("a.example", "a b"));
        let text = format!("{{\"version\":1,\"policies\":[{bad_policy},{bad_name},{good}]}}");
        std::fs::write(&path, text).unwrap();
        assert_eq!(load(&path, 10).unwrap().len(), 1);
    }
}
