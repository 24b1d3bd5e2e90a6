//! Limits on what an account may hold, and what it holds.

/// What an account holds: the sum over all its mailboxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Octets of all messages, line ends counted as CRLF.
    pub octets: u64,
    /// Number of messages; a copy counts again.
    pub messages: u64,
}

/// Limits of an account; `None` means without limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    /// Limit on octets.
    pub octets_max: Option<u64>,
    /// Limit on the number of messages.
    pub messages_max: Option<u64>,
    /// How far one last message may carry an account that is still below `octets_max` beyond it, in octets. Deliveries
    /// get this grace, IMAP does not.
    pub grace_octets: u64,
}

impl Quota {
    /// Whether `usage` is already at or above a limit.
    pub fn is_full(&self, usage: Usage) -> bool {
        self.octets_max.is_some_and(|max| usage.octets >= max)
            || self.messages_max.is_some_and(|max| usage.messages >= max)
    }

    /// Whether `octets` more in `messages` messages may still come in.
    pub fn admits(&self, usage: Usage, octets: u64, messages: u64) -> bool {
        if messages == 0 {
            return true;
        }
        if self.is_full(usage) {
            return false;
        }
        let octets_after = usage.octets.saturating_add(octets);
        let messages_after = usage.messages.saturating_add(messages);
        self.octets_max.is_none_or(|max| octets_after <= max.saturating_add(self.grace_octets))
            && self.messages_max.is_none_or(|max| messages_after <= max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_admits_one_last_message_and_no_more() {
        let mega = 1 << 20;
        let quota = Quota { octets_max: Some(10 * mega), messages_max: None, grace_octets: mega };
        let at = |octets| Usage { octets, messages: 1 };
        assert!(quota.admits(at(9 * mega + mega / 2), mega, 1));
        assert!(!quota.admits(at(9 * mega + mega / 2), 2 * mega, 1));
        assert!(!quota.admits(at(10 * mega), 1, 1));
        assert!(quota.admits(at(11 * mega), 0, 0));
    }
}
