//! Which protection a connection to a host must have: the decision, as a pure function.

use crate::dane::{self, NextHop};
use crate::mta_sts::{Mode, Policy};
use crate::reference_name::ReferenceName;
use crate::tls_rpt::{AppliedPolicy, ResultType};
use crate::tlsa_search::TlsaFinding;
use dns::{Failure, Name, Tlsa};
use mail::EnhancedStatus;
use mail::RequireTls;

/// What is known about a host before it is connected to.
#[derive(Debug, Clone)]
pub struct Circumstances<'a> {
    /// Where the mail goes: the recipient's domain, or the smarthost that stands in its place.
    pub next_hop: &'a NextHop,
    /// The host; `None` for an address literal, to which no policy but the configured one applies (RFC 7672 §2.2).
    pub host: Option<&'a Name>,
    /// How the host was found.
    pub mx: MxSecurity,
    /// Its TLSA records.
    pub tlsa: &'a TlsaFinding,
    /// The MTA-STS policy of the next hop that holds now, fetched or remembered.
    pub sts: Option<&'a Policy>,
    /// What the configuration wants for this destination.
    pub level: &'a Level,
    /// What the message wants.
    pub demand: RequireTls,
}

/// How a host was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MxSecurity {
    /// By MX records that DNSSEC vouches for, each alias on the way included.
    Secure,
    /// By MX records that anybody could have forged.
    Insecure,
    /// Without MX records: it is the domain itself, or a host from the configuration.
    NotUsed,
}

/// What the configuration wants for a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Level {
    /// No TLS, for peers whose TLS is broken.
    Clear,
    /// TLS where the peer offers it; policies of the domain are not asked for.
    Opportunistic,
    /// TLS always, no matter with whom; policies of the domain are not asked for.
    Encrypted,
    /// What the domain publishes, by DANE or MTA-STS; TLS where the peer offers it if it publishes nothing. The default.
    Published,
    /// TLS authenticated by DANE, or no delivery (RFC 7672 §6).
    DaneOnly,
    /// A trusted certificate that carries the name of the host.
    Verify,
    /// A trusted certificate that carries the name of the next hop or of a host below it, so that forged MX records gain
    /// nothing.
    Secure,
    /// A trusted certificate that carries one of these names.
    Names(Vec<ReferenceName>),
    /// A certificate or key with one of these digests, from [`dane::fingerprint`].
    Fingerprint(Vec<Tlsa>),
}

/// The protection that a connection must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protection {
    /// None; STARTTLS is not used.
    Clear,
    /// TLS if it comes about, clear text if not.
    Opportunistic,
    /// TLS, with whomever.
    Encrypted,
    /// TLS with a server that DANE authenticates.
    Dane {
        /// The TLSA base domain, which is also the name to ask the server for (RFC 7672 §8.1).
        base: Name,
        /// Usable records, at least one.
        records: Vec<Tlsa>,
        /// The names of which the certificate must carry one, where a record is about an authority.
        names: Vec<Name>,
        /// Whether the next hop is authenticated by it. It is not when the host was found by forgeable MX records, and
        /// logs must not say that it is (RFC 7672 §2.2.1).
        is_next_hop_proved: bool,
    },
    /// TLS with a server that has a trusted certificate.
    Webpki {
        /// The names of which the certificate must carry one.
        names: Vec<ReferenceName>,
        /// Who wants it.
        reason: WebpkiReason,
    },
    /// TLS with a server whose certificate or key is one of these.
    Fingerprint {
        /// Records of usage 3.
        records: Vec<Tlsa>,
    },
    /// The host must not be used for this message.
    Refuse {
        /// The status of the attempt.
        status: EnhancedStatus,
        /// The cause, in words.
        cause: String,
        /// What reports call it.
        result: ResultType,
    },
}

/// Who wants a trusted certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebpkiReason {
    /// The domain's MTA-STS policy.
    MtaSts,
    /// The configuration.
    Configured,
    /// The message, by REQUIRETLS.
    RequireTls,
}

/// What an MTA-STS policy in testing mode has to say; it is reported and changes nothing (V44).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// The policy does not allow the host.
    HostMismatch,
    /// The policy wants TLS with a trusted certificate for the host.
    Certificate,
}

/// The decision about one host and one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The protection that a connection must have.
    pub protection: Protection,
    /// What to look at besides, for the report only; with [`Protection::Opportunistic`] only.
    pub observe: Option<Observation>,
    /// The policy that was applied, for the report.
    pub applied: AppliedPolicy,
    /// Whether the message demands TLS, and goes back where it falls short. That the server announces REQUIRETLS as well is
    /// for the session to see (RFC 8689 §4.2.1).
    pub require_tls: bool,
}

/// How a connection can fall short of its protection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmet {
    /// The peer does not offer STARTTLS, or refuses the command.
    NoStartTls,
    /// The handshake failed, or the certificate is not what it must be.
    Handshake,
}

impl Decision {
    /// The status of an attempt that fell short; `None` where the protection does without TLS, so that clear text is the
    /// way on. Temporary (RFC 7672 §2.2, RFC 8461 §5), except that a message that demands TLS goes back once all hosts
    /// were tried (RFC 8689 §4.2.1).
    pub fn status_when(&self, unmet: Unmet) -> Option<EnhancedStatus> {
        match (&self.protection, unmet, self.require_tls) {
            (Protection::Clear | Protection::Opportunistic, _, _) => None,
            (Protection::Refuse { status, .. }, _, _) => Some(*status),
            (_, _, true) => Some(ENCRYPTION_NEEDED),
            (_, Unmet::NoStartTls, false) => Some(FEATURE_MISSING),
            (_, Unmet::Handshake, false) => Some(CRYPTOGRAPHIC_FAILURE),
        }
    }
}

/// Decides for one host and one message.
///
/// With the level `Published`, and an ordinary message, the first row that fits (V43, V44). "STS enforces" means that
/// there is a policy in mode `enforce`; one in mode `none` is no policy.
///
/// | TLSA | MX | STS enforces | host allowed | protection |
/// | --- | --- | --- | --- | --- |
/// | lookup failed or bogus | | | | refuse, temporary: RFC 7672 §2.1.2 |
/// | usable | secure or not used | | | DANE, which MTA-STS cannot override: RFC 8461 §2 |
/// | usable | insecure | yes | no | refuse, temporary: forged MX records could lead to a host with DANE |
/// | usable | insecure | otherwise | | DANE, the next hop not being proved: RFC 7672 §2.2.1 |
/// | none, or none usable | | yes | no | refuse, temporary: RFC 8461 §5 |
/// | none, or none usable | | yes | yes | trusted certificate for the host: RFC 8461 §4.2 |
/// | none usable | | no | | TLS, unauthenticated: RFC 7672 §2.2 |
/// | none | | no | | opportunistic; a policy in mode `testing` is observed |
///
/// With the level `DaneOnly`: a failed lookup, insecure MX records, and the lack of usable records refuse for now (RFC 7672
/// §2.2.1, §6); otherwise DANE. The other levels are the administrator's word about this destination, and what the domain
/// publishes is not looked at.
///
/// A message with `TLS-Required: No` is under the row "none, no" of the table whatever is published (RFC 8689 §4.2.2); what
/// the configuration demands remains.
///
/// A message with REQUIRETLS is refused for good where the level is `Clear`, where the name of the host is proved by
/// neither MX records nor an MTA-STS policy, in testing or not (RFC 8689 §4.2.1), and where a host without a name is not
/// authenticated by the configuration. What else would be opportunistic or unauthenticated becomes a trusted certificate for
/// the host. Refusals that the table calls temporary remain so.
pub fn decide(circumstances: &Circumstances<'_>) -> Decision {
    let sts = circumstances.sts.filter(|policy| policy.mode != Mode::None);
    let published = Published::of(circumstances, sts);
    let (protection, applied, observe) = match circumstances.level {
        Level::Published => published.decide(circumstances),
        Level::DaneOnly => published.decide_dane_only(circumstances),
        level => (configured(level, circumstances), AppliedPolicy::none(&circumstances.next_hop.domain), None),
    };
    let require_tls = circumstances.demand == RequireTls::Required;
    let protection = if require_tls { with_require_tls(protection, circumstances, sts) } else { protection };
    // What is demanded anyway needs no looking at besides.
    let observe = observe.filter(|_| protection == Protection::Opportunistic);
    Decision { protection, observe, applied, require_tls }
}

type Choice = (Protection, AppliedPolicy, Option<Observation>);

/// What the domain publishes.
struct Published<'a> {
    /// The records that can be used, of those that are there.
    usable: Vec<Tlsa>,
    /// A policy that is in force or in testing.
    sts: Option<&'a Policy>,
    is_host_allowed: bool,
}

impl<'a> Published<'a> {
    fn of(circumstances: &Circumstances<'_>, sts: Option<&'a Policy>) -> Published<'a> {
        let usable = match circumstances.tlsa {
            TlsaFinding::Present { records, .. } => dane::usable(records),
            TlsaFinding::NotSought | TlsaFinding::Absent | TlsaFinding::Failed(_) => Vec::new(),
        };
        Published { usable, sts, is_host_allowed: is_allowed(sts, circumstances.host) }
    }

    fn decide(self, circumstances: &Circumstances<'_>) -> Choice {
        let domain = &circumstances.next_hop.domain;
        if circumstances.demand == RequireTls::Optional {
            return (Protection::Opportunistic, AppliedPolicy::none(domain), None);
        }
        let enforced = self.sts.filter(|policy| policy.mode == Mode::Enforce);
        match circumstances.tlsa {
            TlsaFinding::Failed(failure) => return failed_lookup(failure, circumstances),
            TlsaFinding::Present { base, records } if !self.usable.is_empty() => {
                let forged = circumstances.mx == MxSecurity::Insecure && !self.is_host_allowed;
                return match enforced {
                    Some(policy) if forged => host_mismatch(policy, circumstances),
                    _ => self.dane(base, records, circumstances),
                };
            }
            TlsaFinding::Present { .. } | TlsaFinding::NotSought | TlsaFinding::Absent => {}
        }
        match (enforced, circumstances.tlsa) {
            (Some(policy), _) if !self.is_host_allowed => host_mismatch(policy, circumstances),
            (Some(policy), _) => {
                let protection = webpki_for_host(circumstances, WebpkiReason::MtaSts);
                (protection, AppliedPolicy::sts(domain, policy), None)
            }
            (None, TlsaFinding::Present { base, records }) => {
                (Protection::Encrypted, AppliedPolicy::tlsa(base, records), None)
            }
            (None, _) => match self.sts {
                Some(testing) => {
                    let observation =
                        if self.is_host_allowed { Observation::Certificate } else { Observation::HostMismatch };
                    (Protection::Opportunistic, AppliedPolicy::sts(domain, testing), Some(observation))
                }
                None => (Protection::Opportunistic, AppliedPolicy::none(domain), None),
            },
        }
    }

    /// RFC 7672 §6.
    fn decide_dane_only(self, circumstances: &Circumstances<'_>) -> Choice {
        match circumstances.tlsa {
            TlsaFinding::Failed(failure) => failed_lookup(failure, circumstances),
            TlsaFinding::Present { base, records } if circumstances.mx == MxSecurity::Insecure => {
                let cause = "DANE is demanded, but the MX records are not proved by DNSSEC";
                (refuse_for_now(cause, ResultType::DaneRequired), AppliedPolicy::tlsa(base, records), None)
            }
            TlsaFinding::Present { base, records } if self.usable.is_empty() => {
                let cause = format!("DANE is demanded, but none of the TLSA records of {base} is usable");
                (refuse_for_now(&cause, ResultType::TlsaInvalid), AppliedPolicy::tlsa(base, records), None)
            }
            TlsaFinding::Present { base, records } => self.dane(base, records, circumstances),
            TlsaFinding::NotSought | TlsaFinding::Absent => {
                let cause = "DANE is demanded, but there are no TLSA records proved by DNSSEC";
                let applied = AppliedPolicy::none(&circumstances.next_hop.domain);
                (refuse_for_now(cause, ResultType::DaneRequired), applied, None)
            }
        }
    }

    fn dane(self, base: &Name, records: &[Tlsa], circumstances: &Circumstances<'_>) -> Choice {
        let mx_is_secure = match circumstances.mx {
            MxSecurity::Secure => Some(true),
            MxSecurity::Insecure => Some(false),
            MxSecurity::NotUsed => None,
        };
        let protection = Protection::Dane {
            base: base.clone(),
            records: self.usable,
            names: dane::reference_names(base, circumstances.next_hop, mx_is_secure),
            is_next_hop_proved: mx_is_secure != Some(false),
        };
        (protection, AppliedPolicy::tlsa(base, records), None)
    }
}

fn is_allowed(policy: Option<&Policy>, host: Option<&Name>) -> bool {
    policy.zip(host).is_some_and(|(policy, host)| policy.allows(host))
}

fn failed_lookup(failure: &Failure, circumstances: &Circumstances<'_>) -> Choice {
    // RFC 8460 §4.3.2.1 calls it `dnssec-invalid` when the resolver has nothing valid to give, whatever the reason.
    let cause = format!("the TLSA records cannot be looked up: {failure}");
    let host = circumstances.host.unwrap_or(&circumstances.next_hop.domain);
    (refuse_for_now(&cause, ResultType::DnssecInvalid), AppliedPolicy::tlsa(host, &[]), None)
}

fn host_mismatch(policy: &Policy, circumstances: &Circumstances<'_>) -> Choice {
    let domain = &circumstances.next_hop.domain;
    let cause = format!("the MTA-STS policy of {domain} does not allow this host");
    (refuse_for_now(&cause, ResultType::CertificateHostMismatch), AppliedPolicy::sts(domain, policy), None)
}

fn refuse_for_now(cause: &str, result: ResultType) -> Protection {
    Protection::Refuse { status: CRYPTOGRAPHIC_FAILURE, cause: cause.to_owned(), result }
}

/// A trusted certificate for the host, where it has a name.
fn webpki_for_host(circumstances: &Circumstances<'_>, reason: WebpkiReason) -> Protection {
    match circumstances.host {
        Some(host) => Protection::Webpki { names: vec![ReferenceName::Host(host.clone())], reason },
        None => refuse_for_now("no certificate can vouch for an address", ResultType::CertificateHostMismatch),
    }
}

/// Levels that leave nothing to what is published.
fn configured(level: &Level, circumstances: &Circumstances<'_>) -> Protection {
    let reason = WebpkiReason::Configured;
    match level {
        Level::Clear => Protection::Clear,
        Level::Opportunistic | Level::Published | Level::DaneOnly => Protection::Opportunistic,
        Level::Encrypted => Protection::Encrypted,
        Level::Verify => webpki_for_host(circumstances, reason),
        Level::Secure => {
            let domain = &circumstances.next_hop.domain;
            let names = vec![ReferenceName::Host(domain.clone()), ReferenceName::Below(domain.clone())];
            Protection::Webpki { names, reason }
        }
        Level::Names(names) => Protection::Webpki { names: names.clone(), reason },
        Level::Fingerprint(records) => Protection::Fingerprint { records: records.clone() },
    }
}

/// RFC 8689 §4.2.1.
fn with_require_tls(protection: Protection, circumstances: &Circumstances<'_>, sts: Option<&Policy>) -> Protection {
    let refuse = |cause: &str| {
        let (cause, result) = (cause.to_owned(), ResultType::ValidationFailure);
        Protection::Refuse { status: ENCRYPTION_NEEDED, cause, result }
    };
    let is_host_proved = circumstances.mx != MxSecurity::Insecure || is_allowed(sts, circumstances.host);
    match protection {
        Protection::Refuse { .. } => protection,
        Protection::Clear => refuse("the message demands TLS, which is switched off for this destination"),
        _ if !is_host_proved => refuse("the message demands TLS to a host whose name is proved, and this one's is not"),
        Protection::Opportunistic | Protection::Encrypted if circumstances.host.is_none() => {
            refuse("the message demands TLS to a host whose name is proved, and an address has none")
        }
        Protection::Opportunistic | Protection::Encrypted => webpki_for_host(circumstances, WebpkiReason::RequireTls),
        Protection::Dane { .. } | Protection::Webpki { .. } | Protection::Fingerprint { .. } => protection,
    }
}

/// RFC 3463 §3.8: security features not supported.
const FEATURE_MISSING: EnhancedStatus = EnhancedStatus::new(4, 7, 4);
/// RFC 3463 §3.8: cryptographic failure. R208.
const CRYPTOGRAPHIC_FAILURE: EnhancedStatus = EnhancedStatus::new(4, 7, 5);
/// RFC 8689 §4.2.1: encryption needed.
const ENCRYPTION_NEEDED: EnhancedStatus = EnhancedStatus::new(5, 7, 10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls_rpt::PolicyKind;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn policy(mode: &str, mx: &str) -> Policy {
        Policy::parse(format!("version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 86400\n").as_bytes()).unwrap()
    }

    fn present(usage: u8) -> TlsaFinding {
        let record = Tlsa { usage, selector: 1, matching: 1, data: vec![7; 32] };
        TlsaFinding::Present { base: name("mx.example.com"), records: vec![record] }
    }

    const ALLOWED: &str = "mx.example.net";
    const NOT_ALLOWED: &str = "other.example.net";
    const MX: [MxSecurity; 3] = [MxSecurity::Secure, MxSecurity::Insecure, MxSecurity::NotUsed];

    struct Case {
        mx: MxSecurity,
        tlsa: TlsaFinding,
        sts: Option<Policy>,
        level: Level,
        demand: RequireTls,
    }

    impl Case {
        fn new(mx: MxSecurity, tlsa: &TlsaFinding, sts: Option<Policy>) -> Case {
            Case { mx, tlsa: tlsa.clone(), sts, level: Level::Published, demand: RequireTls::Ordinary }
        }

        fn decide(&self) -> Decision {
            let next_hop = NextHop::plain(name("example.net"));
            decide(&Circumstances {
                next_hop: &next_hop,
                host: Some(&name("mx.example.net")),
                mx: self.mx,
                tlsa: &self.tlsa,
                sts: self.sts.as_ref(),
                level: &self.level,
                demand: self.demand,
            })
        }

        fn with(mut self, level: Level, demand: RequireTls) -> Decision {
            (self.level, self.demand) = (level, demand);
            self.decide()
        }
    }

    /// One word for a protection, with its class for a refusal.
    fn word(decision: &Decision) -> &'static str {
        match &decision.protection {
            Protection::Clear => "clear",
            Protection::Opportunistic => "opportunistic",
            Protection::Encrypted => "encrypted",
            Protection::Dane { is_next_hop_proved: true, .. } => "dane",
            Protection::Dane { is_next_hop_proved: false, .. } => "dane, next hop unproved",
            Protection::Webpki { .. } => "webpki",
            Protection::Fingerprint { .. } => "fingerprint",
            Protection::Refuse { status, .. } if status.class == 4 => "refuse for now",
            Protection::Refuse { .. } => "refuse",
        }
    }

    fn policies() -> Vec<Option<Policy>> {
        let mut policies = vec![None];
        for mode in ["enforce", "testing", "none"] {
            policies.extend([ALLOWED, NOT_ALLOWED].map(|mx| Some(policy(mode, mx))));
        }
        policies
    }

    /// V43, row 1: whatever else is there.
    #[test]
    fn v43_a_lookup_that_failed_is_never_a_way_around() {
        for failure in [Failure::Bogus("forged".into()), Failure::Failed("SERVFAIL".into())] {
            let tlsa = TlsaFinding::Failed(failure);
            for (mx, sts) in MX.into_iter().flat_map(|mx| policies().into_iter().map(move |sts| (mx, sts))) {
                for level in [Level::Published, Level::DaneOnly] {
                    for demand in [RequireTls::Ordinary, RequireTls::Required] {
                        let decision = Case::new(mx, &tlsa, sts.clone()).with(level.clone(), demand);
                        let Protection::Refuse { status, cause, result } = &decision.protection else { panic!() };
                        assert_eq!(*status, EnhancedStatus::new(4, 7, 5), "R208");
                        assert_eq!(*result, ResultType::DnssecInvalid);
                        assert!(cause.contains("forged") || cause.contains("SERVFAIL"), "{cause}");
                        assert_eq!(decision.applied.kind, PolicyKind::Tlsa);
                    }
                }
            }
        }
    }

    /// Rows 2 to 4.
    #[test]
    fn v44_dane_wins_over_mta_sts() {
        for usage in [2, 3] {
            for sts in policies() {
                for mx in [MxSecurity::Secure, MxSecurity::NotUsed] {
                    let decision = Case::new(mx, &present(usage), sts.clone()).decide();
                    assert_eq!(word(&decision), "dane", "{mx:?} {sts:?}");
                    assert_eq!((decision.applied.kind, decision.observe), (PolicyKind::Tlsa, None));
                    assert_eq!(decision.applied.domain, "mx.example.com");
                }
                let decision = Case::new(MxSecurity::Insecure, &present(usage), sts.clone()).decide();
                let is_forged =
                    sts.as_ref().is_some_and(|sts| sts.mode == Mode::Enforce && !sts.allows(&name(ALLOWED)));
                let expected = if is_forged { "refuse for now" } else { "dane, next hop unproved" };
                assert_eq!(word(&decision), expected, "{sts:?}");
            }
        }
        let names = |mx| match Case::new(mx, &present(2), None).decide().protection {
            Protection::Dane { names, .. } => names.iter().map(Name::to_string).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(names(MxSecurity::Secure), ["mx.example.com", "example.net"]);
        assert_eq!(names(MxSecurity::Insecure), ["mx.example.com"]);
    }

    /// Rows 5 to 8, for every way of having no usable record.
    #[test]
    fn v44_the_table_without_usable_records() {
        for mx in MX {
            for (tlsa, unpublished) in [
                (TlsaFinding::Absent, "opportunistic"),
                (TlsaFinding::NotSought, "opportunistic"),
                (present(0), "encrypted"),
                (present(1), "encrypted"),
                (present(9), "encrypted"),
            ] {
                for (sts, expected, observe) in [
                    (None, unpublished, None),
                    (Some(policy("none", ALLOWED)), unpublished, None),
                    (Some(policy("testing", ALLOWED)), unpublished, Some(Observation::Certificate)),
                    (Some(policy("testing", NOT_ALLOWED)), unpublished, Some(Observation::HostMismatch)),
                    (Some(policy("enforce", ALLOWED)), "webpki", None),
                    (Some(policy("enforce", NOT_ALLOWED)), "refuse for now", None),
                ] {
                    let decision = Case::new(mx, &tlsa, sts.clone()).decide();
                    assert_eq!(word(&decision), expected, "{mx:?} {tlsa:?} {sts:?}");
                    let observe = observe.filter(|_| unpublished == "opportunistic");
                    assert_eq!(decision.observe, observe, "{mx:?} {tlsa:?} {sts:?}");
                    let kind = match (expected, observe) {
                        ("encrypted", _) => PolicyKind::Tlsa,
                        ("opportunistic", None) => PolicyKind::None,
                        _ => PolicyKind::Sts,
                    };
                    assert_eq!(decision.applied.kind, kind, "{mx:?} {tlsa:?} {sts:?}");
                }
            }
        }
        let enforced = Case::new(MxSecurity::Insecure, &TlsaFinding::Absent, Some(policy("enforce", ALLOWED))).decide();
        let names = vec![ReferenceName::Host(name("mx.example.net"))];
        assert_eq!(enforced.protection, Protection::Webpki { names, reason: WebpkiReason::MtaSts });
        let refused =
            Case::new(MxSecurity::Secure, &TlsaFinding::Absent, Some(policy("enforce", NOT_ALLOWED))).decide();
        let Protection::Refuse { status, result, .. } = refused.protection else { panic!() };
        assert_eq!((status, result), (CRYPTOGRAPHIC_FAILURE, ResultType::CertificateHostMismatch));
    }

    /// RFC 7672 §6.
    #[test]
    fn dane_may_be_demanded() {
        let word = |mx, tlsa: &TlsaFinding| {
            let decision =
                Case::new(mx, tlsa, Some(policy("enforce", ALLOWED))).with(Level::DaneOnly, RequireTls::Ordinary);
            let result = match &decision.protection {
                Protection::Refuse { result, .. } => Some(*result),
                _ => None,
            };
            (self::word(&decision), result)
        };
        let refused = |result| ("refuse for now", Some(result));
        for mx in [MxSecurity::Secure, MxSecurity::NotUsed] {
            assert_eq!(word(mx, &present(3)), ("dane", None));
            assert_eq!(word(mx, &present(1)), refused(ResultType::TlsaInvalid));
            assert_eq!(word(mx, &TlsaFinding::Absent), refused(ResultType::DaneRequired));
            assert_eq!(word(mx, &TlsaFinding::NotSought), refused(ResultType::DaneRequired));
        }
        assert_eq!(word(MxSecurity::Insecure, &present(3)), refused(ResultType::DaneRequired));
        // `TLS-Required: No` is about what is published, not about what we demand.
        let decision =
            Case::new(MxSecurity::Secure, &TlsaFinding::Absent, None).with(Level::DaneOnly, RequireTls::Optional);
        assert_eq!(self::word(&decision), "refuse for now");
    }

    #[test]
    fn the_configuration_has_the_last_word() {
        let pin = dane::fingerprint(&"ab".repeat(32)).unwrap().to_vec();
        for tlsa in [TlsaFinding::Absent, present(3), TlsaFinding::Failed(Failure::Failed("x".into()))] {
            for (level, expected) in [
                (Level::Clear, "clear"),
                (Level::Opportunistic, "opportunistic"),
                (Level::Encrypted, "encrypted"),
                (Level::Verify, "webpki"),
                (Level::Secure, "webpki"),
                (Level::Names(vec![]), "webpki"),
                (Level::Fingerprint(pin.clone()), "fingerprint"),
            ] {
                for demand in [RequireTls::Ordinary, RequireTls::Optional] {
                    let case = Case::new(MxSecurity::Insecure, &tlsa, Some(policy("enforce", NOT_ALLOWED)));
                    let decision = case.with(level.clone(), demand);
                    assert_eq!(word(&decision), expected, "{level:?}");
                    assert_eq!(decision.applied.kind, PolicyKind::None);
                }
            }
        }
        let secure =
            Case::new(MxSecurity::Insecure, &TlsaFinding::Absent, None).with(Level::Secure, RequireTls::Ordinary);
        let Protection::Webpki { names, reason: WebpkiReason::Configured } = secure.protection else { panic!() };
        assert_eq!(names.iter().map(ReferenceName::to_string).collect::<Vec<_>>(), ["example.net", ".example.net"]);
    }

    /// RFC 8689 §4.2.1.
    #[test]
    fn a_message_may_demand_tls() {
        let tlsa = [TlsaFinding::Absent, present(1), present(3)];
        for (mx, tlsa) in MX.into_iter().flat_map(|mx| tlsa.iter().map(move |tlsa| (mx, tlsa))) {
            for sts in policies() {
                let vouched = sts.as_ref().is_some_and(|sts| sts.mode != Mode::None && sts.allows(&name(ALLOWED)));
                let ordinary = word(&Case::new(mx, tlsa, sts.clone()).decide());
                let expected = match ordinary {
                    "refuse for now" => "refuse for now",
                    _ if mx == MxSecurity::Insecure && !vouched => "refuse",
                    "opportunistic" | "encrypted" => "webpki",
                    other => other,
                };
                let decision = Case::new(mx, tlsa, sts.clone()).with(Level::Published, RequireTls::Required);
                assert_eq!(word(&decision), expected, "{mx:?} {tlsa:?} {sts:?}");
                assert!(decision.require_tls);
            }
        }
        let with_level = |level| {
            let decision = Case::new(MxSecurity::Secure, &TlsaFinding::Absent, None).with(level, RequireTls::Required);
            word(&decision)
        };
        assert_eq!(with_level(Level::Clear), "refuse");
        assert_eq!(with_level(Level::Opportunistic), "webpki");
        assert_eq!(with_level(Level::Encrypted), "webpki");
        assert_eq!(with_level(Level::Secure), "webpki");
        assert_eq!(with_level(Level::DaneOnly), "refuse for now");
    }

    /// RFC 8689 §4.2.2.
    #[test]
    fn a_message_may_do_without_tls() {
        for tlsa in [TlsaFinding::Absent, present(1), present(3), TlsaFinding::Failed(Failure::Failed("x".into()))] {
            for sts in policies() {
                let decision = Case::new(MxSecurity::Secure, &tlsa, sts).with(Level::Published, RequireTls::Optional);
                assert_eq!((word(&decision), decision.observe), ("opportunistic", None));
            }
        }
    }

    #[test]
    fn addresses_have_no_names() {
        let next_hop = NextHop::plain(name("example.net"));
        let names = || Level::Names(vec![ReferenceName::Host(name("mx.example.net"))]);
        for (level, demand, expected) in [
            (Level::Published, RequireTls::Ordinary, "opportunistic"),
            (Level::Encrypted, RequireTls::Ordinary, "encrypted"),
            (Level::Verify, RequireTls::Ordinary, "refuse for now"),
            // RFC 8689 §4.2.1: no later try would prove a name.
            (Level::Published, RequireTls::Required, "refuse"),
            (Level::Encrypted, RequireTls::Required, "refuse"),
            (names(), RequireTls::Required, "webpki"),
            (Level::Fingerprint(Vec::new()), RequireTls::Required, "fingerprint"),
        ] {
            let decision = decide(&Circumstances {
                next_hop: &next_hop,
                host: None,
                mx: MxSecurity::NotUsed,
                tlsa: &TlsaFinding::NotSought,
                sts: None,
                level: &level,
                demand,
            });
            assert_eq!(word(&decision), expected, "{level:?}");
            if expected == "refuse" {
                let Protection::Refuse { status, .. } = decision.protection else { panic!() };
                assert_eq!(status, EnhancedStatus::new(5, 7, 10));
            }
        }
    }

    #[test]
    fn what_falls_short_has_a_status() {
        let status = |tlsa: &TlsaFinding, demand, unmet| {
            let decision = Case::new(MxSecurity::Secure, tlsa, None).with(Level::Published, demand);
            decision.status_when(unmet).map(|status| status.to_string())
        };
        let text = |text: &str| Some(text.to_owned());
        let (ordinary, required) = (RequireTls::Ordinary, RequireTls::Required);
        assert_eq!(status(&present(3), ordinary, Unmet::NoStartTls), text("4.7.4"));
        assert_eq!(status(&present(1), ordinary, Unmet::NoStartTls), text("4.7.4"));
        assert_eq!(status(&present(3), ordinary, Unmet::Handshake), text("4.7.5"), "R208");
        assert_eq!(status(&TlsaFinding::Absent, ordinary, Unmet::NoStartTls), None, "R208: clear text");
        assert_eq!(status(&TlsaFinding::Absent, ordinary, Unmet::Handshake), None);
        assert_eq!(status(&TlsaFinding::Absent, required, Unmet::NoStartTls), text("5.7.10"));
        assert_eq!(status(&present(3), required, Unmet::Handshake), text("5.7.10"));
        let failed = TlsaFinding::Failed(Failure::Failed("x".into()));
        assert_eq!(status(&failed, ordinary, Unmet::Handshake), text("4.7.5"));
    }
}
