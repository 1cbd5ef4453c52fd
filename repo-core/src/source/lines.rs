//! Text files with a path or pattern on each line, in the encodings that editors write.

/// Why a list cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It begins like UTF-16 and is not.
    #[error("the list is not valid UTF-16")]
    Utf16,
    /// A pattern in it is malformed.
    #[error(transparent)]
    Pattern(#[from] super::glob::BadPattern),
    /// The last entry of a NUL-separated list has no NUL after it, so it may be cut short.
    #[error("the list does not end with a NUL byte")]
    NoNul,
    /// An entry of a NUL-separated list is empty.
    #[error("the list has an empty name in it")]
    EmptyName,
}

/// The bytes of a text: UTF-16 with a byte order mark becomes UTF-8, a byte order mark of UTF-8 is taken off, anything
/// else stays as it is (paths need not be UTF-8).
fn decode(content: &[u8]) -> Result<Vec<u8>, ListError> {
    let units = |rest: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, odd) = rest.as_chunks::<2>();
        if odd.is_empty() { Some(pairs.iter().map(|&pair| unit(pair)).collect::<Vec<_>>()) } else { None }
    };
    let units = match content {
        [0xEF, 0xBB, 0xBF, rest @ ..] => return Ok(rest.to_vec()),
        [0xFF, 0xFE, rest @ ..] => units(rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => units(rest, u16::from_be_bytes),
        _ => return Ok(content.to_vec()),
    };
    let text = units.and_then(|units| String::from_utf16(&units).ok());
    Ok(text.ok_or(ListError::Utf16)?.into_bytes())
}

/// The lines of a text without their ends (`\n` or `\r\n`).
pub(crate) fn lines(content: &[u8]) -> Result<Vec<Vec<u8>>, ListError> {
    let text = decode(content)?;
    let text = text.strip_suffix(b"\n").unwrap_or(&text);
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let line = |line: &[u8]| line.strip_suffix(b"\r").unwrap_or(line).to_vec();
    Ok(text.split(|&byte| byte == b'\n').map(line).collect())
}

/// The lines that say something: white space around them taken off, empty ones and those that begin with `#` left out.
pub(crate) fn entries(content: &[u8]) -> Result<Vec<Vec<u8>>, ListError> {
    let mut entries = lines(content)?;
    for entry in &mut entries {
        *entry = trim(entry).to_vec();
    }
    entries.retain(|entry| !entry.is_empty() && !entry.starts_with(b"#"));
    Ok(entries)
}

/// Without white space around it, Unicode's included.
fn trim(line: &[u8]) -> &[u8] {
    let white = |character: char| character.is_whitespace();
    let mut line = line;
    while let Some(chunk) = line.utf8_chunks().next() {
        let kept = chunk.valid().trim_start_matches(white);
        let cut = chunk.valid().len() - kept.len();
        line = &line[cut..];
        if cut == 0 || !kept.is_empty() {
            break;
        }
    }
    // From the end, one character at a time: whether its last bytes are a character does not depend on what is before.
    while let Some(length) = (1..=line.len().min(4))
        .find(|&length| std::str::from_utf8(&line[line.len() - length..]).is_ok_and(|end| end.chars().all(white)))
    {
        line = &line[..line.len() - length];
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(entries: Vec<Vec<u8>>) -> Vec<String> {
        entries.into_iter().map(|entry| String::from_utf8(entry).unwrap()).collect()
    }

    #[test]
    fn what_counts_as_an_entry() {
        let list = b"\xEF\xBB\xBF# head\r\n\r\n  volumes/data \r\n\t#x\nstate/*.env\n a b # c\xC2\xA0\nlast";
        assert_eq!(text(entries(list).unwrap()), ["volumes/data", "state/*.env", "a b # c", "last"]);
        assert!(entries(b"").unwrap().is_empty());
        assert!(entries(b"\n\n").unwrap().is_empty());
        assert_eq!(entries(b" \xff \n").unwrap(), [b"\xff"]);
    }

    #[test]
    fn utf_16() {
        for unit in [u16::to_le_bytes, u16::to_be_bytes] {
            let bytes: Vec<u8> = "\u{feff}ä/b\r\n#c\nd".encode_utf16().flat_map(unit).collect();
            assert_eq!(text(entries(&bytes).unwrap()), ["ä/b", "d"]);
        }
        assert!(matches!(entries(b"\xFF\xFEa"), Err(ListError::Utf16)));
        assert!(matches!(entries(b"\xFF\xFE\x00\xD8"), Err(ListError::Utf16)));
    }

    #[test]
    fn plain_lines_stay_as_they_are() {
        assert_eq!(lines(b" a \r\n#b\n\nc\n").unwrap(), [&b" a "[..], b"#b", b"", b"c"]);
    }
}
