//! Thinks up what a task does next, from what it owns.

use crate::model::queue::Ending;
use crate::model::{Deed, Edit, Model};
use testkit::powercut::dice::Dice;

/// Names that mailboxes are made and renamed to.
const NAMES: [&str; 7] = ["Work", "Work/One", "Work/Two", "Old", "Old/Work", "Lists/rust", "Lists/mail/x"];
/// Keywords that messages are marked with.
const KEYWORDS: [&str; 5] = ["$Forwarded", "$Junk", "later", "paid", "read-again"];

/// Thinks for one task.
pub struct Author {
    /// Its number.
    pub task: u32,
}

impl Author {
    /// The next deed. Not every one is possible; the caller asks the model.
    pub fn write(&self, model: &Model, dice: &mut Dice, mut new_body: impl FnMut() -> u64) -> Deed {
        let account = if dice.below(3) > 0 { self.first() } else { self.second() };
        match dice.below(26) {
            0 => Deed::DeliverToAll { accounts: vec![self.first(), self.second()], body: new_body() },
            1 => {
                let mut deeds = vec![deliver(&account, "INBOX".into(), dice, &mut new_body)];
                deeds.extend((0..2).map(|_| within(model, &account, dice, &mut new_body)));
                Deed::Together { deeds }
            }
            // Rare, and only of the second account: it takes all the mail away.
            2 if dice.below(6) == 0 => Deed::Remove { account: self.second() },
            3..9 => self.outbound(model, account, dice, &mut new_body),
            _ => within(model, &account, dice, &mut new_body),
        }
    }

    /// Something with the queue: a message that leaves, or what becomes of one that waits.
    fn outbound(&self, model: &Model, account: String, dice: &mut Dice, new_body: &mut impl FnMut() -> u64) -> Deed {
        let waiting: Vec<u64> = model.queue.messages.keys().copied().collect();
        let Some(message) = dice.pick(&waiting).copied().filter(|_| dice.below(3) > 0) else {
            // Now and then only the ledger hears of it.
            let recipients = [0, 1, 1, 2, 3, 6][dice.below(6)];
            let accounts = match dice.below(4) {
                0 => vec![self.first(), self.second()],
                1 => vec![account],
                _ => Vec::new(),
            };
            return Deed::Accept { accounts, body: new_body(), discarded: dice.below(2) as u32, recipients };
        };
        let numbers: Vec<u32> = model.queue.messages[&message].keys().copied().collect();
        let mut numbers = some(&numbers, dice);
        // An outcome and an administrator may cross: some are gone already, or never were.
        if dice.below(8) == 0 {
            numbers.push(dice.below(8) as u32);
            numbers.sort_unstable();
            numbers.dedup();
        }
        match dice.below(7) {
            0 => Deed::Wait { message, numbers, due: None, tried: dice.below(4) == 0, told: false },
            1..3 => {
                let (due, tried) = (Some(dice.below(1 << 40) as u64), dice.below(4) > 0);
                Deed::Wait { message, numbers, due, tried, told: dice.below(3) == 0 }
            }
            3 => {
                let report = (dice.below(3) > 0).then(|| (account, new_body()));
                Deed::Settle { message, numbers, how: Ending::Bounced, report }
            }
            4 => Deed::Settle { message, numbers, how: Ending::Discarded, report: None },
            _ => Deed::Settle { message, numbers, how: Ending::Delivered, report: None },
        }
    }

    fn first(&self) -> String {
        format!("first{}@example.net", self.task)
    }

    fn second(&self) -> String {
        format!("second{}@example.net", self.task)
    }
}

/// A deed within one account.
fn within(model: &Model, account: &str, dice: &mut Dice, new_body: &mut impl FnMut() -> u64) -> Deed {
    let Some(state) = model.accounts.get(account) else {
        return deliver(account, "INBOX".into(), dice, new_body);
    };
    // Of mailboxes that are known by number, one that has messages if need be.
    let known: Vec<&String> =
        state.mailboxes.iter().filter(|(_, mailbox)| mailbox.identity.is_some()).map(|(name, _)| name).collect();
    let filled: Vec<&String> =
        known.iter().filter(|name| !state.mailboxes[**name].messages.is_empty()).copied().collect();
    let any = dice.pick(&known).map_or("INBOX".into(), |name| name.to_string());
    let (Some(mailbox), account) = (dice.pick(&filled).map(|name| name.to_string()), account.to_owned()) else {
        return deliver(account, any, dice, new_body);
    };
    let uids: Vec<u32> = state.mailboxes[&mailbox].messages.keys().copied().collect();
    let uids = some(&uids, dice);
    match dice.below(24) {
        0..9 => deliver(&account, if dice.below(2) == 0 { "INBOX".into() } else { any }, dice, new_body),
        9..13 => {
            let edit = [Edit::Add, Edit::Add, Edit::Remove, Edit::Replace][dice.below(4)];
            let (flags, keywords) = (dice.below(32) as u8, words(dice));
            Deed::Flags { account, mailbox, uids, edit, flags, keywords }
        }
        13..17 => {
            let expunge = dice.below(2) == 0;
            Deed::Copy { account, from: mailbox, to: any, uids, expunge }
        }
        17..20 => Deed::Expunge { account, mailbox, uids, only_deleted: dice.below(2) == 0 },
        20 => Deed::Create { account, name: new_name(dice) },
        21 => match any.as_str() {
            "INBOX" => Deed::Create { account, name: new_name(dice) },
            _ => Deed::Delete { account, name: any },
        },
        22 => Deed::Rename { account, from: any, to: new_name(dice) },
        _ => Deed::Subscribe { account, name: new_name(dice), subscribed: dice.below(2) == 0 },
    }
}

fn deliver(account: &str, mailbox: String, dice: &mut Dice, new_body: &mut impl FnMut() -> u64) -> Deed {
    let count = if dice.below(6) == 0 { 2 + dice.below(6) } else { 1 };
    let bodies = (0..count).map(|_| new_body()).collect();
    let (flags, keywords) = if dice.below(3) == 0 { (dice.below(32) as u8, words(dice)) } else { (0, Vec::new()) };
    Deed::Deliver { account: account.to_owned(), mailbox, bodies, flags, keywords }
}

fn some(uids: &[u32], dice: &mut Dice) -> Vec<u32> {
    let one_in = [1, 2, 6, 6, 6, 6][dice.below(6)];
    let chosen: Vec<u32> = uids.iter().filter(|_| dice.below(one_in) == 0).copied().collect();
    if chosen.is_empty() { dice.pick(uids).copied().into_iter().collect() } else { chosen }
}

fn words(dice: &mut Dice) -> Vec<String> {
    KEYWORDS.iter().filter(|_| dice.below(4) == 0).map(|word| word.to_string()).collect()
}

fn new_name(dice: &mut Dice) -> String {
    NAMES[dice.below(NAMES.len())].to_owned()
}
