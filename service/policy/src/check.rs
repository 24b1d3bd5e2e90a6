//! The names of the checks and what makes an order of them sound.

/// A check of recipients, by the name that the configuration gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CheckName {
    /// Clients of trusted networks may send to anyone (R107).
    PermitMynetworks,
    /// The table of logins decides (R139–R142).
    CheckSaslAccess,
    /// The reverse-path must belong to the login (R131–R135).
    RejectSenderLoginMismatch,
    /// Authenticated clients may send to anyone (R127).
    PermitSaslAuthenticated,
    /// Addresses of our domains must exist (R108).
    RejectUnlistedRecipient,
    /// Addresses must have a full domain (R109).
    RejectNonFqdnRecipient,
    /// Only our domains (R110).
    RejectUnauthDestination,
    /// A domain that we would pass mail on to must be able to get any (R111).
    RejectUnknownRecipientDomain,
    /// The table of recipients decides (R112).
    CheckRecipientAccess,
    /// Mailboxes that are full take nothing (R81).
    CheckQuota,
}

/// What is wrong with a list of checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckError {
    /// What.
    pub cause: String,
    /// What to do.
    pub cure: String,
}

impl CheckName {
    /// The guide's order (R106), as far as it needs no policy server.
    pub const GUIDE: [CheckName; 10] = [
        CheckName::PermitMynetworks,
        CheckName::CheckSaslAccess,
        CheckName::RejectSenderLoginMismatch,
        CheckName::PermitSaslAuthenticated,
        CheckName::RejectUnlistedRecipient,
        CheckName::RejectNonFqdnRecipient,
        CheckName::RejectUnauthDestination,
        CheckName::RejectUnknownRecipientDomain,
        CheckName::CheckRecipientAccess,
        CheckName::CheckQuota,
    ];

    /// The name in the configuration, in logs and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            CheckName::PermitMynetworks => "permit_mynetworks",
            CheckName::CheckSaslAccess => "check_sasl_access",
            CheckName::RejectSenderLoginMismatch => "reject_sender_login_mismatch",
            CheckName::PermitSaslAuthenticated => "permit_sasl_authenticated",
            CheckName::RejectUnlistedRecipient => "reject_unlisted_recipient",
            CheckName::RejectNonFqdnRecipient => "reject_non_fqdn_recipient",
            CheckName::RejectUnauthDestination => "reject_unauth_destination",
            CheckName::RejectUnknownRecipientDomain => "reject_unknown_recipient_domain",
            CheckName::CheckRecipientAccess => "check_recipient_access",
            CheckName::CheckQuota => "check_quota",
        }
    }
}

/// Reads a list of checks. Refuses unknown names, orders that would open the relay: a table or service whose OK accepts
/// must come after foreign destinations are refused (R157), and checks of logins that no login would reach.
pub fn parse_checks(names: &[String]) -> Result<Vec<CheckName>, CheckError> {
    let checks = names.iter().map(|name| parse_one(name)).collect::<Result<Vec<_>, _>>()?;
    let place = |wanted| checks.iter().position(|check| *check == wanted);
    let Some(guard) = place(CheckName::RejectUnauthDestination) else {
        return Err(CheckError {
            cause: "without `reject_unauth_destination` this would be an open relay".into(),
            cure: "add \"reject_unauth_destination\" after the permit_ checks".into(),
        });
    };
    // R106: whoever logged in is permitted there, so that these would see nobody who did.
    if let Some(permit) = place(CheckName::PermitSaslAuthenticated)
        && let Some(late) = [CheckName::CheckSaslAccess, CheckName::RejectSenderLoginMismatch]
            .into_iter()
            .find(|check| place(*check).is_some_and(|place| place > permit))
    {
        return Err(CheckError {
            cause: format!("`{}` stands behind `permit_sasl_authenticated`: no login would reach it", late.name()),
            cure: "move it in front of \"permit_sasl_authenticated\"".into(),
        });
    }
    if place(CheckName::CheckRecipientAccess).is_some_and(|place| place < guard) {
        return Err(CheckError {
            cause:
                "`check_recipient_access` stands before `reject_unauth_destination`: an OK there would open the relay"
                    .into(),
            cure: "move it behind \"reject_unauth_destination\"".into(),
        });
    }
    Ok(checks)
}

fn parse_one(name: &str) -> Result<CheckName, CheckError> {
    CheckName::GUIDE.into_iter().find(|check| check.name() == name).ok_or_else(|| CheckError {
        cause: format!("there is no check named `{name}`"),
        cure: format!("there are: {}", CheckName::GUIDE.map(CheckName::name).join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn r157_orders_that_open_the_relay_are_refused() {
        assert!(parse_checks(&names(&["permit_mynetworks"])).is_err());
        assert!(parse_checks(&names(&["check_recipient_access", "reject_unauth_destination"])).is_err());
        assert!(parse_checks(&names(&["reject_unauth_destination", "check_recipient_access"])).is_ok());
        let error = parse_checks(&names(&["permit_everyone"])).unwrap_err();
        assert!(error.cause.contains("permit_everyone"));
    }

    #[test]
    fn r106_checks_of_logins_that_no_login_reaches_are_refused() {
        let guide = CheckName::GUIDE.map(CheckName::name);
        assert_eq!(parse_checks(&names(&guide)).unwrap(), CheckName::GUIDE);
        for late in ["check_sasl_access", "reject_sender_login_mismatch"] {
            let order = ["permit_sasl_authenticated", late, "reject_unauth_destination"];
            assert!(parse_checks(&names(&order)).unwrap_err().cause.contains(late));
            assert!(parse_checks(&names(&[late, "reject_unauth_destination"])).is_ok());
        }
    }
}
