//! What can be wrong with a configuration by itself.

use super::{Config, Listener, Loaded, Protocol, TlsMode, sending};
use mail::Domain;
use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Longest time that a setting may name, in seconds: ten years. What is longer was not meant, and no clock is asked for it.
const TIME_SECONDS_MAX: u64 = 10 * 366 * 86_400;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The server would not start, or refuses the change.
    Error,
    /// It works, but probably not as meant.
    Warning,
}

/// Something wrong: where, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file.
    pub file: PathBuf,
    /// The line, from 1, where there is one.
    pub line: Option<usize>,
    /// What is wrong.
    pub cause: String,
    /// What to do about it.
    pub cure: String,
}

impl Finding {
    /// An error.
    pub fn error(file: &Path, line: Option<usize>, cause: impl Into<String>, cure: impl Into<String>) -> Finding {
        Finding { severity: Severity::Error, file: file.to_owned(), line, cause: cause.into(), cure: cure.into() }
    }
}

impl From<directory::Finding> for Finding {
    fn from(finding: directory::Finding) -> Finding {
        let directory::Finding { severity, file, line, cause, cure } = finding;
        let severity = match severity {
            directory::Severity::Error => Severity::Error,
            directory::Severity::Warning => Severity::Warning,
        };
        Finding { severity, file, line, cause, cure }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {severity}: {}", self.cause)?;
        if !self.cure.is_empty() {
            write!(f, "\n    {}", self.cure)?;
        }
        Ok(())
    }
}

impl Loaded {
    /// Everything wrong with the configuration by itself.
    pub fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut report = |key: &[&str], cause: String, cure: &str| {
            findings.push(Finding::error(&self.file, line_of(&self.text, key), cause, cure));
        };
        check_host_name(&self.config, &mut report);
        check_values(&self.config, &mut report);
        check_times(&self.written, &mut report);
        check_listeners(&self.config, &mut report);
        check_policy(&self.config, &mut report);
        check_sending(&self.config, &mut report);
        check_certificates(&self.config, &mut report);
        findings
    }
}

type Report<'a> = dyn FnMut(&[&str], String, &str) + 'a;

fn check_host_name(config: &Config, report: &mut Report<'_>) {
    let name = &config.host_name;
    let cure = "set host_name = \"mx.example.net\", the name your MX records point to";
    if name.is_empty() {
        report(&["host_name"], "there is no host_name".into(), cure);
    } else if !Domain::parse(name).is_ok_and(|domain| !domain.is_literal() && domain.as_str().contains('.')) {
        report(&["host_name"], format!("`{name}` is not a fully qualified host name"), cure);
    }
}

/// What concerns mail that leaves.
fn check_sending(config: &Config, report: &mut Report<'_>) {
    let outbound = &config.outbound;
    check_demands(config, report);
    for name in config.queue.messages_per_minute.keys() {
        if qmgr::destinations_of(name).is_none() {
            let cause = format!("`{name}` is no destination, so nothing limits it");
            report(
                &["queue", "messages_per_minute"],
                cause,
                "write a domain, or a transport such as \"smtp:[host]:port\"",
            );
        }
    }
    for name in &outbound.own_names {
        if Domain::parse(name).is_err() {
            let cause = format!("`{name}` is no name of a host");
            report(&["outbound", "own_names"], cause, "write names such as \"mx2.example.net\"");
        }
    }
    if !outbound.smarthost.is_empty() && directory::NextHop::parse(&outbound.smarthost).is_none() {
        let cause = format!("`{}` is no next hop", outbound.smarthost);
        report(&["outbound", "smarthost"], cause, "write \"[host]:port\", or a domain");
    }
    let mut families = Vec::new();
    for address in &outbound.source_addresses {
        match address.parse::<std::net::IpAddr>().map(|parsed| parsed.is_ipv4()) {
            Ok(family) if families.contains(&family) => {
                let cause = format!("`{address}` is the second of its family");
                report(&["outbound", "source_addresses"], cause, "write one IPv4 and one IPv6 address at most");
            }
            Ok(family) => families.push(family),
            Err(_) => {
                let cause = format!("`{address}` is no address");
                report(&["outbound", "source_addresses"], cause, "write addresses of this host, without port");
            }
        }
    }
    for (name, servers) in [("servers", &config.dns.servers), ("trusted_servers", &config.dns.trusted_servers)] {
        for server in servers.iter().filter(|server| sending::server(server).is_err()) {
            report(&["dns", name], format!("`{server}` is no server"), "write address or address:port");
        }
    }
    for (key, text) in [("forwarding.domain", &config.forwarding.domain), ("archive.address", &config.archive.address)]
    {
        let (section, name) = key.split_once('.').unwrap_or((key, ""));
        let is_fit = match section {
            "archive" => mail::Address::parse(text).is_ok(),
            _ => Domain::parse(text).is_ok(),
        };
        if !text.is_empty() && !is_fit {
            report(&[section, name], format!("`{text}` is not what it should be"), "leave it empty for the default");
        }
    }
    for (name, value) in [
        ("connections", config.queue.connections),
        ("connections_per_destination", config.queue.connections_per_destination.into()),
        ("recipients_per_delivery", config.queue.recipients_per_delivery),
        ("messages_per_connection", config.queue.messages_per_connection),
    ] {
        if value == 0 {
            report(&["queue", name], format!("with `{name} = 0` nothing is sent"), "leave it out for the default");
        }
    }
}

/// What is demanded of the way to a destination: by an entry that can be read, and by one only.
fn check_demands(config: &Config, report: &mut Report<'_>) {
    let mut destinations = HashSet::new();
    for (key, text) in &config.outbound.tls {
        let cause = match sending::demand(key, text) {
            None => format!("`{key} = {text}` demands nothing that is known"),
            Some((destination, _)) if destinations.contains(&destination) => {
                format!("two entries demand something of {destination}")
            }
            Some((destination, _)) => {
                destinations.insert(destination);
                continue;
            }
        };
        report(&["outbound", "tls", key], cause, "see `pillarbox config explain outbound.tls`");
    }
}

/// Every time in the configuration, by the unit that its name ends with.
fn check_times(config: &Config, report: &mut Report<'_>) {
    let settings = serde_json::to_value(config).unwrap_or_default();
    for (section, settings) in settings.as_object().into_iter().flatten() {
        for (name, value) in settings.as_object().into_iter().flatten() {
            let unit_seconds = match name.rsplit('_').next() {
                Some("seconds") => 1,
                Some("hours") => 3_600,
                Some("days") => 86_400,
                _ => continue,
            };
            if value.as_u64().is_some_and(|value| value > TIME_SECONDS_MAX / unit_seconds) {
                let cause = format!("`{name} = {value}` is more than ten years");
                report(&[section, name], cause, "write less, or leave it out for the default");
            }
        }
    }
}

/// Values that no type forbids and nothing works with.
fn check_values(config: &Config, report: &mut Report<'_>) {
    let limits = &config.limits;
    for (name, value) in [
        ("recipients", u64::from(limits.recipients)),
        ("hops", u64::from(limits.hops)),
        ("connections", u64::from(limits.connections)),
        ("connections_per_address", u64::from(limits.connections_per_address)),
        ("errors", u64::from(limits.errors)),
        ("message_size", limits.message_size.0),
    ] {
        if value == 0 {
            report(&["limits", name], format!("with `{name} = 0` nothing is taken"), "leave it out for the default");
        }
    }
    if config.directory.recipient_delimiter.chars().count() > 1 {
        let cause = format!("`{}` is more than one sign", config.directory.recipient_delimiter);
        report(&["directory", "recipient_delimiter"], cause, "write \"+\", or leave it out for none");
    }
    if let Err(error) = tracing_subscriber::EnvFilter::try_new(&config.log.level) {
        let cause = format!("`{}` is no level: {error}", config.log.level);
        report(&["log", "level"], cause, "write \"info\", or \"info,smtpd=debug\"");
    }
}

fn check_listeners(config: &Config, report: &mut Report<'_>) {
    let mut names = HashSet::new();
    let mut addresses = HashSet::new();
    for (index, listener) in config.listeners.iter().enumerate() {
        let place = index.to_string();
        let at = |field| ["listener", place.as_str(), field];
        if listener.name.is_empty() || !names.insert(&listener.name) {
            report(
                &at("name"),
                format!("listener {} needs a name of its own", index + 1),
                "name = \"mx\", for instance",
            );
        }
        if !is_address(&listener.address) {
            report(
                &at("address"),
                format!("`{}` is neither an address with a port nor a path", listener.address),
                "write \"127.0.0.1:25\", \"*:25\" (IPv4 and IPv6) or \"/run/pillarbox/lmtp\"",
            );
        }
        if !addresses.insert(&listener.address) {
            report(
                &at("address"),
                format!("`{}` is listened on twice", listener.address),
                "give each listener its own",
            );
        }
        check_listener_tls(config, listener, &place, report);
        for network in &listener.proxy_from {
            if !is_network(network) {
                report(
                    &at("proxy_from"),
                    format!("`{network}` is no address or network"),
                    "write \"192.0.2.1\" or \"192.0.2.0/24\"",
                );
            }
        }
        if u32::from_str_radix(&listener.socket_mode, 8).is_err() {
            report(&at("socket_mode"), format!("`{}` is no mode", listener.socket_mode), "write \"0660\"");
        }
        check_names(&listener.recipient_checks, &at("recipient_checks"), report);
        for (field, names) in [("mask", &listener.mask), ("offer", &listener.offer)] {
            for name in names.iter().filter(|name| !is_extension(listener.protocol, name)) {
                report(
                    &at(field),
                    format!("`{name}` is nothing that this protocol announces"),
                    "look at what the server announces",
                );
            }
        }
    }
}

fn check_listener_tls(config: &Config, listener: &Listener, place: &str, report: &mut Report<'_>) {
    if listener.tls != TlsMode::None && !config.certificates.iter().any(|set| set.name == listener.certificates) {
        report(
            &["listener", place, "certificates"],
            format!("there is no set of certificates named `{}`", listener.certificates),
            "name one of the [[certificates]]",
        );
    }
    if listener.tls == TlsMode::Implicit && matches!(listener.protocol, Protocol::Mx | Protocol::Metrics) {
        report(
            &["listener", place, "tls"],
            "other servers and scrapers do not begin with TLS here".into(),
            "use \"starttls\" or \"none\"",
        );
    }
    let has_logins = matches!(listener.protocol, Protocol::Submission | Protocol::Imap | Protocol::Pop3);
    if listener.tls == TlsMode::None && has_logins {
        report(
            &["listener", place, "tls"],
            "nobody could log in here: passwords are taken inside TLS only".into(),
            "use \"starttls\" or \"implicit\"",
        );
    }
}

fn check_policy(config: &Config, report: &mut Report<'_>) {
    for network in &config.policy.trusted_networks {
        if !is_network(network) {
            report(
                &["policy", "trusted_networks"],
                format!("`{network}` is no address or network"),
                "write \"127.0.0.0/8\" or \"::1\"",
            );
        }
    }
    check_names(&config.policy.recipient_checks, &["policy", "recipient_checks"], report);
}

fn check_names(names: &[String], key: &[&str], report: &mut Report<'_>) {
    if names.is_empty() {
        return;
    }
    if let Err(error) = policy::parse_checks(names) {
        report(key, error.cause, &error.cure);
    }
}

fn check_certificates(config: &Config, report: &mut Report<'_>) {
    let mut names = HashSet::new();
    for (index, set) in config.certificates.iter().enumerate() {
        let place = index.to_string();
        if !names.insert(&set.name) {
            report(&["certificates", &place, "name"], format!("two sets are named `{}`", set.name), "rename one");
        }
        if set.chains.len() != set.keys.len() || set.chains.is_empty() {
            report(
                &["certificates", &place, "keys"],
                format!("set `{}` has {} chains and {} keys", set.name, set.chains.len(), set.keys.len()),
                "give one key for each chain, in the same order",
            );
        }
    }
}

fn is_network(text: &str) -> bool {
    text.parse::<net::Network>().is_ok()
}

/// Whether a protocol can announce this. IMAP knows more capabilities than are worth listing here.
fn is_extension(protocol: Protocol, name: &str) -> bool {
    match protocol {
        Protocol::Mx | Protocol::Submission | Protocol::Lmtp => smtp_proto::Extensions::parse(name).is_some(),
        Protocol::Pop3 => pop3_proto::Capability::parse(name).is_some(),
        Protocol::Imap => true,
        Protocol::Metrics => false,
    }
}

/// `address:port`, `*:port` for IPv4 and IPv6, or a path.
fn is_address(text: &str) -> bool {
    let any = text.strip_prefix("*:").is_some_and(|port| port.parse::<u16>().is_ok());
    any || text.contains('/') || text.parse::<SocketAddr>().is_ok()
}

/// The line where a key is set, or where its table begins; `None` when the file does not mention it.
fn line_of(text: &str, key: &[&str]) -> Option<usize> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let mut line = None;
    let mut value: &toml::de::DeValue<'_> = &toml::de::DeValue::Table(document.into_inner());
    for part in key {
        let next = match value {
            toml::de::DeValue::Table(table) => {
                let Some((name, next)) = table.iter().find(|(name, _)| name.get_ref() == *part) else { break };
                line = Some(super::line_at(text, name.span().start));
                next
            }
            toml::de::DeValue::Array(array) => {
                let Some(next) = part.parse().ok().and_then(|index: usize| array.get(index)) else { break };
                line = Some(super::line_at(text, next.span().start));
                next
            }
            _ => break,
        };
        value = next.get_ref();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        let file = Path::new("pillarbox.toml");
        let config = super::super::parse(file, text).unwrap();
        Loaded { file: file.to_owned(), text: text.to_owned(), written: config.clone(), config }
            .check()
            .iter()
            .map(|f| f.to_string())
            .collect()
    }

    #[test]
    fn r196_each_fault_is_named_with_its_line() {
        let text = "host_name = \"mx.example.net\"\n\n[[listener]]\nname = \"mx\"\naddress = \"here\"\n\n[policy]\n\
                    trusted_networks = [\n  \"10.0.0.0/99\",\n]\n";
        let findings = findings(text);
        assert!(findings[0].starts_with("pillarbox.toml:5: error: `here` is neither"), "{findings:?}");
        assert!(findings[1].starts_with("pillarbox.toml:8: error: `10.0.0.0/99`"), "{findings:?}");
        assert_eq!(findings.len(), 2);
    }

    #[test]
    fn an_order_that_opens_the_relay_is_refused() {
        let findings = findings("host_name = \"mx.example.net\"\n[policy]\nrecipient_checks = [\"check_quota\"]\n");
        assert!(findings[0].contains("reject_unauth_destination"), "{findings:?}");
    }

    #[test]
    fn values_that_nothing_works_with_are_named() {
        let text = "host_name = \"mx.example.net\"\n[limits]\nrecipients = 0\n[log]\nlevel = \"a=b=c\"\n[directory]\n\
                    recipient_delimiter = \"+-\"\n[[listener]]\nname = \"imap\"\nprotocol = \"imap\"\n\
                    address = \"127.0.0.1:143\"\ntls = \"none\"\n";
        let findings = findings(text);
        for (index, start) in
            [":3: error: with `recipients", ":7: error: `+-`", ":5: error: `a=b=c`", ":12: error: nobody"]
                .into_iter()
                .enumerate()
        {
            assert!(findings[index].contains(start), "{findings:?}");
        }
        assert_eq!(findings.len(), 4);
    }

    /// One entry a destination, whatever its spelling: what is demanded of a way is never left out.
    #[test]
    fn rates_are_of_destinations_as_the_queue_names_them() {
        let host = "host_name = \"mx.example.net\"\n[queue]\n";
        let [cause] = &findings(&format!("{host}messages_per_minute = {{ \"a b\" = 1 }}\n"))[..] else { panic!() };
        assert!(cause.contains(":3: error: `a b` is no destination"), "{cause}");
        let queue = crate::config::sending::Queue {
            messages_per_minute: [("B.Example".to_owned(), 60)].into(),
            ..Default::default()
        };
        let limits = queue.schedule().limits_of;
        let names: Vec<&str> = limits.keys().map(queue::DestinationKey::as_str).collect();
        let of = |name: &str| ["", " requiretls", " tls-optional"].map(|mark| format!("{name}{mark}"));
        assert_eq!(names, [of("relay:b.example"), of("smtp:b.example")].concat());
        assert!(limits.values().all(|limits| limits.rate.is_some_and(|rate| rate.per_minute.get() == 60)));
    }

    #[test]
    fn r208_demands_on_destinations_are_read_or_refused() {
        let host = "host_name = \"mx.example.net\"\n[outbound.tls]\n";
        assert_eq!(findings(&format!("{host}\"B\u{fc}cher.example\" = \"verify\"\n\".example\" = \"may\"\n")), [""; 0]);
        let meant = sending::demand("B\u{fc}cher.example", "verify").unwrap().0;
        assert_eq!(meant, "xn--bcher-kva.example", "as domains of recipients are compared");
        for (entries, start) in [
            ("\"a.example\" = \"may\"\n\"a b\" = \"may\"", ":4: error: `a b = may` demands nothing"),
            ("\"a.example\" = \"verify us\"", ":3: error: `a.example = verify us` demands nothing"),
            (
                "\"A.example\" = \"may\"\n\"a.example\" = \"verify\"",
                ":4: error: two entries demand something of a.example",
            ),
        ] {
            let findings = findings(&format!("{host}{entries}\n"));
            assert!(findings.len() == 1 && findings[0].contains(start), "{findings:?}");
        }
        let own = findings("host_name = \"mx.example.net\"\n[outbound]\nown_names = [\"a b\"]\n");
        assert!(own[0].contains(":3: error: `a b` is no name of a host"), "{own:?}");
        let sources = |list: &str| {
            findings(&format!("host_name = \"mx.example.net\"\n[outbound]\nsource_addresses = [{list}]\n"))
        };
        assert_eq!(sources("\"192.0.2.1\", \"2001:db8::1\""), [""; 0]);
        let twice = sources("\"192.0.2.1\", \"192.0.2.2\"");
        assert!(twice[0].contains(":3: error: `192.0.2.2` is the second of its family"), "{twice:?}");
    }

    /// Every time that can be set, whichever is added later: none is so long that sums with it run over.
    #[test]
    fn times_beyond_ten_years_are_named() {
        let is_time = |key: &str| ["seconds", "hours", "days"].iter().any(|unit| key.ends_with(unit));
        let settings = super::super::explain("");
        let times: Vec<&str> = settings.iter().map(|setting| setting.key.as_str()).filter(|key| is_time(key)).collect();
        assert!(times.len() >= 10, "{times:?}");
        for key in times {
            let (section, name) = key.split_once('.').unwrap();
            let with = |time: u64| findings(&format!("host_name = \"mx.example.net\"\n[{section}]\n{name} = {time}\n"));
            let findings = with(4_000_000_000);
            assert!(
                findings.len() == 1 && findings[0].contains(&format!(":3: error: `{name} = 4000000000` is")),
                "{findings:?}"
            );
            assert_eq!(with(3_650), [""; 0], "{key}");
        }
        let plan = sending::Queue { life_hours: u64::MAX, ..sending::Queue::default() }.plan();
        assert_eq!(plan.life.as_secs(), u64::MAX);
    }

    #[test]
    fn a_host_name_is_needed() {
        assert!(findings("")[0].contains("there is no host_name"));
        assert!(findings("host_name = \"localhost\"")[0].contains("not a fully qualified"));
    }
}
