//! A client session of SMTP or LMTP hears any octets. What must hold is in the tests of smtp-proto, which replay their
//! corpus, `proto/smtp-proto/tests/corpus/client`: good seeds.

#![no_main]

#[path = "../../proto/smtp-proto/tests/it/hearing.rs"]
mod hearing;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| hearing::hear(data));
