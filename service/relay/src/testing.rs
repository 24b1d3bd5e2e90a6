//! A relay in a world of text.

use crate::tls::Trust;
use crate::{Relay, Settings};
use dns::Zone;
use mail::Domain;
use std::sync::Arc;
use std::time::Duration;

/// A relay named mx.own.example whose domain name system is this zone.
pub fn relay(zone: &str, smtp_port: u16) -> Relay {
    let settings = Settings {
        smtp_port,
        connect_timeout: Duration::from_secs(2),
        ..Settings::new(Domain::parse("mx.own.example").unwrap())
    };
    Relay::new(settings, Arc::new(Zone::parse(zone).unwrap()), Trust::nobody(), None)
}
