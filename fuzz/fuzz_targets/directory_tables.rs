//! Every reader of the directory's tables: no input may panic, and what is printed must be read back.
#![no_main]

use directory::Action;
use directory::access::{AddressAccess, LoginAccess};
use directory::accounts::Accounts;
use directory::domains::Domains;
use directory::maps::{Target, read_aliases, read_mailboxes, read_relay_recipients, read_senders};
use directory::password::{Price, Stored};
use directory::quota::QuotaOverride;
use directory::table::Source;
use libfuzzer_sys::fuzz_target;
use mail::{Address, Secret};
use std::path::Path;

fuzz_target!(|octets: &[u8]| {
    let source = Source { file: Path::new("table"), octets };
    if let Ok(accounts) = Accounts::read(&source) {
        for account in accounts.content.iter() {
            assert!(accounts.content.get(&account.name).is_some());
            if let Some(rule) = account.quota.rule() {
                let mut again = QuotaOverride::default();
                assert_eq!(again.apply(&rule), Ok(()));
                assert_eq!(again, account.quota);
            }
        }
    }
    if let Ok(domains) = Domains::read(&source) {
        for (domain, _) in domains.content.iter() {
            assert!(domains.content.listing(domain).is_some());
        }
    }
    if let Ok(aliases) = read_aliases(&source) {
        for (_, kept) in aliases.content.iter() {
            for target in &kept.value {
                assert_eq!(Target::parse(&target.to_string()).as_ref(), Some(target));
            }
        }
    }
    let _ = read_mailboxes(&source);
    let _ = read_relay_recipients(&source);
    let _ = read_senders(&source);
    let _ = LoginAccess::read(&source);
    let access = AddressAccess::read(&source);
    let Ok(text) = std::str::from_utf8(octets) else { return };
    if let (Ok(access), Ok(address)) = (access, Address::parse(text)) {
        let _ = access.content.find(&address);
    }
    let _ = Action::parse(text);
    if let Ok(stored) = Stored::parse(text)
        && stored.price() == Price::Digest
    {
        let _ = stored.verify(&Secret::new(text.to_owned()));
    }
});
