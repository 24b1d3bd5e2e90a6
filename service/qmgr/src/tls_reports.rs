//! Daily reports about TLS to the domains that ask for them (RFC 8460).

use directory::{Directory, DomainClass};
use mail::Address;

/// Local part of the reverse-path of reports. Mail from it is known by it, over a restart too, for what is delivered
/// whatever TLS is like; whoever else may send as it gains no more than `TLS-Required: No` would give (RFC 8689 §5).
const SENDER: &str = "tls-reports";

/// Whether this reverse-path is that of reports.
pub(crate) fn is_sender(reverse_path: &str, host_name: &str, directory: &Directory) -> bool {
    let address = reverse_path.starts_with(SENDER).then(|| Address::parse(reverse_path).ok()).flatten();
    address.is_some_and(|Address { local, domain }| {
        let is_ours = domain.as_str().eq_ignore_ascii_case(host_name);
        local.as_str() == SENDER && (is_ours || directory.class_of(&domain) == DomainClass::Hosted)
    })
}
