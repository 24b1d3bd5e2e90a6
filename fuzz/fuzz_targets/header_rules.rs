//! Any rule file and any field: no panic, a pattern that compiles alone also compiles among others, and what a rule makes is
//! one field (V14).
#![no_main]

use libfuzzer_sys::fuzz_target;
use message::header;
use message::header_rules::{Action, HeaderRules, MADE_FIELD_OCTETS_MAX};
use std::path::Path;

fuzz_target!(|octets: &[u8]| {
    // The last NUL, which no rule file has, parts the file from the field.
    let at = octets.iter().rposition(|b| *b == 0).unwrap_or(octets.len());
    let (file, field) = octets.split_at(at);
    let rules = match HeaderRules::read(Path::new("rules"), file) {
        Ok(rules) => rules,
        Err(error) => {
            assert!(!error.cause.contains('\n') && !error.cure.is_empty());
            assert!(error.line.is_some() || error.cause.contains("octets"), "{error}");
            return;
        }
    };
    let judgement = rules.judge(field.get(1..).unwrap_or_default());
    if let Action::Replace(made) | Action::Prepend(made) = judgement.action {
        assert!(made.len() <= MADE_FIELD_OCTETS_MAX && judgement.line.is_some());
        let fields: Vec<_> = header::fields(&made).collect();
        assert!(matches!(fields[..], [only] if only.raw == made));
    }
});
