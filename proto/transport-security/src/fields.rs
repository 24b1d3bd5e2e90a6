//! The form that the TXT records of MTA-STS and TLS reporting share: a version, then `name=value` between semicolons.

/// Reads a record of one version, such as `v=STSv1`. `None` when it does not begin with it, which makes it a record about
/// something else; `Some(None)` when it does and breaks the grammar (RFC 8461 §3.1, RFC 8460 §3).
pub(crate) fn read<'a>(text: &'a str, version: &str) -> Option<Option<Vec<(&'a str, &'a str)>>> {
    let rest = text.strip_prefix(version)?.trim_start_matches(is_blank).strip_prefix(';')?;
    let mut parts: Vec<&str> = rest.split(';').map(|part| part.trim_matches(is_blank)).collect();
    // One semicolon may end the record.
    if parts.len() > 1 && parts.last().is_some_and(|last| last.is_empty()) {
        parts.pop();
    }
    Some(parts.into_iter().map(field).collect())
}

/// The record among those of a name: the single one of this version. RFC 8461 §3.1, RFC 8460 §3: none or several of them
/// mean that there is no policy.
pub(crate) fn single<'a>(texts: impl IntoIterator<Item = &'a [u8]>, version: &str) -> Option<Vec<(&'a str, &'a str)>> {
    let mut records = texts.into_iter().filter_map(|text| read(std::str::from_utf8(text).ok()?, version));
    let record = records.next()?;
    if records.next().is_some() { None } else { record }
}

/// The first value of a name; further ones are ignored (RFC 8461 §3.2).
pub(crate) fn first<'a>(fields: &[(&'a str, &'a str)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(own, _)| *own == name).map(|(_, value)| *value)
}

fn field(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.split_once('=')?;
    // A value of a field that we know is judged by whoever knows it; this is what all of them have in common.
    let is_value = !value.is_empty() && value.bytes().all(|b| (b' '..=b'~').contains(&b) || b == b'\t');
    (is_name(name) && is_value).then_some((name, value))
}

/// RFC 8461 §3.1, §3.2, RFC 8460 §3: names of extensions; all names that are in use fit as well.
pub(crate) fn is_name(name: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    name.len() <= NAME_OCTETS_MAX
        && name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && name.bytes().all(is_inner)
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

/// RFC 8461 §3.1.
const NAME_OCTETS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stand_between_semicolons() {
        let read = |text| read(text, "v=STSv1");
        assert_eq!(read("v=STSv1; id=1;"), Some(Some(vec![("id", "1")])));
        assert_eq!(read("v=STSv1 ;\tid=1 ; a.b-c_d=x"), Some(Some(vec![("id", "1"), ("a.b-c_d", "x")])));
        assert_eq!(read("v=STSv1;a=b=c"), Some(Some(vec![("a", "b=c")])));
        for other in ["", "v=STSv1", "v=STSv10; id=1", "v=stsv1; id=1", " v=STSv1; id=1", "v=STSv1 id=1"] {
            assert_eq!(read(other), None, "{other:?}");
        }
        for broken in ["v=STSv1;", "v=STSv1;;", "v=STSv1; id", "v=STSv1; =1", "v=STSv1; id=", "v=STSv1; i d=1"] {
            assert_eq!(read(broken), Some(None), "{broken:?}");
        }
        for broken in ["v=STSv1;id=1;;", "v=STSv1; id=\u{e4}", "v=STSv1; id=1\r\n", "v=STSv1; -a=1"] {
            assert_eq!(read(broken), Some(None), "{broken:?}");
        }
    }
}
