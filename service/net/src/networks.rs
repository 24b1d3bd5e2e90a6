//! Networks in CIDR notation, and lists of them: trusted proxies, exempt addresses. Not an access table.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network: the addresses that share its first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// A list of networks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks(Vec<Network>);

/// Why a text is not a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkError {
    /// The part before the slash is not an IP address.
    Address(String),
    /// The part after the slash is not a number of bits that the address has.
    Prefix(String),
    /// Bits are set outside the prefix; the network meant is given.
    HostBits(String, Network),
}

impl Network {
    /// Whether `address` lies in the network. An IPv4 address written inside IPv6 (`::ffff:192.0.2.1`) counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match (self.address, address) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => {
                masked(address, self.prefix) == self.address
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl Networks {
    /// Whether one of the networks holds `address`.
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Networks {
        Networks(networks.into_iter().collect())
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    /// Reads `192.0.2.0/24`, `2001:db8::/32`, `[2001:db8::]/32`, or a single address without a slash.
    fn from_str(text: &str) -> Result<Network, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        let address: IpAddr = bare.parse().map_err(|_| NetworkError::Address(text.to_owned()))?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(digits) if !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit()) => digits
                .parse()
                .ok()
                .filter(|prefix| *prefix <= bits)
                .ok_or_else(|| NetworkError::Prefix(text.to_owned()))?,
            Some(_) => return Err(NetworkError::Prefix(text.to_owned())),
        };
        let network = Network { address: masked(address, prefix), prefix };
        if network.address != address {
            return Err(NetworkError::HostBits(text.to_owned(), network));
        }
        Ok(network)
    }
}

impl FromStr for Networks {
    type Err = NetworkError;

    /// Reads networks parted by commas or white space.
    fn from_str(text: &str) -> Result<Networks, NetworkError> {
        text.split(|sign: char| sign == ',' || sign.is_whitespace())
            .filter(|part| !part.is_empty())
            .map(str::parse)
            .collect()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetworkError::Address(text) => write!(f, "{text}: not an IP address or network such as 192.0.2.0/24"),
            NetworkError::Prefix(text) => {
                write!(f, "{text}: the number after the slash must be 0 to 32 for IPv4, 0 to 128 for IPv6")
            }
            NetworkError::HostBits(text, meant) => {
                write!(f, "{text}: address bits are set beyond the prefix; write {meant}")
            }
        }
    }
}

impl std::error::Error for NetworkError {}

/// The first `prefix` bits of an address, the rest zero.
pub(crate) fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32u32.saturating_sub(prefix.into())).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128u32.saturating_sub(prefix.into())).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        let table = [
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.0/24", "::ffff:192.0.2.7", true),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("[2001:db8::]/32", "2001:db9::", false),
            ("::/0", "2001:db8::1", true),
        ];
        for (network, address, inside) in table {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), inside, "{network} {address}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        assert!(matches!("192.0.2.0/33".parse::<Network>(), Err(NetworkError::Prefix(_))));
        assert!(matches!("192.0.2.0/+8".parse::<Network>(), Err(NetworkError::Prefix(_))));
        assert!(matches!("192.0.2.0/".parse::<Network>(), Err(NetworkError::Prefix(_))));
        assert!(matches!("example.net/8".parse::<Network>(), Err(NetworkError::Address(_))));
        let error = "10.1.2.3/8".parse::<Network>().unwrap_err();
        assert!(error.to_string().contains("write 10.0.0.0/8"), "{error}");
    }

    #[test]
    fn a_list_takes_commas_and_spaces() {
        let list: Networks = "127.0.0.0/8, ::1\n10.0.0.0/8".parse().unwrap();
        assert!(list.contain("10.2.3.4".parse().unwrap()));
        assert!(list.contain("::1".parse().unwrap()));
        assert!(!list.contain("192.0.2.1".parse().unwrap()));
        assert!("".parse::<Networks>().unwrap().is_empty());
    }
}
