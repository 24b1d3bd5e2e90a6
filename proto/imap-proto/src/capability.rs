//! What we announce, when (D10, R48). The lists are short before login: what a client cannot use there yet it need not
//! read, and clients are known to ask again or to read the code of the login's OK.

use crate::config::Config;
use sasl::Mechanism;

/// Announced always.
const ALWAYS: [&str; 6] = ["IMAP4rev1", "SASL-IR", "LITERAL+", "ID", "ENABLE", "IDLE"];

/// Announced after login, beside [`ALWAYS`]. RFC 2342, 3348, 3691, 4315, 6851, 6154, 4731, 7162, 9208, 8438, 3502, 5258,
/// 5819.
const AFTER_LOGIN: [&str; 16] = [
    "NAMESPACE",
    "CHILDREN",
    "UNSELECT",
    "UIDPLUS",
    "MOVE",
    "SPECIAL-USE",
    "CREATE-SPECIAL-USE",
    "ESEARCH",
    "CONDSTORE",
    "QUOTA",
    "QUOTA=RES-STORAGE",
    "QUOTA=RES-MESSAGE",
    "STATUS=SIZE",
    "MULTIAPPEND",
    "LIST-EXTENDED",
    "LIST-STATUS",
];

/// The capabilities, separated by spaces.
pub(crate) fn list(config: &Config, inside_tls: bool, authenticated: bool) -> String {
    let mut names: Vec<String> = ALWAYS.iter().map(|name| (*name).to_owned()).collect();
    if authenticated {
        names.extend(AFTER_LOGIN.iter().map(|name| (*name).to_owned()));
        names.extend(config.unix_seconds_at_zero.map(|_| "WITHIN".to_owned()));
        // Masked by its bare name, as it has no other.
        if config.offers("APPENDLIMIT") {
            names.push(format!("APPENDLIMIT={}", config.append_octets_max));
        }
    } else if inside_tls {
        names.extend(Mechanism::ALL.iter().map(|mechanism| format!("AUTH={}", mechanism.name())));
    } else {
        names.extend(config.tls_available.then(|| "STARTTLS".to_owned()));
        names.push("LOGINDISABLED".to_owned());
    }
    // RFC 3501 §6.1.1: IMAP4rev1 is always announced, and nobody may be lured into a login in the clear.
    names.retain(|name| matches!(name.as_str(), "IMAP4rev1" | "LOGINDISABLED") || config.offers(name));
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r48_lists_before_and_after_tls_and_login() {
        let mut config = Config::new("mx.example.org");
        let clear = "IMAP4rev1 SASL-IR LITERAL+ ID ENABLE IDLE STARTTLS LOGINDISABLED";
        assert_eq!(list(&config, false, false), clear);
        assert_eq!(list(&config, true, false), "IMAP4rev1 SASL-IR LITERAL+ ID ENABLE IDLE AUTH=PLAIN AUTH=LOGIN");
        assert!(list(&config, true, true).ends_with(" LIST-STATUS APPENDLIMIT=51200000"));
        config.capabilities_masked = ["condstore", "APPENDLIMIT", "IMAP4rev1", "AUTH=LOGIN"].map(String::from).to_vec();
        let after = list(&config, true, true);
        assert!(!after.contains("CONDSTORE") && !after.contains("APPENDLIMIT") && after.starts_with("IMAP4rev1 "));
        assert_eq!(list(&config, true, false), "IMAP4rev1 SASL-IR LITERAL+ ID ENABLE IDLE AUTH=PLAIN");
    }
}
