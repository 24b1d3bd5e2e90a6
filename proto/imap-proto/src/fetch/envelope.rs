//! ENVELOPE (RFC 3501 §7.4.2): the envelope fields of a digest as the client gets them.

use crate::encode::{nstring, string};
use message::digest::{Envelope, EnvelopeAddress};

/// Writes an envelope.
pub fn write(out: &mut Vec<u8>, envelope: &Envelope) {
    out.push(b'(');
    nstring(out, envelope.date.as_deref());
    out.push(b' ');
    nstring(out, envelope.subject.as_deref());
    for addresses in [
        &envelope.from,
        or_from(&envelope.sender, envelope),
        or_from(&envelope.reply_to, envelope),
        &envelope.to,
        &envelope.cc,
        &envelope.bcc,
    ] {
        out.push(b' ');
        write_addresses(out, addresses);
    }
    out.push(b' ');
    nstring(out, envelope.in_reply_to.as_deref());
    out.push(b' ');
    nstring(out, envelope.message_id.as_deref());
    out.push(b')');
}

/// RFC 3501 §7.4.2: Sender and Reply-To, where absent or empty, are as From.
fn or_from<'a>(addresses: &'a Vec<EnvelopeAddress>, envelope: &'a Envelope) -> &'a Vec<EnvelopeAddress> {
    if addresses.is_empty() { &envelope.from } else { addresses }
}

fn write_addresses(out: &mut Vec<u8>, addresses: &[EnvelopeAddress]) {
    if addresses.is_empty() {
        out.extend_from_slice(b"NIL");
        return;
    }
    out.push(b'(');
    for address in addresses {
        match address {
            EnvelopeAddress::Mailbox { name, route, local, host } => {
                out.push(b'(');
                nstring(out, name.as_deref());
                out.push(b' ');
                nstring(out, route.as_deref());
                out.push(b' ');
                string(out, local);
                out.push(b' ');
                // RFC 3501 §7.4.2: NIL here would begin a group, so a missing host is the empty string.
                string(out, host);
                out.push(b')');
            }
            EnvelopeAddress::GroupStart(name) => {
                out.extend_from_slice(b"(NIL NIL ");
                string(out, name);
                out.extend_from_slice(b" NIL)");
            }
            EnvelopeAddress::GroupEnd => out.extend_from_slice(b"(NIL NIL NIL NIL)"),
        }
    }
    out.push(b')');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(name: Option<&str>, local: &str, host: &str) -> EnvelopeAddress {
        EnvelopeAddress::Mailbox {
            name: name.map(|name| name.as_bytes().to_vec()),
            route: None,
            local: local.into(),
            host: host.into(),
        }
    }

    fn written(envelope: &Envelope) -> String {
        let mut out = Vec::new();
        write(&mut out, envelope);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn sender_and_reply_to_fall_back_to_from() {
        let envelope = Envelope {
            date: Some(b"Wed, 17 Jul 1996 02:23:25 -0700 (PDT)".to_vec()),
            subject: Some(b"IMAP4rev1 WG mtg \"summary\" and minutes".to_vec()),
            from: vec![mailbox(Some("Terry Gray"), "gray", "cac.example.edu")],
            reply_to: vec![mailbox(None, "list", "example.edu")],
            to: vec![mailbox(None, "imap", "cac.example.edu")],
            message_id: Some(b"<B27397-0100000@cac.example.edu>".to_vec()),
            ..Envelope::default()
        };
        assert_eq!(
            written(&envelope),
            "(\"Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\" \"IMAP4rev1 WG mtg \\\"summary\\\" and minutes\" \
             ((\"Terry Gray\" NIL \"gray\" \"cac.example.edu\")) ((\"Terry Gray\" NIL \"gray\" \"cac.example.edu\")) \
             ((NIL NIL \"list\" \"example.edu\")) ((NIL NIL \"imap\" \"cac.example.edu\")) NIL NIL NIL \
             \"<B27397-0100000@cac.example.edu>\")"
        );
    }

    #[test]
    fn an_empty_header_gives_ten_nils() {
        assert_eq!(written(&Envelope::default()), "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)");
    }

    #[test]
    fn v26_groups_and_broken_addresses_keep_the_form() {
        let envelope = Envelope {
            to: vec![
                EnvelopeAddress::GroupStart(b"undisclosed-recipients".to_vec()),
                EnvelopeAddress::GroupEnd,
                mailbox(None, "nobody", ""),
            ],
            cc: vec![mailbox(Some("J\u{fc}rgen \r\n\0"), "j", "example.net")],
            subject: Some(Vec::new()),
            ..Envelope::default()
        };
        let text = written(&envelope);
        assert!(text.contains("((NIL NIL \"undisclosed-recipients\" NIL)(NIL NIL NIL NIL)(NIL NIL \"nobody\" \"\"))"));
        assert!(text.contains("(({11}\r\nJ\u{fc}rgen \r\n\u{fffd} NIL"), "{text}");
        assert!(text.starts_with("(NIL \"\" NIL NIL NIL"));
    }
}
