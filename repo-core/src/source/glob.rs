//! Patterns of one path component: `*`, `?`, `[a-z]`, `[^a]` and `\` before any of them, with the meaning they have in
//! Go's `path/filepath.Match`, since that is what the users of restic write.
//!
//! Names are bytes. A character is a UTF-8 character, or one byte of what is not UTF-8.

/// Why a pattern is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pattern \"{pattern}\" is malformed: {reason}")]
pub struct BadPattern {
    /// The pattern, escaped for people.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// A compiled pattern of one component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Glob {
    /// Exactly this name.
    Literal(Box<[u8]>),
    /// Every name.
    Any,
    /// Names that begin so: `abc*`.
    Prefix(Box<[u8]>),
    /// Names that end so: `*.abc`.
    Suffix(Box<[u8]>),
    /// Everything else.
    Tokens(Vec<Token>),
}

/// A piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// These bytes.
    Text(Vec<u8>),
    /// One character.
    One,
    /// Any number of characters.
    Many,
    /// One character that is, or with `negated` is not, in one of the ranges.
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Glob {
    /// Compiles the pattern of one component; it holds no slash.
    ///
    /// # Errors
    /// When it is malformed; the error is the reason.
    pub(crate) fn compile(pattern: &[u8]) -> Result<Self, &'static str> {
        let tokens = parse(pattern)?;
        Ok(match &tokens[..] {
            [] => Self::Literal(Box::default()),
            [Token::Text(text)] => Self::Literal(text.as_slice().into()),
            [Token::Many] => Self::Any,
            [Token::Text(text), Token::Many] => Self::Prefix(text.as_slice().into()),
            [Token::Many, Token::Text(text)] => Self::Suffix(text.as_slice().into()),
            _ => Self::Tokens(tokens),
        })
    }

    /// Whether the whole name matches.
    pub(crate) fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::Literal(text) => **text == *name,
            Self::Any => true,
            Self::Prefix(text) => name.starts_with(text),
            Self::Suffix(text) => name.ends_with(text),
            Self::Tokens(tokens) => matches(tokens, name),
        }
    }
}

/// Whether a pattern has anything in it that is not taken as it is.
pub(crate) fn has_meta(pattern: &[u8]) -> bool {
    pattern.iter().any(|byte| b"*?[\\".contains(byte))
}

fn parse(pattern: &[u8]) -> Result<Vec<Token>, &'static str> {
    fn text(tokens: &mut Vec<Token>, byte: u8) {
        if let Some(Token::Text(text)) = tokens.last_mut() {
            text.push(byte);
        } else {
            tokens.push(Token::Text(vec![byte]));
        }
    }
    let mut tokens = Vec::new();
    let mut rest = pattern;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'*' if tokens.last() == Some(&Token::Many) => {}
            b'*' => tokens.push(Token::Many),
            b'?' => tokens.push(Token::One),
            b'[' => tokens.push(parse_class(&mut rest)?),
            b'\\' => {
                let (&escaped, after) = rest.split_first().ok_or("it ends with a backslash")?;
                rest = after;
                text(&mut tokens, escaped);
            }
            _ => text(&mut tokens, first),
        }
    }
    Ok(tokens)
}

/// Parses what follows a `[`, and takes it off `rest`.
fn parse_class(rest: &mut &[u8]) -> Result<Token, &'static str> {
    const OPEN: &str = "a \"[\" has no \"]\"";
    let negated = rest.first() == Some(&b'^');
    if negated {
        *rest = &rest[1..];
    }
    let mut ranges = Vec::new();
    loop {
        match rest.first() {
            None => return Err(OPEN),
            Some(b']') if !ranges.is_empty() => {
                *rest = &rest[1..];
                return Ok(Token::Class { negated, ranges });
            }
            Some(_) => {}
        }
        let low = class_character(rest)?;
        let high = if rest.first() == Some(&b'-') {
            *rest = &rest[1..];
            class_character(rest)?
        } else {
            low
        };
        ranges.push((low, high));
    }
}

fn class_character(rest: &mut &[u8]) -> Result<char, &'static str> {
    match rest.first() {
        None => return Err("a \"[\" has no \"]\""),
        Some(b'-' | b']') => return Err("a \"-\" or \"]\" in \"[]\" needs a backslash before it"),
        Some(b'\\') => *rest = &rest[1..],
        Some(_) => {}
    }
    if rest.is_empty() {
        return Err("a \"[\" has no \"]\"");
    }
    let (character, length) = first_character(rest);
    if character == char::REPLACEMENT_CHARACTER && length == 1 {
        return Err("what is in \"[]\" is not UTF-8");
    }
    *rest = &rest[length..];
    Ok(character)
}

/// The first character of something not empty, and its length; the replacement character for a byte that is none.
fn first_character(bytes: &[u8]) -> (char, usize) {
    if bytes[0].is_ascii() {
        return (char::from(bytes[0]), 1);
    }
    let first = bytes[..bytes.len().min(4)].utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next());
    first.map_or((char::REPLACEMENT_CHARACTER, 1), |character| (character, character.len_utf8()))
}

/// Matches with one point to go back to: the last `*` is the only one worth extending.
fn matches(tokens: &[Token], name: &[u8]) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match tokens.get(token) {
            None if at == name.len() => return true,
            None => None,
            Some(Token::Many) => {
                retry = Some((token + 1, at));
                Some(0)
            }
            Some(one) => step(one, &name[at..]),
        };
        if let Some(length) = step {
            token += 1;
            at += length;
        } else if let Some((after, from)) = retry
            && from < name.len()
        {
            retry = Some((after, from + 1));
            (token, at) = (after, from + 1);
        } else {
            return false;
        }
    }
}

/// How many bytes a token other than `*` takes from the beginning of `rest`, if it fits there.
fn step(token: &Token, rest: &[u8]) -> Option<usize> {
    match token {
        Token::Text(text) => rest.starts_with(text).then_some(text.len()),
        Token::Many => Some(0),
        Token::One | Token::Class { .. } if rest.is_empty() => None,
        Token::One => Some(first_character(rest).1),
        Token::Class { negated, ranges } => {
            let (character, length) = first_character(rest);
            let within = ranges.iter().any(|&(low, high)| low <= character && character <= high);
            (within != *negated).then_some(length)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_match(pattern: &[u8], name: &[u8]) -> Option<bool> {
        Glob::compile(pattern).ok().map(|glob| glob.matches(name))
    }

    #[test]
    fn as_go_has_it() {
        for (pattern, name, want) in [
            ("abc", "abc", Some(true)),
            ("*", "abc", Some(true)),
            ("*", "", Some(true)),
            ("*c", "abc", Some(true)),
            ("a*", "a", Some(true)),
            ("a*", "abc", Some(true)),
            ("a*b?c*x", "abxbbxdbxebxczzx", Some(true)),
            ("a*b?c*x", "abxbbxdbxebxczzy", Some(false)),
            ("ab[c]", "abc", Some(true)),
            ("ab[b-d]", "abc", Some(true)),
            ("ab[e-g]", "abc", Some(false)),
            ("ab[^c]", "abc", Some(false)),
            ("ab[^b-d]", "abc", Some(false)),
            ("ab[^e-g]", "abc", Some(true)),
            ("a\\*b", "a*b", Some(true)),
            ("a\\*b", "ab", Some(false)),
            ("a?b", "a☺b", Some(true)),
            ("a[^a]b", "a☺b", Some(true)),
            ("a???b", "a☺b", Some(false)),
            ("a[^a][^a][^a]b", "a☺b", Some(false)),
            ("[a-ζ]*", "α", Some(true)),
            ("*[a-ζ]", "A", Some(false)),
            ("[\\]a]", "]", Some(true)),
            ("[\\-]", "-", Some(true)),
            ("[x\\-]", "x", Some(true)),
            ("[x\\-]", "-", Some(true)),
            ("[x\\-]", "z", Some(false)),
            ("[\\-x]", "a", Some(false)),
            ("[]a]", "]", None),
            ("[-]", "-", None),
            ("[x-]", "x", None),
            ("[-x]", "x", None),
            ("[a-b-c]", "a", None),
            ("[", "a", None),
            ("[^", "a", None),
            ("[^bc", "a", None),
            ("a[", "ab", None),
            ("\\", "a", None),
            ("[\\", "a", None),
            ("*x", "xxx", Some(true)),
            ("]", "]", Some(true)),
            (".*", ".bashrc", Some(true)),
            ("a**b", "axyb", Some(true)),
            ("*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", Some(false)),
        ] {
            assert_eq!(is_match(pattern.as_bytes(), name.as_bytes()), want, "{pattern} {name}");
        }
        assert_eq!(is_match(b"a?b", b"a\xffb"), Some(true));
        assert_eq!(is_match(b"a\xff*", b"a\xffb"), Some(true));
        assert_eq!(is_match(b"[\xff]", b"\xff"), None);
        assert_eq!(is_match(b"[^a]", b"\xff"), Some(true));
    }

    /// The same meaning, written down as plainly as can be.
    fn plainly(tokens: &[Token], name: &[u8]) -> bool {
        match tokens.split_first() {
            None => name.is_empty(),
            Some((Token::Many, rest)) => (0..=name.len()).any(|skip| plainly(rest, &name[skip..])),
            Some((token, rest)) => step(token, name).is_some_and(|length| plainly(rest, &name[length..])),
        }
    }

    proptest! {
        #[test]
        fn fast_paths_and_backtracking_change_nothing(pattern in "[ab*?é\\[\\]^\\\\-]{0,8}", name in "[abé]{0,10}") {
            if let Ok(glob) = Glob::compile(pattern.as_bytes()) {
                let tokens = parse(pattern.as_bytes()).unwrap();
                prop_assert_eq!(glob.matches(name.as_bytes()), plainly(&tokens, name.as_bytes()));
            }
        }
    }
}
