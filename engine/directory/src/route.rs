//! Where a recipient's mail goes.
//!
//! Aliases are followed until they end at mailboxes, relay domains or the outside. The envelope changes, the message
//! does not.

use crate::maps::Target;
use crate::names::{Keyed, without_detail};
use crate::register::{DomainClass, Tables};
use mail::{AccountName, Address};
use std::collections::HashSet;

/// Deepest nesting of aliases.
pub const ALIAS_DEPTH_MAX: usize = 50;
/// Most addresses that one recipient expands to, those on the way included (R118).
pub const EXPANSION_MAX: usize = 1_000;

/// One end of a recipient's way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Route {
    /// The mailboxes of an account here.
    Mailbox(AccountName),
    /// A domain that we are backup for: pass it on to that domain's better exchangers.
    Relay(Address),
    /// An alias led out of the house.
    Outside(Address),
}

/// Why a recipient leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteError {
    /// The domain is hosted, the address does not exist (`550 5.1.1`).
    UnknownUser,
    /// The relay domain's list of recipients does not have it (`550 5.1.1`).
    UnknownRelayRecipient,
    /// Neither hosted nor relayed, and no alias: whether it is relayed is for policy to say.
    NotOurs,
    /// Aliases run in a circle, too deep or too wide: a fault of ours, so temporary to the peer (`451 4.3.5`).
    LoopOrTooDeep,
}

/// Follows an address to its ends, in the order of the tables, each end once.
pub(crate) fn route(tables: &Tables, address: &Address) -> Result<Vec<Route>, RouteError> {
    let mut way = Way { tables, path: Vec::new(), visited: HashSet::new(), routes: Vec::new(), failure: None };
    let start = Keyed::new(address);
    if tables.class_of(&address.domain) == DomainClass::Other && targets(tables, &start).is_none() {
        return Err(RouteError::NotOurs);
    }
    way.follow(&start)?;
    // Part of an alias that leads nowhere must not stop the rest; `check` tells the administrator of it.
    if way.routes.is_empty() { Err(way.failure.unwrap_or(RouteError::UnknownUser)) } else { Ok(way.routes) }
}

/// The alias that an address falls under, if any: its own; else, unless it is a mailbox, that of the address without
/// detail; else, unless that is a mailbox, the catch-all of the domain.
fn targets<'a>(tables: &'a Tables, wanted: &Keyed<'_>) -> Option<&'a [Target]> {
    let origin = tables.domains.first();
    let base = without_detail(wanted.address(), tables.delimiter);
    let base = base.as_ref().map(Keyed::new);
    for address in std::iter::once(wanted).chain(&base) {
        if let Some(alias) = tables.aliases.exact(address, origin) {
            return Some(&alias.value);
        }
        // What is declared a mailbox never falls to the catch-all, even while its account is missing (R122).
        if tables.is_mailbox_address(address) {
            return None;
        }
    }
    tables.aliases.domain(&wanted.address().domain).map(|catch_all| catch_all.value.as_slice())
}

struct Way<'a> {
    tables: &'a Tables,
    /// From the recipient to the address in hand.
    path: Vec<String>,
    visited: HashSet<String>,
    routes: Vec<Route>,
    /// Why some branch led nowhere; the first one.
    failure: Option<RouteError>,
}

impl Way<'_> {
    fn follow(&mut self, wanted: &Keyed<'_>) -> Result<(), RouteError> {
        let key = wanted.key();
        if self.path.iter().any(|step| step == key) {
            self.failure.get_or_insert(RouteError::LoopOrTooDeep);
            return Ok(());
        }
        if !self.visited.insert(key.to_owned()) {
            return Ok(());
        }
        if self.visited.len() > EXPANSION_MAX || self.path.len() >= ALIAS_DEPTH_MAX {
            return Err(RouteError::LoopOrTooDeep);
        }
        let tables = self.tables;
        let Some(targets) = targets(tables, wanted) else {
            self.end(wanted);
            return Ok(());
        };
        self.path.push(key.to_owned());
        for target in targets {
            let Some(next) = target.resolve(wanted.address(), tables.domains.first()) else {
                self.failure.get_or_insert(RouteError::UnknownUser);
                continue;
            };
            let next = Keyed::new(&next);
            // An alias onto itself means the mailbox of that name: "and keep a copy".
            if next.key() == key { self.end(wanted) } else { self.follow(&next)? }
        }
        self.path.pop();
        Ok(())
    }

    /// No alias applies any more.
    fn end(&mut self, wanted: &Keyed<'_>) {
        let address = wanted.address();
        let found = match self.tables.class_of(&address.domain) {
            DomainClass::Other => Ok(Route::Outside(address.clone())),
            DomainClass::Relay => match &self.tables.relay_recipients {
                Some(listed) if listed.find(address, None, self.tables.delimiter).is_none() => {
                    Err(RouteError::UnknownRelayRecipient)
                }
                _ => Ok(Route::Relay(address.clone())),
            },
            DomainClass::Hosted => self
                .tables
                .mailbox_of(wanted)
                .or_else(|| self.tables.mailbox_of(&Keyed::new(&without_detail(address, self.tables.delimiter)?)))
                .map(|account| Route::Mailbox(account.clone()))
                .ok_or(RouteError::UnknownUser),
        };
        match found {
            Ok(route) if self.routes.contains(&route) => {}
            Ok(route) => self.routes.push(route),
            Err(error) => drop(self.failure.get_or_insert(error)),
        }
    }
}
