//! Message text: however its octets are split it decodes to the same, without bare CR or LF, and strictly framed it ends
//! where CRLF `.` CRLF stands and nowhere else (V1).

#![no_main]

use libfuzzer_sys::fuzz_target;
use smtp_proto::data::{Decoded, Decoder, Framing};

fuzz_target!(|data: &[u8]| {
    let Some((size, octets)) = data.split_first() else { return };
    for framing in [Framing::Dots, Framing::LenientDots, Framing::Counted] {
        let (text, used) = decode(framing, octets, octets.len().max(1));
        assert_eq!((text.clone(), used), decode(framing, octets, usize::from(*size) + 1));
        let line_ends = text.windows(2).filter(|pair| *pair == b"\r\n").count();
        assert_eq!(text.iter().filter(|b| **b == b'\n').count(), line_ends);
        assert_eq!(text.iter().filter(|b| **b == b'\r').count(), line_ends);
        assert!(text.len() <= octets.len() * 2 + 1);
        if framing == Framing::Dots {
            let end = match octets.starts_with(b".\r\n") {
                true => Some(3),
                false => octets.windows(5).position(|window| window == b"\r\n.\r\n").map(|index| index + 5),
            };
            assert_eq!(used, end);
        }
    }
});

/// The text, and where it ended.
fn decode(framing: Framing, octets: &[u8], size: usize) -> (Vec<u8>, Option<usize>) {
    let mut decoder = Decoder::new(framing);
    let (mut text, mut used) = (Vec::new(), 0);
    for piece in octets.chunks(size) {
        let Decoded { consumed, ended } = decoder.decode(piece, &mut text);
        used += consumed;
        if ended {
            return (text, Some(used));
        }
    }
    decoder.finish(&mut text);
    (text, None)
}
