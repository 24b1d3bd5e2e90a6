//! Puts any octets through every parser of header fields and of encoded text: no panic, no growth without reason.
#![no_main]

use libfuzzer_sys::fuzz_target;
use message::decode::{TextDecoder, decode_header};
use message::{charset, header, mime};

fuzz_target!(|octets: &[u8]| {
    let fields: usize = header::fields(octets).map(|field| field.raw.len()).sum();
    assert!(fields <= octets.len());
    assert!(header::unfold(octets).len() <= octets.len());
    assert!(header::parse_addresses(octets, 100).len() <= 100);
    let _ =
        (header::parse_date(octets), mime::content_type(octets), mime::disposition(octets), mime::languages(octets));
    assert!(decode_header(octets).len() <= octets.len() * 4);
    for name in ["", "utf-7", "iso-2022-jp", "gb18030"] {
        let _ = charset::to_utf8(Some(name.as_bytes()), octets);
    }
    for encoding in ["base64", "quoted-printable"] {
        let (mut whole, mut pieces) = (String::new(), String::new());
        let mut decoder = TextDecoder::new(encoding.as_bytes(), None);
        decoder.push(octets, &mut whole);
        decoder.finish(&mut whole);
        let mut decoder = TextDecoder::new(encoding.as_bytes(), None);
        octets.chunks(3).for_each(|piece| decoder.push(piece, &mut pieces));
        decoder.finish(&mut pieces);
        assert_eq!(whole, pieces);
    }
});
