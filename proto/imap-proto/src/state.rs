//! What a session remembers between commands.

use crate::capability;
use crate::config::Config;
use crate::encode;
use crate::lexer::BadCommand;
use crate::next::Completion;
use crate::next::{Next, ask, done};
use crate::question::{Answer, Question};
use crate::view::{Untagged, View};
use mail::{MailboxId, MailboxInfo, MailboxName, Message, Moment, PeerFacts, Snapshot, TlsFacts, Uid, UidSet};
use std::sync::Arc;

/// Where the session stands (RFC 3501 §3).
pub(crate) enum Phase {
    /// Nobody has logged in.
    NotAuthenticated,
    /// Logged in, no mailbox selected.
    Authenticated,
    /// A mailbox is selected.
    Selected(Box<Selected>),
}

/// The selected mailbox.
pub(crate) struct Selected {
    /// Which.
    pub(crate) id: MailboxId,
    /// Its name when it was selected, or renamed by this session.
    pub(crate) name: MailboxName,
    /// What the client knows of it.
    pub(crate) view: View,
}

/// What commands see and change.
pub(crate) struct State {
    /// The listener's settings.
    pub(crate) config: Arc<Config>,
    /// The driver's clock at the step in hand.
    pub(crate) now: Moment,
    /// The TLS layer, once there is one.
    pub(crate) tls: Option<TlsFacts>,
    /// Where the session stands.
    pub(crate) phase: Phase,
    /// The client knows mod-sequences (RFC 7162 §3.1).
    pub(crate) condstore: bool,
    /// The tag of the command in hand.
    pub(crate) tag: String,
    /// Messages whose flags the command in hand has told.
    pub(crate) told: UidSet,
    /// Responses not sent yet.
    pub(crate) out: Vec<u8>,
    /// Something is staged that no commit has taken up.
    pub(crate) staging: bool,
    /// The selected mailbox is gone; the session ends with the command in hand.
    pub(crate) lost: bool,
}

/// The picture could not be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotRenewed;

impl State {
    pub(crate) fn new(config: Arc<Config>, peer: PeerFacts) -> State {
        State {
            config,
            now: Moment::default(),
            tls: peer.tls,
            phase: Phase::NotAuthenticated,
            condstore: false,
            tag: String::new(),
            told: UidSet::new(),
            out: Vec::new(),
            staging: false,
            lost: false,
        }
    }

    /// The time, as far as the configuration lets us know it.
    pub(crate) fn unix_seconds(&self) -> i64 {
        let since_zero = i64::try_from(self.now.0.as_secs()).unwrap_or(i64::MAX);
        self.config.unix_seconds_at_zero.unwrap_or(0).saturating_add(since_zero)
    }

    /// Refuses an argument that was `used` although its capability is masked: it is as unknown as what we never heard of
    /// (D10). What a capability only adds to responses is told all the same, since clients pass over it.
    pub(crate) fn offers(&self, capability: &str, used: bool) -> Result<(), BadCommand> {
        if used && !self.config.offers(capability) { Err(BadCommand("Unknown argument.")) } else { Ok(()) }
    }

    /// The selected mailbox.
    pub(crate) fn selected(&self) -> Option<&Selected> {
        match &self.phase {
            Phase::Selected(selected) => Some(selected),
            Phase::NotAuthenticated | Phase::Authenticated => None,
        }
    }

    /// The selected mailbox.
    pub(crate) fn selected_mut(&mut self) -> Option<&mut Selected> {
        match &mut self.phase {
            Phase::Selected(selected) => Some(selected),
            Phase::NotAuthenticated | Phase::Authenticated => None,
        }
    }

    /// Leaves the selected mailbox.
    pub(crate) fn unselect(&mut self) -> Option<Box<Selected>> {
        match std::mem::replace(&mut self.phase, Phase::Authenticated) {
            Phase::Selected(selected) => Some(selected),
            before => {
                self.phase = before;
                None
            }
        }
    }

    /// What we announce now.
    pub(crate) fn capabilities(&self) -> String {
        let authenticated = !matches!(self.phase, Phase::NotAuthenticated);
        capability::list(&self.config, self.tls.is_some(), authenticated)
    }

    /// Appends an untagged response line.
    pub(crate) fn untagged(&mut self, text: &str) {
        self.out.extend_from_slice(b"* ");
        self.out.extend_from_slice(text.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    /// Appends an untagged response line that begins with a number.
    pub(crate) fn untagged_number(&mut self, number: u32, text: &str) {
        self.out.extend_from_slice(b"* ");
        encode::number(&mut self.out, number);
        self.out.push(b' ');
        self.out.extend_from_slice(text.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    /// The client has used a command that shows it knows mod-sequences (RFC 7162 §3.1): from now on it is told them, and
    /// first of all where the selected mailbox stands.
    pub(crate) fn enable_condstore(&mut self) {
        if std::mem::replace(&mut self.condstore, true) {
            return;
        }
        if let Some(mod_sequence) = self.selected().map(|selected| selected.view.latest.mod_sequence) {
            self.untagged(&format!("OK [HIGHESTMODSEQ {mod_sequence}] CONDSTORE is enabled."));
        }
    }

    /// Puts the newest picture into the view.
    pub(crate) fn renew(&mut self, answer: Answer) -> Result<(), NotRenewed> {
        let Answer::Snapshots(Ok(snapshots)) = answer else { return Err(NotRenewed) };
        let newest = snapshots.into_iter().next().flatten();
        let Some(selected) = self.selected_mut() else { return Ok(()) };
        match newest.filter(|newest| newest.uid_validity == selected.view.latest.uid_validity) {
            Some(newest) => selected.view.latest = newest,
            // RFC 2180 §3.2, §3.3: a mailbox that another session deletes is lost to this one.
            None => self.lost = true,
        }
        Ok(())
    }

    /// Tells the client what changed, up to the newest picture. `true` if messages arrived.
    pub(crate) fn tell_changes(&mut self, expunge_allowed: bool) -> bool {
        let told = std::mem::take(&mut self.told);
        let Some(selected) = self.selected_mut() else { return false };
        let untagged = selected.view.catch_up(expunge_allowed, &told);
        let mut arrived = false;
        for response in untagged {
            match response {
                Untagged::Expunge(number) => self.untagged_number(number, "EXPUNGE"),
                Untagged::Exists(count) => {
                    arrived = true;
                    self.untagged_number(count, "EXISTS");
                }
                Untagged::Recent(count) => self.untagged_number(count, "RECENT"),
                Untagged::Keywords => self.tell_known_flags(),
                Untagged::Flags(number, message) => self.tell_flags(number, &message, Told::Flags),
            }
        }
        arrived
    }

    /// Tells the keywords that are new, before the first response that names one of them.
    pub(crate) fn tell_new_keywords(&mut self) {
        let Some(selected) = self.selected_mut() else { return };
        let view = &mut selected.view;
        if view.numbering.keywords == view.latest.keywords {
            return;
        }
        // Bits keep their meaning; a mailbox only ever learns more keywords.
        Arc::make_mut(&mut view.numbering).keywords = Arc::clone(&view.latest.keywords);
        self.tell_known_flags();
    }

    /// FLAGS and PERMANENTFLAGS (RFC 3501 §7.2.6, §7.1).
    pub(crate) fn tell_known_flags(&mut self) {
        let Some(selected) = self.selected() else { return };
        let (latest, read_only) = (Arc::clone(&selected.view.latest), selected.view.read_only);
        self.out.extend_from_slice(b"* FLAGS ");
        encode::flags_known(&mut self.out, &latest, "");
        self.out.extend_from_slice(b"\r\n* OK [PERMANENTFLAGS ");
        if read_only {
            self.out.extend_from_slice(b"()");
        } else {
            let room = latest.keywords.len() < mail::mailbox::KEYWORDS_PER_MAILBOX_MAX;
            encode::flags_known(&mut self.out, &latest, if room { "\\*" } else { "" });
        }
        self.out.extend_from_slice(b"] Flags that last.\r\n");
    }

    /// An unsolicited FETCH response of a message's flags.
    pub(crate) fn tell_flags(&mut self, number: u32, message: &Message, what: Told) {
        let condstore = self.condstore;
        let Some(selected) = self.selected() else { return };
        let (latest, recent): (Arc<Snapshot>, bool) =
            (Arc::clone(&selected.view.latest), selected.view.is_recent(message.uid));
        let out = &mut self.out;
        out.extend_from_slice(b"* ");
        encode::number(out, number);
        out.extend_from_slice(b" FETCH (");
        let mut first = true;
        let mut item = |out: &mut Vec<u8>, name: &str| {
            if !std::mem::replace(&mut first, false) {
                out.push(b' ');
            }
            out.extend_from_slice(name.as_bytes());
        };
        if matches!(what, Told::UidAndFlags | Told::UidOnly) {
            item(out, "UID ");
            encode::number(out, message.uid.0);
        }
        if matches!(what, Told::UidAndFlags | Told::Flags) {
            item(out, "FLAGS ");
            encode::flags_of(out, &latest, message, recent);
        }
        // RFC 7162 §3.2: whoever knows mod-sequences is told them with every change of flags.
        if condstore {
            item(out, "MODSEQ (");
            encode::number(out, message.mod_sequence.0);
            out.push(b')');
        }
        out.extend_from_slice(b")\r\n");
    }
}

/// What a FETCH response of changed flags names, beside the mod-sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// The flags.
    Flags,
    /// The flags, and the UID, as for UID STORE (RFC 3501 §6.4.8).
    UidAndFlags,
    /// Nothing; with `.SILENT`.
    Nothing,
    /// The UID; with `.SILENT` of UID STORE.
    UidOnly,
}

/// Renews the picture of the selected mailbox, then goes on; ends the command when that is not possible.
pub(crate) fn renewed(state: &State, then: impl FnOnce(&mut State) -> Next + Send + 'static) -> Next {
    let Some(selected) = state.selected() else { return done(Completion::bad("No mailbox is selected.")) };
    ask(Question::Snapshots(vec![selected.id]), move |state, answer| match state.renew(answer) {
        Ok(()) if state.lost => done(Completion::nonexistent()),
        Ok(()) => then(state),
        Err(NotRenewed) => done(Completion::unavailable()),
    })
}

/// The mailbox of that name, if it exists as a mailbox.
pub(crate) fn find<'a>(infos: &'a [MailboxInfo], name: &MailboxName) -> Option<(&'a MailboxInfo, MailboxId)> {
    infos.iter().find(|info| info.name == *name).and_then(|info| Some((info, info.id?)))
}

/// No message is recent from this UID on; for sessions that may not claim them.
pub(crate) const NOTHING_RECENT: Uid = Uid(u32::MAX);
