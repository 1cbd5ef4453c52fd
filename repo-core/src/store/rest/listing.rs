//! Reads a listing: a JSON array of `{"name": …, "size": …}`, entry by entry as it arrives.

use std::{fmt, io::Read};

use serde::{
    Deserialize,
    de::{Deserializer, IgnoredAny, SeqAccess, Visitor},
};
use ureq::{Body, http::Response};

use crate::{
    error::StoreErrorKind,
    store::{
        ObjectInfo, ObjectName, Place,
        backend::Failure,
        http::{answer::Answer, connect},
    },
};

/// Longest listing: 10 million objects, with room to spare.
pub(super) const LISTING_BYTES_MAX: u64 = 2 << 30;

/// Tells of every object in the listing; names that no object has are passed over.
pub(super) fn read(answer: Response<Body>, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), Failure> {
    if Answer(&answer).is_page() {
        return Err(Failure::permanent("a web page came back, so what answers is no restic REST server"));
    }
    let body = answer.into_body().into_with_config().limit(LISTING_BYTES_MAX).reader();
    parse(std::io::BufReader::with_capacity(64 << 10, body), place, visit)
}

fn parse(body: impl Read, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), Failure> {
    let mut json = serde_json::Deserializer::from_reader(body);
    let entries = Entries { place, visit };
    json.deserialize_seq(entries).and_then(|()| json.end()).map_err(|error| match error.classify() {
        serde_json::error::Category::Io => connect::io_failure(error.into()),
        serde_json::error::Category::Eof => Failure::new(StoreErrorKind::Retry, "the listing ended before its end"),
        serde_json::error::Category::Syntax | serde_json::error::Category::Data => {
            Failure::permanent(format!("what came back is no listing of a restic REST server of version 2: {error}"))
        }
    })
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    name: std::borrow::Cow<'a, str>,
    size: u64,
}

struct Entries<'a> {
    place: Place,
    visit: &'a mut dyn FnMut(ObjectInfo),
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an array of objects with name and size")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(entry) = entries.next_element::<Entry<'_>>()? {
            if let Ok(id) = entry.name.parse::<crate::id::ObjectId>() {
                (self.visit)(ObjectInfo {
                    name: ObjectName::new(self.place, id),
                    size_bytes: entry.size,
                    modified: None,
                });
            }
        }
        Ok(())
    }

    // Some servers write `null` where there is nothing.
    fn visit_unit<E>(self) -> Result<(), E> {
        let _ = IgnoredAny;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<(String, u64)>, StoreErrorKind> {
        let mut found = Vec::new();
        parse(text.as_bytes(), Place::Index, &mut |info| found.push((info.name.to_string(), info.size_bytes)))
            .map(|()| found)
            .map_err(|failure| failure.kind)
    }

    #[test]
    fn entries() {
        let id = "ab".repeat(32);
        let listing = format!(
            r#"[{{"name":"{id}","size":7}}, {{"size":1,"name":"tmp-x","isDir":false}}, {{"name":"{}","size":2}}]"#,
            id.to_uppercase()
        );
        assert_eq!(parsed(&listing), Ok(vec![(format!("index/{id}"), 7)]));
        assert_eq!(parsed("[]\n"), Ok(vec![]));
        for (end, _) in listing.char_indices() {
            assert_eq!(parsed(&listing[..end]), Err(StoreErrorKind::Retry), "cut after {end}");
        }
    }

    #[test]
    fn what_is_no_listing() {
        let id = "ab".repeat(32);
        for text in [
            format!(r#"["{id}"]"#),
            "<html></html>".into(),
            "{}".into(),
            format!(r#"[{{"name":"{id}","size":-1}}]"#),
            "[] x".into(),
        ] {
            assert_eq!(parsed(&text), Err(StoreErrorKind::Permanent), "{text}");
        }
    }
}
