//! The arguments of MAIL, RCPT and VRFY: a path, and parameters `KEYWORD=value` after it (RFC 5321 §4.1.1.11).

use super::{Fault, Offer, path};
use crate::config::Extensions;
use mail::{DsnReturn, Envelope, Notify, Recipient, ReversePath};

/// RFC 3461 §4.4.
const ENVELOPE_ID_OCTETS_MAX: usize = 100;
/// RFC 3461 §4.2.
const ORIGINAL_RECIPIENT_OCTETS_MAX: usize = 500;

/// What follows MAIL.
pub(crate) fn mail(arguments: &str, offer: Offer<'_>) -> Result<Envelope, Fault> {
    let (path, parameters) = path_after("FROM:", arguments).ok_or(Fault::MailSyntax)?;
    let mut envelope = Envelope::new(ReversePath::Null);
    let mut seen = Seen::default();
    for parameter in parameters {
        mail_parameter(parameter?, &mut envelope, &mut seen, offer)?;
    }
    envelope.reverse_path = path::reverse(path, envelope.smtputf8)?;
    Ok(envelope)
}

/// What follows RCPT, in a transaction with or without SMTPUTF8.
pub(crate) fn recipient(arguments: &str, smtputf8: bool, offer: Offer<'_>) -> Result<Recipient, Fault> {
    let (path, parameters) = path_after("TO:", arguments).ok_or(Fault::RecipientSyntax)?;
    let address = path::forward(path, smtputf8, offer)?;
    let mut recipient = Recipient::new(address);
    let mut seen = Seen::default();
    for parameter in parameters {
        recipient_parameter(parameter?, &mut recipient, &mut seen, smtputf8, offer)?;
    }
    Ok(recipient)
}

/// What follows VRFY: an address, with or without brackets, and SMTPUTF8 perhaps (RFC 6531 §3.7.4.2).
pub(crate) fn verify(arguments: &str, offer: Offer<'_>) -> Result<Recipient, Fault> {
    let (path, rest) = path::take(arguments).ok_or(Fault::VerifySyntax)?;
    let mut smtputf8 = false;
    for parameter in words(rest) {
        let parameter = parameter?;
        if !parameter.is("SMTPUTF8") || parameter.value.is_some() || !offers(offer, Extensions::SMTPUTF8) {
            return Err(Fault::Unsupported(parameter.text.to_owned()));
        }
        smtputf8 = true;
    }
    path::forward(path, smtputf8, offer).map(Recipient::new)
}

/// One parameter.
#[derive(Debug, Clone, Copy)]
struct Parameter<'a> {
    text: &'a str,
    keyword: &'a str,
    value: Option<&'a str>,
}

impl<'a> Parameter<'a> {
    fn is(&self, keyword: &str) -> bool {
        self.keyword.eq_ignore_ascii_case(keyword)
    }

    /// The value, which must be there.
    fn value(&self, keyword: &'static str) -> Result<&'a str, Fault> {
        self.value.filter(|value| !value.is_empty()).ok_or(Fault::BadParameter(keyword))
    }
}

/// The path after `FROM:` or `TO:`, and the parameters after it. A space before the path is borne: the guide's own
/// dialogues have it (R198).
fn path_after<'a>(
    word: &str,
    arguments: &'a str,
) -> Option<(&'a str, impl Iterator<Item = Result<Parameter<'a>, Fault>>)> {
    let (front, rest) = arguments.split_at_checked(word.len())?;
    if !front.eq_ignore_ascii_case(word) {
        return None;
    }
    let (path, rest) = path::take(rest.trim_start_matches(' '))?;
    (rest.is_empty() || rest.starts_with(' ')).then_some((path, words(rest)))
}

fn words(text: &str) -> impl Iterator<Item = Result<Parameter<'_>, Fault>> {
    text.split(' ').filter(|word| !word.is_empty()).map(|text| {
        let (keyword, value) = match text.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (text, None),
        };
        let parameter = Parameter { text, keyword, value };
        let is_keyword = !keyword.is_empty() && keyword.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if is_keyword { Ok(parameter) } else { Err(Fault::Unsupported(text.to_owned())) }
    })
}

fn offers(offer: Offer<'_>, extension: Extensions) -> bool {
    offer.extensions.contain(extension)
}

/// Which keywords a command had; none may come twice (RFC 3461 §4.5).
#[derive(Debug, Default)]
struct Seen(Vec<&'static str>);

impl Seen {
    fn note(&mut self, keyword: &'static str) -> Result<(), Fault> {
        if self.0.contains(&keyword) {
            return Err(Fault::BadParameter(keyword));
        }
        self.0.push(keyword);
        Ok(())
    }
}

fn mail_parameter(
    parameter: Parameter<'_>,
    envelope: &mut Envelope,
    seen: &mut Seen,
    offer: Offer<'_>,
) -> Result<(), Fault> {
    if parameter.is("SIZE") && offers(offer, Extensions::SIZE) {
        seen.note("SIZE")?;
        envelope.declared_size_octets = Some(size(parameter.value("SIZE")?, offer)?);
    } else if parameter.is("BODY") && offers(offer, Extensions::EIGHT_BIT_MIME) {
        seen.note("BODY")?;
        envelope.eight_bit = match parameter.value("BODY")? {
            value if value.eq_ignore_ascii_case("8BITMIME") => true,
            value if value.eq_ignore_ascii_case("7BIT") => false,
            // RFC 3030 §3: BINARYMIME is not offered (not), for the stored text is text.
            _ => return Err(Fault::BadParameter("BODY")),
        };
    } else if parameter.is("RET") && offers(offer, Extensions::DSN) {
        seen.note("RET")?;
        envelope.dsn_return = Some(match parameter.value("RET")? {
            value if value.eq_ignore_ascii_case("FULL") => DsnReturn::Full,
            value if value.eq_ignore_ascii_case("HDRS") => DsnReturn::Headers,
            _ => return Err(Fault::BadParameter("RET")),
        });
    } else if parameter.is("ENVID") && offers(offer, Extensions::DSN) {
        seen.note("ENVID")?;
        let value = parameter.value("ENVID")?;
        let id = (value.len() <= ENVELOPE_ID_OCTETS_MAX).then(|| xtext(value, false)).flatten();
        envelope.envelope_id = Some(id.ok_or(Fault::BadParameter("ENVID"))?);
    } else if parameter.is("SMTPUTF8") && offers(offer, Extensions::SMTPUTF8) {
        seen.note("SMTPUTF8")?;
        // RFC 6531 §3.4: the parameter has no value.
        if parameter.value.is_some() {
            return Err(Fault::BadParameter("SMTPUTF8"));
        }
        envelope.smtputf8 = true;
    } else if parameter.is("REQUIRETLS") && offers(offer, Extensions::REQUIRETLS) {
        seen.note("REQUIRETLS")?;
        // RFC 8689 §2: the parameter has no value.
        if parameter.value.is_some() {
            return Err(Fault::BadParameter("REQUIRETLS"));
        }
        envelope.require_tls = true;
    } else if parameter.is("AUTH") && offers(offer, Extensions::AUTH) {
        seen.note("AUTH")?;
        // RFC 4954 §5: no client of ours is trusted to vouch for another, so the value is checked and forgotten.
        let value = parameter.value("AUTH")?;
        xtext(value, false).ok_or(Fault::BadParameter("AUTH"))?;
    } else {
        return Err(Fault::Unsupported(parameter.text.to_owned()));
    }
    Ok(())
}

fn recipient_parameter(
    parameter: Parameter<'_>,
    recipient: &mut Recipient,
    seen: &mut Seen,
    smtputf8: bool,
    offer: Offer<'_>,
) -> Result<(), Fault> {
    if parameter.is("NOTIFY") && offers(offer, Extensions::DSN) {
        seen.note("NOTIFY")?;
        recipient.notify = Some(notify(parameter.value("NOTIFY")?).ok_or(Fault::BadParameter("NOTIFY"))?);
    } else if parameter.is("ORCPT") && offers(offer, Extensions::DSN) {
        seen.note("ORCPT")?;
        let value = parameter.value("ORCPT")?;
        recipient.original = Some(original(value, smtputf8).ok_or(Fault::BadParameter("ORCPT"))?);
    } else {
        return Err(Fault::Unsupported(parameter.text.to_owned()));
    }
    Ok(())
}

/// RFC 1870 §4: up to 20 digits.
fn size(value: &str, offer: Offer<'_>) -> Result<u64, Fault> {
    if value.len() > 20 || !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Fault::BadParameter("SIZE"));
    }
    match value.parse() {
        Ok(octets) if octets <= offer.message_octets_max => Ok(octets),
        Ok(_) | Err(_) => Err(Fault::TooBig),
    }
}

/// RFC 3461 §4.1: NEVER alone, or a list of the others.
fn notify(value: &str) -> Option<Notify> {
    if value.eq_ignore_ascii_case("NEVER") {
        return Some(Notify::Never);
    }
    let (mut success, mut failure, mut delay) = (false, false, false);
    for word in value.split(',') {
        match word {
            word if word.eq_ignore_ascii_case("SUCCESS") => success = true,
            word if word.eq_ignore_ascii_case("FAILURE") => failure = true,
            word if word.eq_ignore_ascii_case("DELAY") => delay = true,
            _ => return None,
        }
    }
    Some(Notify::On { success, failure, delay })
}

/// RFC 3461 §4.2: `type;xtext`. With SMTPUTF8 and the type `utf-8` the address may be UTF-8 itself (RFC 6533 §3).
fn original(value: &str, smtputf8: bool) -> Option<String> {
    let (kind, address) = value.split_once(';')?;
    let is_atom =
        !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*-/?^_`{|}~".contains(&b));
    if value.len() > ORIGINAL_RECIPIENT_OCTETS_MAX || !is_atom || address.is_empty() {
        return None;
    }
    let address = xtext(address, smtputf8 && kind.eq_ignore_ascii_case("utf-8"))?;
    Some(format!("{kind};{address}"))
}

/// Decodes xtext (RFC 3461 §4). What it encodes must be printable, so that no control character comes in this way
/// (V14).
fn xtext(value: &str, utf8: bool) -> Option<String> {
    let mut out = String::with_capacity(value.len());
    let mut rest = value.chars();
    while let Some(character) = rest.next() {
        let decoded = match character {
            '+' => {
                let (high, low) = (rest.next()?.to_digit(16)?, rest.next()?.to_digit(16)?);
                char::from_u32(high * 16 + low).filter(char::is_ascii)?
            }
            // RFC 3461 §4 wants `=` encoded (not): clients do send the `=` of return addresses as it is.
            '!'..='~' => character,
            character if utf8 && !character.is_ascii() => character,
            _ => return None,
        };
        if decoded.is_control() {
            return None;
        }
        out.push(decoded);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: Offer<'static> =
        Offer { extensions: Extensions::ALL, message_octets_max: 1_000, host_name: "mx.example.net" };

    #[test]
    fn r95_mail_with_every_parameter() {
        let envelope = mail(
            "from: <@route:Root@Example.NET>  SIZE=1000 body=8bitmime RET=hdrs ENVID=a+2Bb+20c SMTPUTF8 AUTH=<>",
            OFFER,
        )
        .unwrap();
        assert_eq!(envelope.reverse_path.to_string(), "Root@example.net");
        assert_eq!((envelope.declared_size_octets, envelope.eight_bit, envelope.smtputf8), (Some(1_000), true, true));
        assert_eq!(envelope.dsn_return, Some(DsnReturn::Headers));
        assert_eq!(envelope.envelope_id.as_deref(), Some("a+b c"));
        assert_eq!(mail("FROM:<>", OFFER).unwrap(), Envelope::new(ReversePath::Null));
        assert!(!mail("FROM:<a@b> BODY=7BIT", OFFER).unwrap().eight_bit);
    }

    #[test]
    fn r95_what_is_wrong_with_mail() {
        let bad = Fault::BadParameter;
        for (arguments, fault) in [
            ("", Fault::MailSyntax),
            ("FROM", Fault::MailSyntax),
            ("FROM:", Fault::MailSyntax),
            ("TO:<a@b>", Fault::MailSyntax),
            ("FROM:<a@b>SIZE=1", Fault::MailSyntax),
            ("FROM:<a@b", Fault::MailSyntax),
            ("FROM:<a b@c>", Fault::BadReversePath),
            ("FROM:<brian>", Fault::ReversePathWithoutDomain("brian".into())),
            ("FROM:<ü@b>", Fault::NeedsUtf8),
            ("FROM:<a@b> FOO=1", Fault::Unsupported("FOO=1".into())),
            ("FROM:<a@b> =1", Fault::Unsupported("=1".into())),
            ("FROM:<a@b> NOTIFY=NEVER", Fault::Unsupported("NOTIFY=NEVER".into())),
            ("FROM:<a@b> SIZE", bad("SIZE")),
            ("FROM:<a@b> SIZE=", bad("SIZE")),
            ("FROM:<a@b> SIZE=-1", bad("SIZE")),
            ("FROM:<a@b> SIZE=1 SIZE=1", bad("SIZE")),
            ("FROM:<a@b> SIZE=1001", Fault::TooBig),
            ("FROM:<a@b> SIZE=99999999999999999999", Fault::TooBig),
            ("FROM:<a@b> SIZE=999999999999999999999", bad("SIZE")),
            ("FROM:<a@b> BODY=BINARYMIME", bad("BODY")),
            ("FROM:<a@b> RET=SOME", bad("RET")),
            ("FROM:<a@b> ENVID=a+0Ab", bad("ENVID")),
            ("FROM:<a@b> ENVID=a+b", bad("ENVID")),
            ("FROM:<a@b> SMTPUTF8=1", bad("SMTPUTF8")),
            ("FROM:<a@b> AUTH=a+00", bad("AUTH")),
        ] {
            assert_eq!(mail(arguments, OFFER), Err(fault), "{arguments}");
        }
        let long = format!("FROM:<a@b> ENVID={}", "x".repeat(101));
        assert_eq!(mail(&long, OFFER), Err(bad("ENVID")));
    }

    #[test]
    fn a_masked_extension_is_unknown() {
        let offer = Offer { extensions: Extensions::NONE, ..OFFER };
        for parameter in ["SIZE=1", "BODY=7BIT", "RET=FULL", "ENVID=1", "SMTPUTF8", "AUTH=<>"] {
            let fault = mail(&format!("FROM:<a@b> {parameter}"), offer).unwrap_err();
            assert_eq!(fault, Fault::Unsupported(parameter.into()));
        }
        let fault = recipient("TO:<a@b> NOTIFY=NEVER", false, offer).unwrap_err();
        assert_eq!(fault, Fault::Unsupported("NOTIFY=NEVER".into()));
    }

    #[test]
    fn r98_recipients() {
        let parsed = recipient("TO: <a@b> NOTIFY=Success,DELAY ORCPT=rfc822;x+40y", false, OFFER).unwrap();
        assert_eq!(parsed.notify, Some(Notify::On { success: true, failure: false, delay: true }));
        assert_eq!(parsed.original.as_deref(), Some("rfc822;x@y"));
        let parsed = recipient("TO:<a@b> ORCPT=utf-8;ü@y NOTIFY=never", true, OFFER).unwrap();
        assert_eq!((parsed.notify, parsed.original.as_deref()), (Some(Notify::Never), Some("utf-8;ü@y")));
        let bad = Fault::BadParameter;
        for (arguments, fault) in [
            ("FROM:<a@b>", Fault::RecipientSyntax),
            ("TO:<>", Fault::BadRecipient),
            ("TO:<a@b> SIZE=1", Fault::Unsupported("SIZE=1".into())),
            ("TO:<a@b> NOTIFY=NEVER,DELAY", bad("NOTIFY")),
            ("TO:<a@b> NOTIFY=", bad("NOTIFY")),
            ("TO:<a@b> NOTIFY=NEVER NOTIFY=NEVER", bad("NOTIFY")),
            ("TO:<a@b> ORCPT=rfc822", bad("ORCPT")),
            ("TO:<a@b> ORCPT=;x", bad("ORCPT")),
            ("TO:<a@b> ORCPT=rfc822;a+0D+0Ab", bad("ORCPT")),
            ("TO:<a@b> ORCPT=utf-8;ü", bad("ORCPT")),
        ] {
            assert_eq!(recipient(arguments, false, OFFER), Err(fault), "{arguments}");
        }
        let long = format!("TO:<a@b> ORCPT=rfc822;{}", "x".repeat(500));
        assert_eq!(recipient(&long, false, OFFER), Err(bad("ORCPT")));
    }

    #[test]
    fn v9_verify_with_and_without_smtputf8() {
        for arguments in ["brian@example.net", "<brian@example.net>", "<brian@example.net> SMTPUTF8"] {
            assert_eq!(verify(arguments, OFFER).unwrap().address.to_string(), "brian@example.net");
        }
        assert_eq!(verify("<ü@example.net>", OFFER), Err(Fault::NeedsUtf8));
        assert!(verify("ü@example.net SMTPUTF8", OFFER).is_ok());
        let masked = Offer { extensions: Extensions::SMTP_DEFAULT, ..OFFER };
        assert_eq!(verify("ü@example.net SMTPUTF8", masked), Err(Fault::Unsupported("SMTPUTF8".into())));
        assert_eq!(verify("", OFFER), Err(Fault::VerifySyntax));
    }
}
