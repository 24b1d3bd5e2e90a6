//! The rooms of mail that leaves: DNS, keys, the way out, the queue.

use crate::config::Config;
use crate::config::sending::{AddressFamily, DnsMode, demand, server};
use anyhow::{Context, anyhow};
use deliver::{QueueIds, Signer};
use directory::Directory;
use directory::signing::Signing;
use dns::{Families, Lookup, Name};
use mail::{Domain, QueueId, Secret, UnixMillis};
use message::header_rules::HeaderRules;
use net::confine::Identity;
use qmgr::{QueueManager, Reporter, TlsJournal, TlsReports, TlsReportsDesk};
use relay::policy_fetch::{HttpsClient, HttpsSettings, POLICIES_MAX, Policies};
use relay::tls::Trust;
use relay::{Relay, Settings};
use resolver::{Mode, Resolver};
use sender_auth::dkim::Recipe;
use sender_auth::srs::Srs;
use smtpd::{SubmissionRates, SubmissionRules};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::MailStore;
use store::queue::StoryQuery;
use tokio::sync::Semaphore;

/// Refusals that may wait to be kept.
const REFUSALS_WAITING_MAX: usize = 64;
/// Octets of a secret that signs rewritten reverse-paths.
const SRS_SECRET_OCTETS: usize = 32;
/// Most octets of its file that are read.
const SRS_FILE_OCTETS_MAX: u64 = 65_536;
/// How often old stories are looked for.
const HISTORY_ROUND: Duration = Duration::from_secs(3_600);
/// How long one connection may be used.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(300);

/// What is read while the process may still read everything.
pub struct Prepared {
    /// Keys that sign.
    pub signing: Arc<Signing>,
    /// Authorities to trust.
    trust: Trust,
    /// Secrets that sign rewritten reverse-paths.
    srs: Option<Arc<Srs>>,
    /// What holds for submitted mail.
    submission: SubmissionRules,
    /// Keys that DNSSEC validation begins with.
    trust_anchors: Option<String>,
}

/// What sessions and the queue share.
pub struct Sending {
    /// Names of messages.
    pub queue_ids: Arc<QueueIds>,
    /// Runs the queue.
    pub queue: Arc<QueueManager>,
    /// Reports about TLS to other domains.
    pub tls_reports: Option<Arc<TlsReports>>,
    /// What is remembered of MTA-STS policies; to be saved at the end.
    pub policies: Option<Policies>,
    /// Looks up names.
    pub lookup: Arc<dyn Lookup>,
    /// Signs.
    pub signer: Arc<Signer>,
    /// Rewrites reverse-paths.
    pub srs: Option<Arc<Srs>>,
    /// What holds for submitted mail.
    pub submission: SubmissionRules,
    /// How much accounts may send.
    pub rates: Option<SubmissionRates>,
    /// Bounds refusals that wait to be kept.
    pub refusals: Arc<Semaphore>,
}

/// Reads keys, secrets, authorities and rules. To be done while privileged; what is made here is given to `owner`.
pub fn prepare(config: &Config, owner: Option<&Identity>) -> anyhow::Result<Prepared> {
    let signing = Signing::open(&config.directory.dkim, &directory::signing::read_key_file).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow!("{}", lines.join("\n"))
    })?;
    Ok(Prepared {
        signing: Arc::new(signing),
        trust: trust(config)?,
        srs: srs(config, owner)?,
        submission: submission(config)?,
        trust_anchors: trust_anchors(config)?,
    })
}

/// Authorities to trust.
pub fn trust(config: &Config) -> anyhow::Result<Trust> {
    match &config.outbound.ca_file {
        file if file.as_os_str().is_empty() => Ok(Trust::of_the_system()),
        file => Trust::from_file(file).with_context(|| format!("outbound.ca_file {}", file.display())),
    }
}

/// Keys that DNSSEC validation begins with; `None`: those of the root.
pub fn trust_anchors(config: &Config) -> anyhow::Result<Option<String>> {
    match &config.dns.trust_anchors {
        file if file.as_os_str().is_empty() => Ok(None),
        file => {
            std::fs::read_to_string(file).map(Some).with_context(|| format!("dns.trust_anchors {}", file.display()))
        }
    }
}

fn submission(config: &Config) -> anyhow::Result<SubmissionRules> {
    let settings = &config.submission;
    let rules = match &settings.header_rules {
        file if file.as_os_str().is_empty() => HeaderRules::default(),
        file => {
            let octets = std::fs::read(file).with_context(|| format!("submission.header_rules {}", file.display()))?;
            HeaderRules::read(file, &octets).map_err(|error| anyhow!("{error}"))?
        }
    };
    Ok(SubmissionRules {
        stages: deliver::Submission { rules: Arc::new(rules), keeps_bcc: settings.keep_bcc },
        anonymous_trace: settings.anonymous_trace,
        check_author: settings.check_author,
        ..SubmissionRules::default()
    })
}

/// The rewriter of reverse-paths; its secret is made when there is none.
fn srs(config: &Config, owner: Option<&Identity>) -> anyhow::Result<Option<Arc<Srs>>> {
    let found = srs_of(config)?;
    if found.is_some() || !config.forwarding.rewrite_sender {
        return Ok(found);
    }
    let file = secret_file(config);
    make_secret(&file, owner).with_context(|| format!("the secret of rewritten reverse-paths, {}", file.display()))?;
    srs_of(config)
}

/// The rewriter of reverse-paths; `None` where none is wanted, and where its secret is not made yet.
pub fn srs_of(config: &Config) -> anyhow::Result<Option<Arc<Srs>>> {
    if !config.forwarding.rewrite_sender {
        return Ok(None);
    }
    let file = secret_file(config);
    let text = match read_secret(config, &file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("forwarding.secret_file {}", file.display())),
    };
    let secrets: Vec<Secret> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| Secret::new(line.to_owned())).collect();
    let domain = match config.forwarding.domain.as_str() {
        "" => &config.host_name,
        domain => domain,
    };
    let domain = Domain::parse(domain).map_err(|_| anyhow!("forwarding.domain {domain}"))?;
    let srs = Srs::new(domain, &secrets);
    srs.map(|srs| Some(Arc::new(srs))).with_context(|| format!("forwarding.secret_file {}", file.display()))
}

/// Reads a secret. What is in the storage folder the server's user may have put there, and we may be privileged: no link is
/// followed, and nothing but a file is waited for (V51).
fn read_secret(config: &Config, file: &Path) -> std::io::Result<String> {
    let is_configured = !config.forwarding.secret_file.as_os_str().is_empty();
    let flags = if is_configured { 0 } else { nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK };
    let file = OpenOptions::new().read(true).custom_flags(flags).open(file)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::new(ErrorKind::InvalidInput, "it is no file"));
    }
    let mut text = String::new();
    file.take(SRS_FILE_OCTETS_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn secret_file(config: &Config) -> PathBuf {
    match &config.forwarding.secret_file {
        file if file.as_os_str().is_empty() => config.storage.folder.join("srs-secret"),
        file => file.clone(),
    }
}

/// Makes a secret that belongs to `owner`. The folder may be that of the server's user, so no name in it is trusted while we
/// are privileged: the file is new, and it is given away by its handle (V51). A crash leaves the whole secret or none.
fn make_secret(file: &Path, owner: Option<&Identity>) -> anyhow::Result<()> {
    let mut octets = [0; SRS_SECRET_OCTETS];
    aws_lc_rs::rand::fill(&mut octets).map_err(|_| anyhow!("no randomness"))?;
    let text: String = octets.iter().map(|octet| format!("{octet:02x}")).chain(["\n".to_owned()]).collect();
    let mut name = file.file_name().context("it names no file")?.to_owned();
    name.push(".new");
    let new = file.with_file_name(name);
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    made.write_all(text.as_bytes())?;
    if let Some(owner) = owner {
        fchown(&made, Some(owner.user), Some(owner.group))?;
    }
    made.sync_all()?;
    std::fs::rename(&new, file)?;
    let folder = file.parent().context("it is in no folder")?;
    Ok(File::open(folder)?.sync_all()?)
}

/// A resolver as configured. Needs a runtime.
pub fn resolver(config: &Config, trust_anchors: Option<String>) -> anyhow::Result<Resolver> {
    let dns = &config.dns;
    let read = |servers: &[String]| servers.iter().map(|text| server(text)).collect::<Result<Vec<SocketAddr>, _>>();
    let servers = read(&dns.servers).context("dns.servers")?;
    let trusted = read(&dns.trusted_servers).context("dns.trusted_servers")?;
    let settings = resolver::Settings {
        servers,
        mode: match dns.mode {
            DnsMode::Trusting => Mode::Trusting,
            DnsMode::Validating => Mode::Validating,
            DnsMode::Plain => Mode::Plain,
        },
        trusted: trusted.iter().map(SocketAddr::ip).collect(),
        timeout: Duration::from_secs(dns.timeout_seconds.max(1)),
        cache_entries_max: dns.cache_entries as usize,
        trust_anchors,
        ..resolver::Settings::default()
    };
    Resolver::new(settings).map_err(|error| anyhow!("{error}"))
}

/// Furnishes the rooms.
pub async fn furnish(
    config: &Config,
    prepared: Prepared,
    store: &Arc<dyn MailStore>,
    directory: &Arc<Directory>,
) -> anyhow::Result<Sending> {
    // A clock that was set back must not give a name twice.
    let newest = store.stories(StoryQuery { limit: 1, ..StoryQuery::default() }).await;
    let newest = newest.map_err(|error| anyhow!("{error}"))?.first().map_or(QueueId(0), |story| story.message);
    let queue_ids = Arc::new(QueueIds::above(newest));
    let resolver = resolver(config, prepared.trust_anchors)?;
    let lookup: Arc<dyn Lookup> = Arc::new(resolver.clone());
    tokio::spawn(tell_of_dns(resolver));
    let signer = Arc::new(Signer { keys: prepared.signing, recipe: Recipe::default() });
    let reporter = Arc::new(Reporter {
        host_name: config.host_name.clone(),
        store: store.clone(),
        directory: directory.clone(),
        queue_ids: queue_ids.clone(),
        signer: Some(signer.clone()),
    });
    let https = https(config, &lookup, &prepared.trust);
    let policies = config.outbound.mta_sts.then(|| policies(config, &lookup, https.clone()));
    let journal = config.outbound.tls_reports.then(|| tls_journal(config));
    let mut relay = Relay::new(relay_settings(config)?, lookup.clone(), prepared.trust, policies.clone());
    if let Some(journal) = &journal {
        relay = relay.observed_by(journal.clone());
    }
    let house = qmgr::House {
        host_name: config.host_name.clone(),
        store: store.clone(),
        directory: directory.clone(),
        relay: Arc::new(relay),
        reporter,
        srs: prepared.srs.clone(),
        smarthost: directory::NextHop::parse(&config.outbound.smarthost),
        plan: config.queue.plan(),
        messages_per_connection_max: config.queue.messages_per_connection,
        connection_time_max: CONNECTION_TIME_MAX,
    };
    let queue = QueueManager::new(house, config.queue.schedule());
    let tls_reports = journal.map(|journal| {
        TlsReports::new(TlsReportsDesk {
            host_name: config.host_name.clone(),
            journal,
            lookup: lookup.clone(),
            https,
            store: store.clone(),
            directory: directory.clone(),
            queue_ids: queue_ids.clone(),
            signer: signer.clone(),
            door: queue.clone(),
        })
    });
    Ok(Sending {
        queue_ids,
        queue,
        tls_reports,
        policies,
        lookup,
        signer,
        srs: prepared.srs,
        submission: prepared.submission,
        rates: config.submission.limits().map(|limits| SubmissionRates { limits, used: Arc::new(Mutex::default()) }),
        refusals: Arc::new(Semaphore::new(REFUSALS_WAITING_MAX)),
    })
}

/// Fetches policies and carries reports.
pub fn https(config: &Config, lookup: &Arc<dyn Lookup>, trust: &Trust) -> HttpsClient {
    let settings = HttpsSettings {
        policy_port: config.outbound.mta_sts_port,
        is_loopback_allowed: config.outbound.mta_sts_private_hosts,
        ..HttpsSettings::default()
    };
    HttpsClient::new(lookup.clone(), trust, settings)
}

fn tls_journal(config: &Config) -> Arc<TlsJournal> {
    let (journal, trouble) = TlsJournal::open(Some(config.storage.folder.join("tls-reports.json")));
    if let Some(error) = trouble {
        tracing::warn!(%error, "what was counted for TLS reports cannot be read; counting begins again");
    }
    Arc::new(journal)
}

fn policies(config: &Config, lookup: &Arc<dyn Lookup>, client: HttpsClient) -> Policies {
    let file: PathBuf = config.storage.folder.join("mta-sts-policies.json");
    let (policies, trouble) = Policies::new(lookup.clone(), client, POLICIES_MAX, Some(file));
    if let Some(error) = trouble {
        tracing::warn!(%error, "remembered MTA-STS policies cannot be read; they are fetched again");
    }
    policies
}

fn relay_settings(config: &Config) -> anyhow::Result<Settings> {
    let outbound = &config.outbound;
    let host_name = Domain::parse(&config.host_name).map_err(|_| anyhow!("host_name {}", config.host_name))?;
    let sources = outbound.source_addresses.iter().map(|text| text.parse()).collect::<Result<Vec<IpAddr>, _>>();
    let seconds = |seconds: u64| Duration::from_secs(seconds.max(1));
    let reply = seconds(outbound.reply_timeout_seconds);
    let own_name = |name: &String| Domain::parse(name).map_err(|_| anyhow!("outbound.own_names {name}"));
    let level = |(key, text): (&String, &String)| demand(key, text).with_context(|| format!("outbound.tls {key}"));
    let usual = Settings::new(host_name);
    let timeouts = smtp_proto::client::Timeouts {
        greeting: reply,
        hello: reply,
        mail: reply,
        recipient: reply,
        start_tls: reply.min(usual.timeouts.start_tls),
        authentication: reply,
        data: reply.min(usual.timeouts.data),
        envelope: usual.timeouts.envelope.max(reply.saturating_mul(2)),
        ..usual.timeouts
    };
    Ok(Settings {
        own_names: outbound.own_names.iter().map(own_name).collect::<anyhow::Result<_>>()?,
        smtp_port: outbound.port,
        sources: sources.context("outbound.source_addresses")?,
        families: match outbound.address_family {
            AddressFamily::Both => Families::Both,
            AddressFamily::Ipv4 => Families::V4,
            AddressFamily::Ipv6 => Families::V6,
        },
        needs_reverse_name: outbound.ipv6_needs_reverse_name,
        connect_timeout: seconds(outbound.connect_timeout_seconds),
        timeouts,
        levels: outbound.tls.iter().map(level).collect::<anyhow::Result<_>>()?,
        dane: outbound.dane,
        ..usual
    })
}

/// Says once which mode of DNS really holds (D9).
async fn tell_of_dns(resolver: Resolver) {
    let probed = resolver.probe(&Name::root()).await;
    if probed.can_prove() {
        tracing::info!("{probed}");
    } else {
        tracing::warn!("{probed}");
    }
}

/// Forgets stories that are old, now and then.
pub async fn forget_history(store: Arc<dyn MailStore>, days: u32, messages: u64) {
    let mut rounds = tokio::time::interval(HISTORY_ROUND);
    loop {
        rounds.tick().await;
        let age = u64::from(days).saturating_mul(86_400_000);
        let before = UnixMillis(deliver::now().0.saturating_sub(age));
        if let Err(error) = store.forget_stories(before, messages).await {
            tracing::warn!(%error, "old stories are not forgotten yet");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    /// Somebody else where we may give files away, else ourselves.
    fn owner() -> Identity {
        let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
        let [user, group] = if user.is_root() { [65_534; 2] } else { [user.as_raw(), group.as_raw()] };
        Identity { name: "owner".into(), user, group }
    }

    fn config(folder: &Path) -> Config {
        let mut config = Config { host_name: "mx.example.net".into(), ..Config::default() };
        config.storage.folder = folder.to_owned();
        config
    }

    #[test]
    fn v51_the_secret_is_made_once_and_given_away() {
        let place = tempfile::tempdir().unwrap();
        let (config, owner) = (config(place.path()), owner());
        let victim = place.path().join("victim");
        std::fs::write(&victim, "untouched").unwrap();
        symlink(&victim, place.path().join("srs-secret.new")).unwrap();
        assert!(srs_of(&config).unwrap().is_none(), "a look makes nothing");
        assert!(srs(&config, Some(&owner)).unwrap().is_some());
        let file = place.path().join("srs-secret");
        let (made, text) = (std::fs::symlink_metadata(&file).unwrap(), std::fs::read_to_string(&file).unwrap());
        assert_eq!((made.uid(), made.gid(), made.mode() & 0o7777), (owner.user, owner.group, 0o600));
        assert_eq!(text.trim_end().len(), 2 * SRS_SECRET_OCTETS);
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
        assert!(srs(&config, Some(&owner)).unwrap().is_some());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }

    #[test]
    fn v51_what_is_put_in_its_place_is_neither_read_nor_given_away_nor_waited_for() {
        let place = tempfile::tempdir().unwrap();
        let (victim, file) = (place.path().join("victim"), place.path().join("srs-secret"));
        std::fs::write(&victim, "a secret of another program\n").unwrap();
        let before = std::fs::metadata(&victim).unwrap().uid();
        symlink(&victim, &file).unwrap();
        assert!(srs(&config(place.path()), Some(&owner())).is_err(), "a link is not followed");
        assert_eq!(std::fs::metadata(&victim).unwrap().uid(), before);
        std::fs::remove_file(&file).unwrap();
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(srs(&config(place.path()), Some(&owner())).is_err(), "a pipe is no file");
        // What the configuration names may well be a link.
        let link = place.path().join("named");
        symlink(&victim, &link).unwrap();
        let mut config = config(place.path());
        config.forwarding.secret_file = link;
        assert!(srs(&config, None).unwrap().is_some());
    }

    #[test]
    fn a_secret_that_is_none_is_refused() {
        let place = tempfile::tempdir().unwrap();
        for text in ["", "\n", "ab\n"] {
            std::fs::write(place.path().join("srs-secret"), text).unwrap();
            let error = srs(&config(place.path()), None).unwrap_err();
            assert!(format!("{error:#}").contains("srs-secret"), "{text:?}: {error:#}");
        }
    }
}
