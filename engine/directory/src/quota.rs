//! Quota rules: `*:storage=2G`, `*:bytes=10M`, `*:messages=1000`, and how they change the default.

use mail::Quota;

/// The limits of accounts whose line says nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaDefaults {
    /// Octets; `None` for no limit.
    pub octets_max: Option<u64>,
    /// Messages; `None` for no limit.
    pub messages_max: Option<u64>,
    /// How far one last delivery may go beyond the limit on octets, in hundredths of that limit.
    pub grace_percent: u8,
}

impl Default for QuotaDefaults {
    /// 1 GiB, as many messages as fit, a tenth of grace.
    fn default() -> QuotaDefaults {
        QuotaDefaults { octets_max: Some(1 << 30), messages_max: None, grace_percent: 10 }
    }
}

/// What a line says of its account's quota: outer `None` leaves the default, inner `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QuotaOverride {
    /// Octets.
    pub octets: Option<Option<u64>>,
    /// Messages.
    pub messages: Option<Option<u64>>,
}

impl QuotaOverride {
    /// Takes one rule, `mailbox:limit[:limit…]`. Only the rule for all mailboxes, `*`, is known. A limit of zero means
    /// none, as does the word `ignore`.
    pub fn apply(&mut self, rule: &str) -> Result<(), &'static str> {
        let Some(limits) = rule.strip_prefix("*:") else { return Err("only rules for all mailboxes, *, are known") };
        let mut changed = *self;
        for limit in limits.split(':') {
            let some = |number: u64| Some((number > 0).then_some(number));
            match limit.split_once('=') {
                // Storage without a unit counts in KiB, bytes in octets; this is how the rules have always been read.
                Some(("storage", amount)) => changed.octets = some(octets(amount, 1 << 10)?),
                Some(("bytes", amount)) => changed.octets = some(octets(amount, 1)?),
                Some(("messages", count)) => changed.messages = some(number(count)?),
                None if limit == "ignore" => changed = QuotaOverride { octets: Some(None), messages: Some(None) },
                _ => return Err("a limit is storage=, bytes= or messages="),
            }
        }
        *self = changed;
        Ok(())
    }

    /// The rule that says the same; `None` when nothing differs from the default.
    pub fn rule(&self) -> Option<String> {
        let octets = self.octets.map(|octets| format!(":bytes={}", octets.unwrap_or(0)));
        let messages = self.messages.map(|messages| format!(":messages={}", messages.unwrap_or(0)));
        (octets.is_some() || messages.is_some())
            .then(|| format!("*{}{}", octets.unwrap_or_default(), messages.unwrap_or_default()))
    }

    /// The limits of an account.
    pub fn over(&self, defaults: &QuotaDefaults) -> Quota {
        let octets_max = self.octets.unwrap_or(defaults.octets_max);
        let hundredth = |max: u64| u128::from(max) * u128::from(defaults.grace_percent) / 100;
        Quota {
            octets_max,
            messages_max: self.messages.unwrap_or(defaults.messages_max),
            grace_octets: octets_max.map_or(0, |max| u64::try_from(hundredth(max)).unwrap_or(u64::MAX)),
        }
    }
}

/// A number with a unit, `B`, `K`, `M`, `G` or `T`, each 1024 times the one before, in octets.
pub fn octets(text: &str, without_unit: u64) -> Result<u64, &'static str> {
    const UNITS: [(char, u32); 5] = [('B', 0), ('K', 10), ('M', 20), ('G', 30), ('T', 40)];
    let unit = UNITS.into_iter().find_map(|(sign, shift)| {
        text.strip_suffix([sign, sign.to_ascii_lowercase()]).map(|digits| (digits, 1 << shift))
    });
    let (digits, unit) = unit.unwrap_or((text, without_unit));
    number(digits)?.checked_mul(unit).ok_or("the number is too large")
}

fn number(digits: &str) -> Result<u64, &'static str> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err("not a whole number");
    }
    digits.parse().map_err(|_| "the number is too large")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rule: &str) -> QuotaOverride {
        let mut quota = QuotaOverride::default();
        quota.apply(rule).unwrap();
        quota
    }

    #[test]
    fn r27_rules_and_units() {
        for (rule, octets) in [
            ("*:storage=2G", 2 << 30),
            ("*:storage=1048576", 1 << 30),
            ("*:storage=5m", 5 << 20),
            ("*:storage=100B", 100),
            ("*:bytes=100", 100),
            ("*:bytes=1T", 1 << 40),
        ] {
            assert_eq!(of(rule).octets, Some(Some(octets)), "{rule}");
        }
        assert_eq!(of("*:messages=1000").messages, Some(Some(1_000)));
        assert_eq!(of("*:storage=0").octets, Some(None));
        assert_eq!(of("*:ignore").over(&QuotaDefaults::default()).octets_max, None);
        let both = of("*:storage=1M:messages=5");
        assert_eq!((both.octets, both.messages), (Some(Some(1 << 20)), Some(Some(5))));
    }

    #[test]
    fn hostile_rules_change_nothing() {
        for rule in [
            "",
            "*",
            "*:",
            "Trash:storage=1M",
            "*:storage",
            "*:storage=",
            "*:storage=-1",
            "*:storage=+10%",
            "*:storage=G",
            "*:storage=99999999999999999999",
            "*:storage=18446744073709551615T",
            "*:messages=1K",
            "*:messages=1:x=2",
            "*:storage=1M:x",
            "*:storage=1МG",
        ] {
            let mut quota = QuotaOverride::default();
            assert!(quota.apply(rule).is_err(), "{rule}");
            assert_eq!(quota, QuotaOverride::default());
        }
    }

    #[test]
    fn rules_print_what_they_parse() {
        for octets in [None, Some(None), Some(Some(1)), Some(Some(3 << 30))] {
            for messages in [None, Some(None), Some(Some(7))] {
                let quota = QuotaOverride { octets, messages };
                match quota.rule() {
                    Some(rule) => assert_eq!(of(&rule), quota),
                    None => assert_eq!(quota, QuotaOverride::default()),
                }
            }
        }
    }

    #[test]
    fn the_default_is_a_gibibyte_with_a_tenth_of_grace() {
        let quota = QuotaOverride::default().over(&QuotaDefaults::default());
        assert_eq!(quota, Quota { octets_max: Some(1 << 30), messages_max: None, grace_octets: (1 << 30) / 10 });
        let huge = QuotaOverride { octets: Some(Some(u64::MAX)), messages: None };
        assert_eq!(huge.over(&QuotaDefaults { grace_percent: 200, ..QuotaDefaults::default() }).grace_octets, u64::MAX);
    }
}
