//! Account names, login names and address keys: the one place that folds them.
//!
//! Nothing in a name is ever expanded: `%` and `$` are characters like others, or refused (V54).

use mail::{AccountName, Address, Domain};

/// Longest login taken from a peer, in octets; longer ones are unknown.
pub const LOGIN_OCTETS_MAX: usize = mail::mailbox::ACCOUNT_NAME_OCTETS_MAX;

/// The account name a table means: lower case, the domain in A-label form.
pub(crate) fn account_name(text: &str) -> Option<AccountName> {
    match text.rsplit_once('@') {
        None => AccountName::parse(text),
        Some((local, domain)) => {
            let domain = Domain::parse(domain).ok()?;
            AccountName::parse(&format!("{local}@{domain}"))
        }
    }
}

/// The account name a peer means by its login, the realm added where it gave no domain; `None` when it holds what no
/// login may hold: anything but letters, digits, `.`, `-`, `_` and one `@` (V12, V14, V55).
pub(crate) fn login_name(login: &str, realm: &str) -> Option<AccountName> {
    let fits = |c: char| {
        c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@') || (!c.is_ascii() && c.is_alphanumeric())
    };
    if login.len() > LOGIN_OCTETS_MAX || !login.chars().all(fits) {
        return None;
    }
    if login.contains('@') { account_name(login) } else { account_name(&format!("{login}@{realm}")) }
}

/// An address with the key under which tables know it, made once for all of them.
pub(crate) struct Keyed<'a> {
    address: &'a Address,
    key: String,
}

impl<'a> Keyed<'a> {
    pub(crate) fn new(address: &'a Address) -> Keyed<'a> {
        Keyed { address, key: address.key() }
    }

    pub(crate) fn address(&self) -> &'a Address {
        self.address
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }
}

/// The key under which an address stands in a table.
pub(crate) fn address_key(text: &str) -> Option<(String, Domain)> {
    let address = Address::parse(text).ok()?;
    Some((address.key(), address.domain))
}

/// The domain of a catch-all key, `@domain` or `*@domain`.
pub(crate) fn catch_all_domain(key: &str) -> Option<Domain> {
    let domain = key.strip_prefix("*@").or_else(|| key.strip_prefix('@'))?;
    Domain::parse(domain).ok()
}

/// The address without the detail of its local part: `brian+lists@x` gives `brian@x`.
pub(crate) fn without_detail(address: &Address, delimiter: Option<char>) -> Option<Address> {
    let (base, _) = address.local.as_str().split_once(delimiter?)?;
    Some(Address { local: mail::LocalPart::parse(base).ok()?, domain: address.domain.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(text: &str) -> Option<String> {
        login_name(text, "unknown").map(|name| name.to_string())
    }

    #[test]
    fn r35_r36_logins_are_folded_and_get_the_realm() {
        assert_eq!(login("Brian@Example.NET").as_deref(), Some("brian@example.net"));
        assert_eq!(login("brian").as_deref(), Some("brian@unknown"));
        assert_eq!(login("b.r-i_4n@bücher.example").as_deref(), Some("b.r-i_4n@xn--bcher-kva.example"));
    }

    #[test]
    fn v12_v14_v15_v54_v55_hostile_logins_name_nobody() {
        for text in [
            "",
            "@",
            "a@",
            "@b",
            "a@b@c",
            "bri+x@example.net",
            "a b@c",
            "a\0@b",
            "a\n@b",
            "a'--@b",
            "a\"@b",
            "$(id)@b",
            "%u@b",
            "%{user}",
            "a%40b@c",
            "../x@b",
            "a@../b",
            "a/b@c",
            "a;b@c",
            "a|b@c",
            ".a@b",
            "a@.b",
            "a..b@c",
            "a=b@c",
            "a\u{2028}@b",
            "a\u{202e}@b",
            "a\u{200b}@b",
            "a@b.",
        ] {
            assert_eq!(login(text), None, "{text:?}");
        }
        assert_eq!(login(&"a".repeat(400)), None);
    }

    #[test]
    fn r121_both_spellings_of_a_catch_all() {
        assert_eq!(catch_all_domain("*@Example.net"), catch_all_domain("@example.NET"));
        assert_eq!(catch_all_domain("a@example.net"), None);
    }
}
