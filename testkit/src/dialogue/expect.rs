//! Comparing what came with what was expected, and writing what came into the file.

use super::{Dialogue, Scene, Side};

/// The lines of output, in the form that patterns are compared with.
pub(super) fn lines(output: &[u8]) -> Vec<String> {
    let printed = |line: &[u8]| match (line.strip_suffix(b"\r\n"), line.strip_suffix(b"\n")) {
        (Some(text), _) => printable(text),
        (None, Some(text)) => printable(text) + "\\n",
        (None, None) => printable(line) + "\\",
    };
    output.split_inclusive(|octet| *octet == b'\n').map(printed).collect()
}

fn printable(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    for chunk in octets.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                let mut buffer = [0; 4];
                character.encode_utf8(&mut buffer).bytes().for_each(|octet| text += &format!("\\x{octet:02x}"));
            } else {
                text.push(character);
            }
        }
        chunk.invalid().iter().for_each(|octet| text += &format!("\\x{octet:02x}"));
    }
    text
}

/// Whether a line fits a pattern: `*` stands for any run of characters.
pub(super) fn fits(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Checks the output of a scene.
pub(super) fn check(dialogue: &Dialogue, scene: &Scene, came: &[String]) -> Result<(), String> {
    let side = dialogue.side;
    let mut replies = scene.replies.iter();
    let mut last = scene.line;
    for line in came {
        let Some(reply) = replies.next() else {
            return Err(format!(
                "{}:{last}: after this line nothing more was expected, but came\n  {}",
                dialogue.path.display(),
                side.written(line)
            ));
        };
        last = reply.line;
        if !fits(&reply.pattern, line) {
            let place = format!("{}:{last}", dialogue.path.display());
            let (pattern, line) = (side.written(&reply.pattern), side.written(line));
            return Err(format!("{place}: expected\n  {pattern}\ngot\n  {line}\nof\n{}", shown(side, came)));
        }
    }
    match replies.next() {
        None => Ok(()),
        Some(reply) => {
            let place = format!("{}:{}", dialogue.path.display(), reply.line);
            let pattern = side.written(&reply.pattern);
            Err(format!("{place}: expected\n  {pattern}\nbut nothing more came after\n{}", shown(side, came)))
        }
    }
}

fn shown(side: Side, came: &[String]) -> String {
    came.iter().map(|line| format!("  {}\n", side.written(line))).collect()
}

/// Whether files are to be rewritten instead of being compared.
pub(super) fn updating() -> bool {
    std::env::var_os("UPDATE").is_some_and(|value| value == "1")
}

/// The file with the expected lines of each scene as they came. Scenes that fit stay as they are; in the others, lines
/// that fit a pattern keep it.
pub(super) fn rewritten(dialogue: &Dialogue, came: &[Vec<String>]) -> String {
    let mut dropped = vec![false; dialogue.raw.len() + 1];
    let mut inserted: Vec<Vec<String>> = vec![Vec::new(); dialogue.raw.len() + 1];
    for (scene, came) in dialogue.scenes.iter().zip(came) {
        if check(dialogue, scene, came).is_ok() {
            continue;
        }
        let place = scene.replies.first().map_or(scene.line, |reply| reply.line);
        scene.replies.iter().for_each(|reply| dropped[reply.line] = true);
        let mut patterns = scene.replies.iter().map(|reply| reply.pattern.as_str());
        for line in came {
            let kept = patterns.clone().position(|pattern| fits(pattern, line));
            let text = kept.and_then(|position| patterns.nth(position)).unwrap_or(line);
            inserted[place].push(dialogue.side.written(text));
        }
    }
    let mut text = String::new();
    for (index, raw) in dialogue.raw.iter().enumerate() {
        let number = index + 1;
        if !dropped[number] {
            text += raw;
            text.push('\n');
        }
        for line in &inserted[number] {
            text += line;
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{parse, parse_for};
    use super::*;
    use std::path::Path;

    #[test]
    fn a_client_is_updated_in_its_own_marks() {
        let text = "# RFC 1 §1: x\nS: a\nC: one\nH: two\n";
        let dialogue = parse_for(Side::Client, Path::new("f.txt"), text).unwrap();
        let came = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        assert_eq!(rewritten(&dialogue, &[vec![], came(&["one", "H: two"])]), text);
        let expected = "# RFC 1 §1: x\nS: a\nC: one\nH: three\nC:\n";
        assert_eq!(rewritten(&dialogue, &[vec![], came(&["one", "H: three", ""])]), expected);
        let error = check(&dialogue, &dialogue.scenes[1], &came(&["one", "H: three"])).unwrap_err();
        assert!(error.starts_with("f.txt:4: expected\n  H: two\ngot\n  H: three\n"), "{error}");
    }

    #[test]
    fn a_star_stands_for_any_run() {
        for (pattern, line, fit) in [
            ("", "", true),
            ("*", "", true),
            ("*", "* OK", true),
            ("a*", "abc", true),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*b*c", "a b b c", true),
            ("a*bb*c", "a b b c", false),
            ("abc", "abcd", false),
            ("ab*bc", "abc", false),
            ("* LIST*", "* LIST (1)", true),
        ] {
            assert_eq!(fits(pattern, line), fit, "{pattern} {line}");
        }
    }

    #[test]
    fn lines_show_what_cannot_be_seen() {
        let shown = lines("é\r\n\r\n\x00\t\u{85}\r\nbare\n\r\r\nopen".as_bytes());
        assert_eq!(shown, ["é", "", "\\x00\\x09\\xc2\\x85", "bare\\n", "\\x0d", "open\\"]);
        assert_eq!(lines(b"\xff\\a\r\n"), ["\\xff\\a"]);
        assert!(lines(b"").is_empty());
    }

    #[test]
    fn an_update_touches_only_what_differs() {
        let text = "# RFC 1 §1: x\n@world w\n\nC: a\nS: one *\n# comment\nS: two\nC: b\nC: c\nC: d\nS: *\nCLOSE:\n";
        let dialogue = parse(Path::new("f.txt"), text).unwrap();
        let came = |lists: &[&[&str]]| -> Vec<Vec<String>> {
            lists.iter().map(|list| list.iter().map(|line| (*line).to_owned()).collect()).collect()
        };
        assert_eq!(rewritten(&dialogue, &came(&[&[], &["one 1", "two"], &["x"]])), text);
        assert_eq!(
            rewritten(&dialogue, &came(&[&["hi"], &["zero", "one 1", "three"], &[]])),
            "# RFC 1 §1: x\n@world w\n\nS: hi\nC: a\nS: zero\nS: one *\nS: three\n# comment\nC: b\nC: c\nC: d\nCLOSE:\n"
        );
    }
}
