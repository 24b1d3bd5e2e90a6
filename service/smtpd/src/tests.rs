//! A desk in a small house, asked as a session asks.

use super::*;
use directory::Settings;
use mail::{
    AccountName, Change, Commit, Domain, FlagSet, Group, MailboxName, MailboxRef, Notify, PeerFacts, QueueState, Quota,
    ReversePath, Secret, TlsFacts,
};
use net::Desk as _;
use policy::CheckName;
use smtp_proto::question::Greeting;
use store::BodyRange;
use store::embedded::{EmbeddedStore, Options};

const BRIAN: &str = "brian@example.net";
const NOT_BRIAN: &str = "notbrian@example.net";
const RECIPIENT_ACCESS: &str = "gone@example.net DISCARD spam trap\nmoved@example.net REDIRECT notbrian@example.net\n\
                                lost@example.net REDIRECT x@elsewhere.example\n\
                                watched@example.net BCC notbrian@example.net\nkept@example.net HOLD\n\
                                tagged@example.net PREPEND X-Tag: seen\nmarked@example.net PREPEND X-Tag: seen\n";
const ALIASES: &str = "info@example.net brian@example.net,notbrian@example.net\n\
                       both@example.net brian@example.net,full@example.net\n\
                       away@example.net x@elsewhere.example\npostmaster@example.net brian@example.net\n\
                       gone@example.net brian@example.net\nmoved@example.net brian@example.net\n\
                       lost@example.net brian@example.net\nwatched@example.net brian@example.net\n\
                       kept@example.net brian@example.net\ntagged@example.net brian@example.net\nmarked@example.net brian@example.net\n";

/// Remembers what was queued.
#[derive(Default)]
struct Door(Mutex<Vec<deliver::Queued>>);

impl QueueDoor for Door {
    fn queued(&self, queued: deliver::Queued) {
        self.0.lock().unwrap().push(queued);
    }

    fn flush(&self, _: &Domain) -> bool {
        true
    }
}

/// A house, and one session at its desk.
struct World {
    door: Arc<Door>,
    folder: tempfile::TempDir,
    store: Arc<EmbeddedStore>,
    desk: Desk,
    client: Arc<Client>,
    envelope: Arc<Envelope>,
}

async fn world(role: Role) -> World {
    let folder = tempfile::tempdir().unwrap();
    let accounts = format!(
        "{BRIAN}:{{PLAIN}}b::::::\n{NOT_BRIAN}:{{PLAIN}}n::::::\n\
         full@example.net:{{PLAIN}}f::::::userdb_quota_rule=*:bytes=5\n\
         tight@example.net:{{PLAIN}}t::::::userdb_quota_rule=*:bytes=1000\n"
    );
    for (name, text) in [
        ("accounts", accounts.as_str()),
        ("domains", "example.net\n"),
        ("relay_domains", "example.com\n"),
        ("senders", "brian@example.net brian@example.net\n"),
        ("aliases", ALIASES),
        ("recipient_access", RECIPIENT_ACCESS),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let directory = Arc::new(Directory::open(Settings::in_folder(folder.path())).unwrap());
    let options = Options { sync: false, ..Options::new(folder.path().join("mail")) };
    let store = Arc::new(EmbeddedStore::open(options).unwrap());
    fill(&store, "full@example.net", 10).await;
    let door = Arc::new(Door::default());
    let house = House {
        host_name: "mx.example.net".into(),
        store: store.clone(),
        directory: directory.clone(),
        policy: Policy::new(directory.clone(), store.clone(), CheckName::GUIDE.to_vec()),
        trusted: net::Networks::default(),
        login: Arc::new(Login::new(directory, net::HashPool::new(1, 8), Duration::ZERO)),
        queue_ids: Arc::default(),
        queue: door.clone(),
        srs: Some(Arc::new(Srs::new(Domain::parse("example.net").unwrap(), &[Secret::new("s".repeat(16))]).unwrap())),
        submission: (role == Role::Submission).then(SubmissionRules::default),
        signer: None,
        archive: None,
        rates: None,
        authentication_offered: role == Role::Submission,
        hops_max: 3,
        message_octets_max: 100_000,
        listener: "test".into(),
        refusals: Arc::new(tokio::sync::Semaphore::new(4)),
        fates: FateCounters::default(),
    };
    let greeting = if role == Role::Lmtp { Greeting::Lhlo } else { Greeting::Ehlo };
    let peer = PeerFacts { peer: Some("192.0.2.1:40000".parse().unwrap()), local: None, tls: None };
    let client = Client { peer, role, greeting: Some((greeting, "client.example".into())), tls: None, account: None };
    World {
        folder,
        store,
        door,
        desk: Desk::new(Arc::new(house)),
        client: Arc::new(client),
        envelope: Arc::new(Envelope::new(ReversePath::Null)),
    }
}

async fn fill(store: &EmbeddedStore, account: &str, octets: usize) {
    let mut writer = store.stage().unwrap();
    writer.write(&vec![b'x'; octets]).unwrap();
    let body = writer.finish(b"", Vec::new()).unwrap();
    let mailbox = MailboxRef::Named(MailboxName::inbox());
    let change = Change::Append { mailbox, body: body.id, flags: FlagSet::default(), internal_date: now() };
    let account = AccountName::parse(account).unwrap();
    let group = Group { account, changes: vec![change], quota: Quota::default() };
    assert!(
        store.commit(Commit { groups: vec![group], together: true, ..Commit::default() }).await.unwrap()[0].is_ok()
    );
}

impl World {
    /// As a session does: MAIL, and those RCPT that are taken join the envelope. Gives their refusals.
    async fn open(&mut self, reverse_path: &str, recipients: &[&str]) -> Vec<String> {
        self.open_for(reverse_path, recipients, None).await
    }

    /// The same, with NOTIFY.
    async fn open_for(&mut self, reverse_path: &str, recipients: &[&str], notify: Option<Notify>) -> Vec<String> {
        let path = Address::parse(reverse_path).map_or(ReversePath::Null, ReversePath::Address);
        let declared = self.envelope.declared_size_octets;
        self.envelope = Arc::new(Envelope { declared_size_octets: declared, ..Envelope::new(path) });
        let (client, envelope) = (self.client.clone(), self.envelope.clone());
        assert_eq!(self.desk.answer(Question::Mail { client, envelope }).await, Answer::Verdict(Ok(())));
        let mut refusals = Vec::new();
        for text in recipients {
            let recipient = Recipient { notify, ..Recipient::new(Address::parse(text).unwrap()) };
            let (client, envelope) = (self.client.clone(), self.envelope.clone());
            let question = Question::Recipient { client, envelope, recipient: recipient.clone() };
            match self.desk.answer(question).await {
                Answer::Verdict(Ok(())) => Arc::make_mut(&mut self.envelope).recipients.push(recipient),
                Answer::Verdict(Err(reply)) => refusals.push(reply.to_string()),
                other => panic!("{other:?}"),
            }
        }
        refusals
    }

    async fn text(&mut self, text: &str) -> Vec<String> {
        let (client, envelope) = (self.client.clone(), self.envelope.clone());
        let begun = self.desk.answer(Question::BeginBody { client: client.clone(), envelope: envelope.clone() }).await;
        assert_eq!(begun, Answer::Verdict(Ok(())));
        for piece in text.as_bytes().chunks(7) {
            self.desk.body(piece.to_vec()).await;
        }
        match self.desk.answer(Question::EndOfMessage { client, envelope }).await {
            Answer::Replies(replies) => replies.iter().map(Reply::to_string).collect(),
            other => panic!("{other:?}"),
        }
    }

    async fn abandon(&mut self, cause: Abandoned) -> Answer {
        let (client, envelope) = (self.client.clone(), self.envelope.clone());
        self.desk.answer(Question::Abandon { client, envelope, cause }).await
    }

    /// Waits until there is a story that mentions a text.
    async fn story_of(&self, text: &str) -> store::queue::Story {
        let query = store::queue::StoryQuery { text: Some(text.into()), limit: 9, ..Default::default() };
        for _ in 0..200 {
            if let Some(story) = self.store.stories(query.clone()).await.unwrap().pop() {
                return story;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no story of {text}")
    }

    async fn send(&mut self, recipients: &[&str], text: &str) -> Vec<String> {
        assert_eq!(self.open("you@example.org", recipients).await, [""; 0]);
        self.text(text).await
    }

    /// What was queued last, if it is in the queue of the store: its recipients.
    async fn queued(&self) -> Vec<mail::QueuedRecipient> {
        self.queued_message().await.recipients
    }

    async fn queued_message(&self) -> mail::QueuedMessage {
        let id = self.door.0.lock().unwrap().last().unwrap().envelope.id;
        self.store.queued(id).await.unwrap().unwrap()
    }

    /// The house, to be furnished otherwise.
    fn house(&mut self) -> &mut House {
        Arc::get_mut(&mut self.desk.house).unwrap()
    }

    /// What lies in an INBOX, oldest first.
    async fn inbox(&self, account: &str) -> Vec<String> {
        let account = AccountName::parse(account).unwrap();
        let mailboxes = self.store.mailboxes(&account).await.unwrap();
        let inbox = mailboxes.iter().find(|info| info.name.is_inbox()).unwrap().id.unwrap();
        let snapshot = self.store.snapshot(&account, inbox).await.unwrap();
        let ranges = snapshot.iter().map(|message| BodyRange { blob: message.blob, start: 0, octets: u64::MAX });
        let bodies = self.store.read(ranges.collect()).await.unwrap();
        bodies.into_iter().map(|body| String::from_utf8(body.unwrap().to_vec()).unwrap()).collect()
    }
}

/// R64, R105, R24: Return-Path, Delivered-To and Received on top; older Return-Path fields are gone.
#[tokio::test]
async fn r64_r105_trace_fields_are_on_top() {
    let mut world = world(Role::Mx).await;
    let replies = world.send(&[BRIAN], "Return-Path: <forged@example.org>\r\nSubject: s\r\n\r\nb\r\n").await;
    let id = replies[0].strip_prefix("250 2.0.0 Ok: queued as ").unwrap().to_owned();
    let inbox = world.inbox(BRIAN).await;
    let expected = format!(
        "Return-Path: <you@example.org>\r\nDelivered-To: {BRIAN}\r\n\
         Received: from client.example (unknown [192.0.2.1])\r\n\tby mx.example.net with ESMTP id {id}\r\n\tfor <{BRIAN}>; "
    );
    assert!(inbox[0].starts_with(&expected), "{}", inbox[0]);
    assert!(inbox[0].ends_with("\r\nSubject: s\r\n\r\nb\r\n") && !inbox[0].contains("forged"), "{}", inbox[0]);

    let tls = TlsFacts { version: "TLSv1.3", cipher: "TLS_AES_256_GCM_SHA384".into(), bits: 256, server_name: None };
    world.client = Arc::new(Client {
        tls: Some(tls),
        role: Role::Submission,
        account: AccountName::parse(BRIAN),
        ..Client::clone(&world.client)
    });
    world.open(BRIAN, &[BRIAN, NOT_BRIAN]).await;
    assert!(world.text("Subject: t\r\n\r\nb\r\n").await[0].starts_with("250 "));
    let inbox = world.inbox(NOT_BRIAN).await;
    assert!(inbox[0].starts_with("Return-Path: <brian@example.net>\r\nReceived: "), "{}", inbox[0]);
    assert!(inbox[0].contains(" with ESMTPSA id ") && inbox[0].contains("(using TLSv1.3 with cipher "));
    assert!(!inbox[0].contains("\tfor <"), "R105: one recipient is not told of the others");
}

/// R205, RFC 8689: a message that needs no TLS goes to its recipients whatever they publish, and its archive copy does not.
#[tokio::test]
async fn r205_no_stranger_opens_the_way_to_the_archive() {
    let mut world = world(Role::Mx).await;
    world.house().archive = Some(Address::parse("all@archive.example").unwrap());
    world.send(&["away@example.net"], "TLS-Required: No\r\nSubject: s\r\n\r\nb\r\n").await;
    let queued = world.door.0.lock().unwrap().clone();
    let wishes =
        queued.iter().map(|queued| (queued.recipients[0].recipient.address.to_string(), queued.envelope.require_tls));
    let expected =
        [("x@elsewhere.example", mail::RequireTls::Optional), ("all@archive.example", mail::RequireTls::Ordinary)];
    assert_eq!(wishes.collect::<Vec<_>>(), expected.map(|(to, wish)| (to.to_owned(), wish)));
}

/// R103: what is missing is added for those who send for us, and for nobody else.
#[tokio::test]
async fn r103_trusted_clients_mail_is_completed() {
    let fields = |text: &str| ["\nDate: ", "\nFrom: ", "\nMessage-ID: "].map(|name| text.matches(name).count());
    let mut world = world(Role::Mx).await;
    world.send(&[BRIAN], "Subject: s\r\n\r\nb\r\n").await;
    assert_eq!(fields(&world.inbox(BRIAN).await[0]), [0, 0, 0]);

    world.house().trusted = std::iter::once("192.0.2.0/24".parse().unwrap()).collect();
    world.send(&[BRIAN], "Subject: s\r\n\r\nb\r\n").await;
    let text = world.inbox(BRIAN).await.pop().unwrap();
    assert_eq!(fields(&text), [1, 1, 1], "{text}");
    assert!(text.contains("\nFrom: you@example.org\r\n") && text.contains("@mx.example.net>\r\nSubject: s"), "{text}");
    world.send(&[BRIAN], "date: d\r\nFROM: f\r\nMessage-Id: <i@x>\r\n\r\nb\r\n").await;
    assert_eq!(fields(&world.inbox(BRIAN).await[2]), [0, 0, 0], "what is there stays, in whatever spelling");
    world.open("", &[BRIAN]).await;
    world.text("Subject: s\r\n\r\nb\r\n").await;
    assert!(world.inbox(BRIAN).await[3].contains("\nFrom: MAILER-DAEMON@mx.example.net\r\n"));
}

#[tokio::test]
async fn r102_a_missing_empty_line_is_put_in() {
    let mut world = world(Role::Mx).await;
    world.send(&[BRIAN], "Subject: Virus Free\r\nNo Viruses here!\r\n").await;
    let inbox = world.inbox(BRIAN).await;
    assert!(inbox[0].ends_with("\r\nSubject: Virus Free\r\n\r\nNo Viruses here!\r\n"), "{}", inbox[0]);
}

#[tokio::test]
async fn r101_too_many_hops_are_refused() {
    let hops = |count: usize| "Received: from a by b; now\r\n".repeat(count) + "\r\nb\r\n";
    let mut mx = world(Role::Mx).await;
    assert!(mx.send(&[BRIAN], &hops(3)).await[0].starts_with("250 "));
    assert_eq!(mx.send(&[BRIAN, NOT_BRIAN], &hops(4)).await, ["554 5.4.0 Error: too many hops"]);
    let mut lmtp = world(Role::Lmtp).await;
    assert_eq!(lmtp.send(&[BRIAN, NOT_BRIAN], &hops(4)).await, ["554 5.4.0 Error: too many hops"; 2]);
    assert_eq!((mx.inbox(BRIAN).await.len(), lmtp.inbox(BRIAN).await.len()), (1, 0));
}

/// R66: whatever leads to a mailbox, it gets one copy.
#[tokio::test]
async fn r66_each_mailbox_gets_one_copy() {
    let mut world = world(Role::Mx).await;
    assert_eq!(world.send(&["info@example.net", BRIAN, BRIAN], "\r\nb\r\n").await.len(), 1);
    assert_eq!((world.inbox(BRIAN).await.len(), world.inbox(NOT_BRIAN).await.len()), (1, 1));
}

/// R63, R65: each recipient of LMTP has its reply, also where two of them share a mailbox.
#[tokio::test]
async fn r63_r65_lmtp_answers_for_each_recipient() {
    let mut world = world(Role::Lmtp).await;
    let recipients = [BRIAN, "nobody@example.net", "full@example.net", "info@example.net", "both@example.net"];
    let refusals = world.open("you@example.org", &recipients).await;
    assert_eq!(refusals, ["550 5.1.1 <nobody@example.net> User doesn't exist: nobody@example.net"]);
    let replies = world.text("Subject: s\r\n\r\nb\r\n").await;
    let full = |address| format!("552 5.2.2 <{address}> Quota exceeded (mailbox for user is full)");
    assert_eq!(replies.len(), 4);
    assert!(replies[0].starts_with("250 2.0.0 <brian@example.net> ") && replies[0].ends_with(" Saved"));
    assert_eq!(replies[1], full("full@example.net"));
    assert!(replies[2].starts_with("250 2.0.0 <info@example.net> "));
    assert_eq!(replies[3], full("both@example.net"), "one of its mailboxes did not get the message");
    assert_eq!((world.inbox(BRIAN).await.len(), world.inbox(NOT_BRIAN).await.len()), (1, 1));
    assert_eq!(world.inbox("full@example.net").await.len(), 1);
}

/// RFC 2033 §3: LMTP is for final delivery only.
#[tokio::test]
async fn lmtp_takes_nothing_that_is_passed_on() {
    let mut world = world(Role::Lmtp).await;
    let refusals = world.open("", &["x@elsewhere.example", "x@example.com", "away@example.net"]).await;
    assert!(refusals[0].starts_with("550 5.1.1 <x@elsewhere.example> User doesn't exist"), "{refusals:?}");
    assert!(refusals[1].starts_with("550 5.1.1 <x@example.com> User doesn't exist"), "{refusals:?}");
    assert_eq!(refusals.len(), 2, "an alias of ours may lead out");
}

/// R113: what access tables want done with a message.
#[tokio::test]
async fn r113_effects_of_access_tables() {
    let mut world = world(Role::Mx).await;
    let queued = "250 2.0.0 Ok: queued as ";
    assert!(world.send(&["gone@example.net", NOT_BRIAN], "\r\ndiscarded\r\n").await[0].starts_with(queued));
    assert_eq!((world.inbox(BRIAN).await.len(), world.inbox(NOT_BRIAN).await.len()), (0, 0));
    assert!(world.send(&["moved@example.net"], "\r\nmoved\r\n").await[0].starts_with(queued));
    assert_eq!((world.inbox(BRIAN).await.len(), world.inbox(NOT_BRIAN).await.len()), (0, 1));
    assert!(world.send(&["lost@example.net"], "\r\nlost\r\n").await[0].starts_with(queued));
    assert_eq!(world.queued().await[0].recipient.address.to_string(), "x@elsewhere.example");
    assert!(world.send(&["watched@example.net"], "\r\nwatched\r\n").await[0].starts_with(queued));
    assert_eq!((world.inbox(BRIAN).await.len(), world.inbox(NOT_BRIAN).await.len()), (1, 2));
    world.send(&["tagged@example.net", "marked@example.net"], "Subject: s\r\n\r\nb\r\n").await;
    let inbox = world.inbox(BRIAN).await;
    assert!(inbox[1].contains("\r\nX-Tag: seen\r\nReceived: "), "{}", inbox[1]);
    assert_eq!(inbox[1].matches("X-Tag").count(), 1);
}

/// All or nothing in SMTP: one reply speaks for all. A mailbox that filled up since its RCPT makes it temporary.
#[tokio::test]
async fn a_mailbox_that_fills_up_puts_the_message_off_for_all() {
    let mut world = world(Role::Mx).await;
    assert_eq!(world.open("", &[BRIAN, "tight@example.net"]).await, [""; 0]);
    fill(&world.store, "tight@example.net", 2_000).await;
    assert_eq!(world.text("\r\nb\r\n").await, ["452 4.2.2 A mailbox of the message became full, try again"]);
    assert!(world.inbox(BRIAN).await.is_empty());
    let refusals = world.open("", &[BRIAN, "tight@example.net"]).await;
    assert_eq!(refusals, ["522 5.2.2 <tight@example.net>: Recipient address rejected: Mailbox is full"]);
    assert!(world.text("\r\nb\r\n").await[0].starts_with("250 "), "the next attempt ends it");
}

/// A message larger than declared would pass RCPT for ever and never fit: refused for good, by name.
#[tokio::test]
async fn r65_what_would_never_fit_is_refused_for_good() {
    let mut world = world(Role::Mx).await;
    let text = format!("\r\n{}\r\n", "x".repeat(2_000));
    let for_good = ["552 5.2.2 <tight@example.net> Quota exceeded (mailbox for user is full)"];
    assert_eq!(world.send(&[BRIAN, "tight@example.net"], &text).await, for_good);
    assert!(world.inbox(BRIAN).await.is_empty());
    Arc::make_mut(&mut world.envelope).declared_size_octets = Some(2_004);
    let refusals = world.open("", &[BRIAN, "tight@example.net"]).await;
    assert!(refusals[0].starts_with("522 5.2.2 <tight@example.net>"), "R80");
}

/// V7: after any end of a message nothing of its recipients is left.
#[tokio::test]
async fn v7_nothing_of_a_message_outlives_it() {
    let mut world = world(Role::Mx).await;
    world.send(&[BRIAN], "\r\nfirst\r\n").await;
    world.open("", &[BRIAN]).await;
    assert_eq!(world.abandon(Abandoned::ByClient).await, Answer::Done);
    world.send(&[NOT_BRIAN], "\r\nsecond\r\n").await;
    assert_eq!((world.inbox(BRIAN).await.len(), world.inbox(NOT_BRIAN).await.len()), (1, 1));
    let (client, envelope) = (world.client.clone(), world.envelope.clone());
    let replies = world.desk.answer(Question::EndOfMessage { client, envelope }).await;
    assert_eq!(replies, Answer::Replies(vec![reply::local_error()]), "there was no text");
}

/// RFC 5321 §4.5.1, R109: the postmaster needs no domain; R96: nor with VRFY.
#[tokio::test]
async fn r109_r96_the_postmaster_of_the_house() {
    let mut world = world(Role::Mx).await;
    assert_eq!(world.open("", &["Postmaster@mx.example.net"]).await, [""; 0]);
    assert!(world.open("", &["brian@mx.example.net"]).await[0].starts_with("554 5.7.1 "));
    let recipient = Recipient::new(Address::parse("postmaster@mx.example.net").unwrap());
    let answer = world.desk.answer(Question::Verify { client: world.client.clone(), recipient }).await;
    let Answer::Reply(reply) = answer else { panic!("{answer:?}") };
    assert_eq!(reply.to_string(), "252 2.0.0 postmaster@mx.example.net");
}

/// A store that is closed keeps the message with the sender (R114, V14: nothing of the cause is told).
#[tokio::test]
async fn a_closed_store_takes_nothing() {
    let mut world = world(Role::Mx).await;
    assert_eq!(world.open("", &[BRIAN]).await, [""; 0]);
    let (client, envelope) = (world.client.clone(), world.envelope.clone());
    world.store.close().await.unwrap();
    match world.desk.answer(Question::BeginBody { client, envelope }).await {
        Answer::Verdict(Err(reply)) => assert_eq!(reply.code, 421, "{reply}"),
        Answer::Verdict(Ok(())) => assert_eq!(world.text("\r\nb\r\n").await, ["421 4.3.2 Service shutting down"]),
        other => panic!("{other:?}"),
    }
}

/// R118, R144: what leads out of the house is queued in the same commit as what stays.
#[tokio::test]
async fn what_leads_out_is_queued_with_what_stays() {
    let mut world = world(Role::Mx).await;
    let replies = world.send(&[BRIAN, "away@example.net", "x@example.com"], "Message-ID: <m@x>\r\n\r\nb\r\n").await;
    assert!(replies[0].starts_with("250 2.0.0 Ok: queued as "), "{replies:?}");
    assert_eq!(world.inbox(BRIAN).await.len(), 1);
    let queued = world.queued().await;
    let shown: Vec<(String, Option<String>)> = queued
        .iter()
        .map(|queued| (queued.recipient.address.to_string(), queued.via.as_ref().map(ToString::to_string)))
        .collect();
    let away = ("x@elsewhere.example".to_owned(), Some("away@example.net".to_owned()));
    assert_eq!(shown, [away, ("x@example.com".to_owned(), None)]);
    let audit = world.store.audit().await.unwrap();
    assert!(audit.total.is_balanced() && audit.unbalanced.is_empty(), "{audit:?}");
    let id = world.door.0.lock().unwrap()[0].envelope.id;
    let story = format!("{:?}", world.store.story(id).await.unwrap().unwrap());
    for told in ["Received", "<m@x>", "Expanded", "Stored", "Queued"] {
        assert!(story.contains(told), "{told}: {story}");
    }
    // R64: in the mailbox, and not in what leaves (RFC 5321 §4.4).
    let kept = &world.inbox(BRIAN).await[0];
    assert!(
        kept.starts_with(&format!("Return-Path: <you@example.org>\r\nDelivered-To: {BRIAN}\r\nReceived: ")),
        "{kept}"
    );
    let blob = world.queued_message().await.blob;
    let leaving = deliver::Reading::new(&*world.store, blob).next().await.unwrap();
    assert_eq!(kept.find("Received: ").map(|at| &kept.as_bytes()[at..]), Some(&leaving[..]));
}

/// R139: HOLD is answered as usual, and nothing is delivered, not even here.
#[tokio::test]
async fn r139_held_mail_waits_whole() {
    let mut world = world(Role::Mx).await;
    assert!(world.send(&["kept@example.net", NOT_BRIAN], "\r\nheld\r\n").await[0].starts_with("250 2.0.0 "));
    assert!(world.inbox(NOT_BRIAN).await.is_empty());
    let queued = world.queued().await;
    assert!(queued.iter().all(|queued| queued.state == QueueState::Held));
    assert_eq!(queued.len(), 2);
    assert_eq!(queued[0].recipient.address.to_string(), BRIAN);
}

/// Reports that come back to a rewritten reverse-path go to whom it stands for; nothing else does.
#[tokio::test]
async fn rewritten_reverse_paths_take_reports_only() {
    let mut world = world(Role::Mx).await;
    let srs = Srs::new(Domain::parse("example.net").unwrap(), &[Secret::new("s".repeat(16))]).unwrap();
    let today = Day::of(u64::try_from(now().unix_seconds).unwrap());
    let rewritten = srs.forward(&Address::parse("you@elsewhere.example").unwrap(), today).to_string();
    assert_eq!(world.open("", &[&rewritten]).await, [""; 0]);
    assert!(world.text("\r\nreport\r\n").await[0].starts_with("250 "));
    assert_eq!(world.queued().await[0].recipient.address.to_string(), "you@elsewhere.example");
    let refused = world.open("spam@elsewhere.example", &[&rewritten]).await;
    assert!(refused[0].starts_with("550 5.7.1 "), "{refused:?}");
    let forged = rewritten.replace("you", "victim");
    assert!(world.open("", &[&forged]).await[0].starts_with("550 5.1.1 "));
}

/// P1: refusals have a story as well.
#[tokio::test]
async fn p1_refusals_are_told() {
    let mut world = world(Role::Mx).await;
    world.open("you@example.org", &["nobody@example.net"]).await;
    world.story_of("nobody@example.net").await;

    let log = testkit::log::Log::capture();
    world.open("big@example.org", &[BRIAN]).await;
    let reply = Reply::new(552, mail::EnhancedStatus::new(5, 3, 4), "Error: message file too big");
    assert_eq!(world.abandon(Abandoned::Refused(reply)).await, Answer::Done);
    let story = world.story_of("big@example.org").await;
    let Happening::Refused { by, reply, .. } = &story.events[0].what else { panic!("{story:?}") };
    assert_eq!((by.as_str(), &reply[..9]), ("the limit of octets of a message", "552 5.3.4"));
    world.abandon(Abandoned::ByClient).await;
    let lines = log.take();
    let has = |start: &str| lines.iter().any(|line| line.starts_with(start));
    assert!(
        has("message refused listener=test peer=192.0.2.1:40000 from=big@example.org to=brian@example.net"),
        "{lines:?}"
    );
    assert!(has("message given up by its client listener=test"), "{lines:?}");
}

const ON_SUCCESS: Option<Notify> = Some(Notify::On { success: true, failure: true, delay: false });

/// R63, R65: NOTIFY=SUCCESS leads through the queue, and not past the quota.
#[tokio::test]
async fn r65_lmtp_with_notify_success_is_held_to_the_quota() {
    let mut world = world(Role::Lmtp).await;
    let recipients = [BRIAN, "full@example.net", "both@example.net"];
    assert_eq!(world.open_for("you@example.org", &recipients, ON_SUCCESS).await, [""; 0]);
    let replies = world.text("\r\nb\r\n").await;
    let full = |address| format!("552 5.2.2 <{address}> Quota exceeded (mailbox for user is full)");
    assert!(replies[0].starts_with("250 2.0.0 <brian@example.net> "), "{replies:?}");
    assert_eq!(replies[1..], [full("full@example.net"), full("both@example.net")]);
    let queued: Vec<String> = world.queued().await.iter().map(|queued| queued.recipient.address.to_string()).collect();
    assert_eq!(queued, [BRIAN]);
    let audit = world.store.audit().await.unwrap();
    assert!(audit.total.is_balanced() && audit.total.accepted == 1, "{audit:?}");
}

/// R64: what is delivered from the queue gets the fields of a delivery there, and only there.
#[tokio::test]
async fn r64_notify_success_leads_to_one_return_path() {
    let mut world = world(Role::Mx).await;
    world.open_for("you@example.org", &[BRIAN], ON_SUCCESS).await;
    assert!(world.text("Subject: s\r\n\r\nb\r\n").await[0].starts_with("250 "));
    let range = BodyRange { blob: world.queued_message().await.blob, start: 0, octets: u64::MAX };
    let octets = world.store.read(vec![range]).await.unwrap().remove(0).unwrap();
    assert!(octets.starts_with(b"Received: from client.example "), "{octets:?}");
}

/// R114: a mailbox that cannot be looked at is no reason to end the session.
#[tokio::test]
async fn r114_a_usage_that_cannot_be_read_is_a_local_error() {
    for role in [Role::Mx, Role::Lmtp] {
        let mut world = world(role).await;
        let other = world.folder.path().join("other");
        let other = Arc::new(EmbeddedStore::open(Options { sync: false, ..Options::new(other) }).unwrap());
        let directory = world.house().directory.clone();
        world.house().policy = Policy::new(directory, other.clone(), CheckName::GUIDE.to_vec());
        assert_eq!(world.open_for("you@example.org", &[BRIAN], ON_SUCCESS).await, [""; 0]);
        other.close().await.unwrap();
        assert_eq!(world.text("\r\nb\r\n").await, [reply::local_error().to_string()]);
    }
}

/// V40: a domain stands by a message only if the account may send as an address of it, whoever is named as the author.
#[tokio::test]
async fn v40_a_reverse_path_that_is_not_the_accounts_does_not_sign() {
    use directory::signing::edit::{NewKey, SigningEditor};
    use directory::signing::{Selector, Signing, State, read_key_file};
    for (account, is_signed) in [(BRIAN, true), (NOT_BRIAN, false)] {
        let mut world = world(Role::Submission).await;
        let table = world.folder.path().join("dkim");
        let key = (Selector::parse("s1").unwrap(), NewKey::Ed25519);
        let domain = Domain::parse("example.net").unwrap();
        SigningEditor::new(&table).add(&domain, State::Active, &[key]).unwrap();
        let keys = Arc::new(Signing::open(&table, &read_key_file).unwrap());
        let (directory, store) = (world.house().directory.clone(), world.store.clone());
        world.house().policy = Policy::new(directory, store, Vec::new());
        world.house().signer = Some(Arc::new(Signer { keys, recipe: Default::default() }));
        let account = AccountName::parse(account);
        world.client = Arc::new(Client { account, ..Client::clone(&world.client) });
        assert_eq!(world.open(BRIAN, &[NOT_BRIAN]).await, [""; 0]);
        assert!(world.text("From: x@other.example\r\n\r\nb\r\n").await[0].starts_with("250 "));
        assert_eq!(world.inbox(NOT_BRIAN).await[0].contains("DKIM-Signature:"), is_signed);
    }
}

/// R113: the log tells what was done, whatever the recipient's own way would have been.
#[tokio::test]
async fn r113_the_log_tells_what_was_done() {
    let mut world = world(Role::Mx).await;
    let log = testkit::log::Log::capture();
    for (recipients, notify, outcomes) in [
        (&[BRIAN, "x@example.com"][..], None, &["delivered", "queued"][..]),
        (&[BRIAN], ON_SUCCESS, &["queued"]),
        (&["lost@example.net"], None, &["queued"]),
        (&["moved@example.net"], None, &["delivered"]),
        (&["moved@example.net"], ON_SUCCESS, &["queued"]),
        (&["gone@example.net", BRIAN], None, &["discarded", "discarded"]),
        (&["kept@example.net", BRIAN], None, &["held", "held"]),
    ] {
        world.open_for("you@example.org", recipients, notify).await;
        world.text("\r\nb\r\n").await;
        let lines = log.take();
        let told = lines.iter().filter(|line| line.starts_with("delivery "));
        let told: Vec<&str> = told.filter_map(|line| line.split(" outcome=").nth(1)?.split(' ').next()).collect();
        assert_eq!(told, outcomes, "{recipients:?}");
    }
}
