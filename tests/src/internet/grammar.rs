//! What a scripted MTA reads of a command line.

/// The command's name in upper case, and what follows it.
pub(crate) fn verb(line: &str) -> (String, &str) {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    (verb.to_ascii_uppercase(), rest.trim())
}

/// The path of MAIL or RCPT without angle brackets, and the parameters after it.
pub(crate) fn path_and_parameters(line: &str, start: &str) -> Option<(String, Vec<String>)> {
    let path = line.get(start.len()..).filter(|_| line.to_ascii_uppercase().starts_with(start))?.strip_prefix('<')?;
    let (mut quoted, mut escaped) = (false, false);
    let end = path.find(|c| {
        let ends = c == '>' && !quoted;
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && quoted && !escaped;
        ends
    })?;
    let (path, rest) = path.split_at(end);
    let parameters = rest.strip_prefix('>')?.split_ascii_whitespace().map(str::to_owned).collect();
    Some((path.to_owned(), parameters))
}

/// The size that MAIL announced (RFC 1870 §5).
pub(crate) fn size_of(parameters: &[String]) -> Option<u64> {
    parameters.iter().find_map(|one| one.to_ascii_uppercase().strip_prefix("SIZE=")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_mail() {
        let parsed = |line| path_and_parameters(line, "MAIL FROM:");
        let expected = |path: &str, parameters: &[&str]| {
            Some((path.to_owned(), parameters.iter().map(|&one| one.to_owned()).collect::<Vec<_>>()))
        };
        assert_eq!(
            parsed("mail from:<a@b.example> SIZE=3 BODY=8BITMIME"),
            expected("a@b.example", &["SIZE=3", "BODY=8BITMIME"])
        );
        assert_eq!(parsed("MAIL FROM:<>"), expected("", &[]));
        assert_eq!(parsed(r#"MAIL FROM:<"a> \"b"@c.example>"#), expected(r#""a> \"b"@c.example"#, &[]));
        assert_eq!(parsed("MAIL FROM:a@b.example"), None);
        assert_eq!(parsed("MAIL FROM:<a@b.example"), None);
    }
}
