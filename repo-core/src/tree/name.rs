//! Names and other byte strings as they are stored: raw bytes, checked when they are made or read.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::limits;

/// Why bytes cannot be the name of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing at all.
    #[error("the name is empty")]
    Empty,
    /// Longer than 255 bytes.
    #[error("the name is longer than {} bytes", limits::NAME_BYTES_MAX)]
    TooLong,
    /// `.` or `..`.
    #[error("the name is \".\" or \"..\"")]
    Dots,
    /// Holds a slash.
    #[error("the name holds a \"/\"")]
    Slash,
    /// Holds a NUL byte.
    #[error("the name holds a NUL byte")]
    Nul,
}

/// Name of a directory entry: 1 to 255 bytes without `/` and NUL, and neither `.` nor `..`.
///
/// The only constructor checks, also when decoding, so that no other name can reach a file system.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// A name.
    ///
    /// # Errors
    /// When the bytes cannot be one.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Self, NameError> {
        let bytes = bytes.into();
        if bytes.is_empty() {
            return Err(NameError::Empty);
        }
        if bytes.len() > limits::NAME_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        if matches!(&*bytes, b"." | b"..") {
            return Err(NameError::Dots);
        }
        if bytes.contains(&b'/') {
            return Err(NameError::Slash);
        }
        if bytes.contains(&0) {
            return Err(NameError::Nul);
        }
        Ok(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&escape(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "\"{}\"", escape(&self.0))
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Bytes::<{ limits::NAME_BYTES_MAX }>::deserialize(deserializer)?.0).map_err(de::Error::custom)
    }
}

/// At most `MAX` bytes; encoded as a length and the bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes<const MAX: usize>(Box<[u8]>);

impl<const MAX: usize> Bytes<MAX> {
    /// From bytes that fit, or nothing.
    #[must_use]
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Option<Self> {
        let bytes = bytes.into();
        (bytes.len() <= MAX).then_some(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<const MAX: usize> fmt::Debug for Bytes<MAX> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "\"{}\"", escape(&self.0))
    }
}

impl<const MAX: usize> Serialize for Bytes<MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Bytes<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<const MAX: usize>;

        impl<const MAX: usize> de::Visitor<'_> for Visitor<MAX> {
            type Value = Bytes<MAX>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, "at most {MAX} bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                Bytes::new(bytes).ok_or_else(|| E::invalid_length(bytes.len(), &self))
            }

            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Self::Value, E> {
                let length = bytes.len();
                Bytes::new(bytes).ok_or_else(|| E::invalid_length(length, &self))
            }
        }

        deserializer.deserialize_bytes(Visitor::<MAX>)
    }
}

/// Bytes of a path or name for people: UTF-8 as it is, everything else, and control and format characters that could
/// deceive a terminal's reader, as `\x..` or `\u{..}` escapes; a backslash is doubled only where needed to tell it apart.
#[must_use]
pub fn escape(bytes: &[u8]) -> Cow<'_, str> {
    fn deceives(character: char) -> bool {
        character.is_control()
            || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.chars().any(|character| deceives(character) || character == '\\')
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    for part in bytes.utf8_chunks() {
        for character in part.valid().chars() {
            if deceives(character) || character == '\\' {
                out.extend(character.escape_default());
            } else {
                out.push(character);
            }
        }
        for byte in part.invalid() {
            let _ = write!(out, "\\x{byte:02x}"); // writing to a string cannot fail
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_names() {
        assert_eq!(Name::new(*b""), Err(NameError::Empty));
        assert_eq!(Name::new(*b"."), Err(NameError::Dots));
        assert_eq!(Name::new(*b".."), Err(NameError::Dots));
        assert_eq!(Name::new(*b"a/b"), Err(NameError::Slash));
        assert_eq!(Name::new(*b"/"), Err(NameError::Slash));
        assert_eq!(Name::new(*b"a\0"), Err(NameError::Nul));
        assert_eq!(Name::new(vec![b'x'; 256]), Err(NameError::TooLong));
        for good in [&b"..."[..], b" ", b"\xff\xfe", &[b'x'; 255], b"-rf", b"\n"] {
            assert_eq!(Name::new(good).unwrap().as_bytes(), good);
        }
    }

    #[test]
    fn decoding_checks_too() {
        for bad in [&b""[..], b"..", b"a/b", b"\0"] {
            let encoded = crate::codec::encode(&Bytes::<1000>::new(bad).unwrap());
            assert!(crate::codec::decode::<Name>(&encoded).is_err());
        }
        let long = crate::codec::encode(&Bytes::<1000>::new(vec![b'x'; 300]).unwrap());
        assert!(crate::codec::decode::<Name>(&long).is_err());
        let name = Name::new(*b"fine").unwrap();
        assert_eq!(crate::codec::decode::<Name>(&crate::codec::encode(&name)).unwrap(), name);
    }

    #[test]
    fn escapes() {
        assert_eq!(escape("żółw".as_bytes()), "żółw");
        assert_eq!(escape(b"a\x1b[31m"), "a\\u{1b}[31m");
        assert_eq!(escape(b"a\xffb"), "a\\xffb");
        assert_eq!(escape("a\u{202e}b".as_bytes()), "a\\u{202e}b");
        assert_eq!(escape(b"a\\b\n"), "a\\\\b\\n");
    }
}
