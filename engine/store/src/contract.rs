//! What every back end of [`MailStore`] must do, as one test.
//!
//! The first part states rules one by one; `random` compares long runs of random commits with a model that is too
//! simple to be wrong; `sessions` lets several tasks work on the same mailboxes at once.

mod model;
mod queue;
mod random;
mod rules;
mod sessions;

use crate::{BodyRange, GroupOutcome, MailStore, StagedBody};
use mail::{
    AccountName, BodyId, Change, ChangeError, Commit, FlagSet, Flags, Group, InternalDate, MailboxId, MailboxName,
    MailboxRef, Outcome, Quota, Uid, UidSet,
};
use std::sync::Arc;

/// Runs the whole contract. `make` opens a store; each time over what the one before left behind, which is closed by
/// then. The first finds nothing. Panics where the store breaks a rule.
pub async fn run(make: impl Fn() -> Arc<dyn MailStore>) {
    let store = make();
    rules::accounts_begin_with_their_mailboxes(&*store).await;
    rules::mailboxes_are_made_renamed_and_deleted(&*store).await;
    rules::uid_validity_never_comes_back(&*store).await;
    rules::messages_keep_what_they_came_with(&*store).await;
    rules::flags_are_edited(&*store).await;
    rules::copies_and_moves_keep_flags(&*store).await;
    rules::quota_counts_the_group(&*store).await;
    rules::groups_are_refused_alone_or_together(&*store).await;
    rules::bodies_are_taken_once(&*store).await;
    rules::octets_come_back_as_they_were(&*store).await;
    rules::watches_wake(&*store).await;
    rules::recent_is_told_once(&*store).await;
    rules::removed_accounts_are_gone(&*store).await;
    queue::recipients_are_settled_one_by_one(&*store).await;
    queue::nothing_is_queued_without_its_commit(&*store).await;
    queue::groups_count_for_the_message_that_a_commit_begins_with(&*store).await;
    queue::a_story_tells_of_its_end(&*store).await;
    queue::numbers_may_be_senseless(&*store).await;
    queue::stories_are_found_and_forgotten(&*store).await;
    sessions::many_at_once(store.clone()).await;
    store.close().await.expect("closes");
    rules::closed_stores_say_so(&*store).await;
    drop(store);
    random::compare_with_a_model(&make).await;
}

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit.max(1)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    fn octets(&mut self, count: usize) -> Vec<u8> {
        // Half noise, half text, so that some blocks shrink and some do not.
        (0..count).map(|at| if at % 8_192 < 4_096 { self.below(256) as u8 } else { b'a' + (at % 7) as u8 }).collect()
    }
}

fn account(name: &str) -> AccountName {
    AccountName::parse(name).expect("a name")
}

fn name(name: &str) -> MailboxName {
    MailboxName::parse(name).expect("a name")
}

fn named(mailbox: &str) -> MailboxRef {
    MailboxRef::Named(name(mailbox))
}

fn uids(uids: impl IntoIterator<Item = u32>) -> UidSet {
    uids.into_iter().map(Uid).collect()
}

fn stage(store: &dyn MailStore, octets: &[u8], prefix: &[u8]) -> StagedBody {
    let mut writer = store.stage().expect("stages");
    for part in octets.chunks(10_000) {
        writer.write(part).expect("room");
    }
    let staged = writer.finish(prefix, digest_of(octets)).expect("room");
    assert_eq!(staged.octets as usize, octets.len() + prefix.len());
    staged
}

/// A digest that can be checked against the message.
fn digest_of(octets: &[u8]) -> Vec<u8> {
    let sum: u64 = octets.iter().map(|octet| u64::from(*octet)).sum();
    sum.to_le_bytes().to_vec()
}

fn append(mailbox: &str, body: BodyId) -> Change {
    let internal_date = InternalDate { unix_seconds: 1_000_000_000, zone_minutes: 120 };
    Change::Append { mailbox: named(mailbox), body, flags: FlagSet::system(Flags::NONE), internal_date }
}

async fn group(store: &dyn MailStore, account: &AccountName, changes: Vec<Change>) -> GroupOutcome {
    let group = Group { account: account.clone(), changes, quota: Quota::default() };
    commit(store, vec![group]).await.remove(0)
}

async fn commit(store: &dyn MailStore, groups: Vec<Group>) -> Vec<GroupOutcome> {
    let count = groups.len();
    let answers = store.commit(Commit { groups, together: false, ..Commit::default() }).await.expect("commits");
    assert_eq!(answers.len(), count);
    answers
}

/// One change that must succeed.
async fn done(store: &dyn MailStore, account: &AccountName, change: Change) -> Outcome {
    let mut outcomes = group(store, account, vec![change]).await.expect("accepted");
    assert_eq!(outcomes.len(), 1);
    outcomes.remove(0)
}

/// One change that must be refused.
async fn refused(store: &dyn MailStore, account: &AccountName, change: Change) -> ChangeError {
    group(store, account, vec![change]).await.expect_err("refused")
}

/// Delivers a message and gives its UID.
async fn deliver(store: &dyn MailStore, account: &AccountName, mailbox: &str, octets: &[u8]) -> Uid {
    let staged = stage(store, octets, b"");
    match done(store, account, append(mailbox, staged.id)).await {
        Outcome::Appended { uid, .. } => uid,
        other => panic!("{other:?}"),
    }
}

async fn id(store: &dyn MailStore, account: &AccountName, mailbox: &str) -> Option<MailboxId> {
    let list = store.mailboxes(account).await.expect("lists");
    list.iter().find(|info| info.name.as_str() == mailbox).and_then(|info| info.id)
}

async fn id_of(store: &dyn MailStore, account: &AccountName, mailbox: &str) -> MailboxId {
    id(store, account, mailbox).await.expect("exists")
}

async fn whole(store: &dyn MailStore, blob: mail::BlobId) -> Vec<u8> {
    let range = BodyRange { blob, start: 0, octets: u64::MAX };
    store.read(vec![range]).await.expect("reads").remove(0).expect("sound").to_vec()
}
