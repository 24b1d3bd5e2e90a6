//! Filters any message: how its octets are split changes nothing, rules that never match change nothing, and what submission
//! reads of the outcome does not panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use message::header_rules::{Findings, HeaderFilter, HeaderRules};
use message::scan::Scanner;
use message::submission::{self, Demands};
use std::path::Path;
use std::sync::{Arc, LazyLock};

static RULES: LazyLock<[Arc<HeaderRules>; 2]> = LazyLock::new(|| {
    let rules = |text: &str| Arc::new(HeaderRules::read(Path::new("rules"), text.as_bytes()).expect("sound rules"));
    [
        rules(
            "/^A:.*b/ IGNORE\n/^B: *(.*)$/ REPLACE C: $1$1\n/^([a-z]+):/ PREPEND X-$1: y\nif /x/\n!/^Subject/ WARN $$\n\
             /z/ HOLD\nendif\n/^.*\\n.*$/m REJECT 4.7.1 $$\n",
        ),
        rules("/^never$/ IGNORE\n"),
    ]
});

fn filtered(rules: &Arc<HeaderRules>, pieces: &[&[u8]]) -> (Vec<u8>, Findings) {
    let mut out = Vec::new();
    let mut filter = HeaderFilter::new(Arc::clone(rules));
    pieces.iter().for_each(|piece| filter.write(piece, &mut out));
    let findings = filter.finish(&mut out);
    (out, findings)
}

fuzz_target!(|octets: &[u8]| {
    // The first octet says where the message is split.
    let Some((split, message)) = octets.split_first() else { return };
    let (first, second) = message.split_at(usize::from(*split) * message.len() / 255);
    let [rules, never] = &*RULES;
    let whole = filtered(rules, &[message]);
    assert_eq!(filtered(rules, &[first, second]), whole);
    assert_eq!(filtered(never, &[first, second]), (message.to_vec(), Findings::default()));

    let mut scanner = Scanner::new();
    scanner.write(&whole.0);
    scanner.close();
    let several = Demands { allows_several_authors: true };
    if let Ok(authors) = submission::authors(scanner.facts(), several) {
        assert_eq!(authors.from.is_empty(), scanner.facts().from_fields == 0);
        let single = submission::authors(scanner.facts(), Demands::default());
        assert_eq!(single.is_ok(), authors.from.len() <= 1);
    }
});
