//! Reports about any message with any text of a peer: nothing begins a line with the boundary that should not, no text
//! makes a field, and the returned message is what it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mail::{Address, EnhancedStatus, InternalDate, QueueId};
use message::report::{Action, Kind, RecipientReport, Report};

fuzz_target!(|octets: &[u8]| {
    let Some(([kind, at], rest)) = octets.split_first_chunk::<2>() else { return };
    let (text, original) = rest.split_at(usize::from(*at).min(rest.len()));
    let text = String::from_utf8_lossy(text);
    let address = Address::parse(&text).unwrap_or_else(|_| Address::parse("a@example.org").expect("an address"));
    let date = InternalDate { unix_seconds: 1_000_000_000, zone_minutes: 0 };
    let action = [Action::Failed, Action::Delayed, Action::Delivered, Action::Relayed, Action::Expanded];
    let recipient = RecipientReport {
        address: &address,
        original: Some(&text),
        action: action[usize::from(kind / 3) % action.len()],
        status: EnhancedStatus::new(4 + kind % 2, u16::from(kind / 16), u16::from(*at)),
        remote: Some(&text),
        diagnostic: Some(&text),
        is_reply: kind % 2 == 0,
        last_attempt: Some(date),
        retry_until: Some(date),
    };
    let report = Report {
        kind: [Kind::Failure, Kind::Delay, Kind::Success][usize::from(kind % 3)],
        host: &text,
        postmaster: &text,
        to: &address,
        message_id: "a@example.org",
        boundary: "b",
        date,
        envelope_id: Some(&text),
        arrived: date,
        queue_id: Some(QueueId(1)),
        recipients: &[recipient],
    };
    let mut survey = report.survey();
    original.chunks(7).for_each(|piece| survey.write(piece));
    let mut out = Vec::new();
    let mut returning = report.begin(Some(&survey.finish()), None, &mut out);
    let wanted = usize::try_from(returning.wants()).expect("a message that fits").min(original.len());
    let start = out.len();
    original.chunks(5).for_each(|piece| returning.write(piece, &mut out));
    assert_eq!(&out[start..], &original[..wanted]);
    returning.finish(&mut out);

    // The boundary ends with two digits that the last line tells.
    let last = out.strip_suffix(b"--\r\n").expect("an end").rsplit(|b| *b == b'\n').next().expect("a line");
    let delimiters = out.split(|b| matches!(b, b'\n' | b'\r')).filter(|line| line.starts_with(last)).count();
    assert_eq!(delimiters, if wanted > 0 { 4 } else { 3 });
    let own = String::from_utf8_lossy(&out[..start]);
    assert_eq!(own.lines().filter(|line| line.starts_with("Status: ")).count(), 1);
    assert_eq!(own.lines().filter(|line| line.starts_with("Action: ")).count(), 1);
    assert!(own.lines().all(|line| line.len() <= 998));
    assert!(own.chars().all(|c| !c.is_control() || matches!(c, '\r' | '\n' | '\t')));
});
