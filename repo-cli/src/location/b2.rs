//! `b2:BUCKET:PREFIX` and `b2:BUCKET/PREFIX`.

use super::{B2Address, prefix};

/// What follows `b2:`. A further colon within the path, as in `b2:BUCKET/a:b`, is one more slash: some programs put together
/// `b2:BUCKET/PATH` and `:REPOSITORY`.
pub(super) fn parse(text: &str) -> Result<B2Address, &'static str> {
    let text = text.strip_prefix("//").unwrap_or(text);
    let (bucket, rest) = text.split_at(text.find([':', '/']).unwrap_or(text.len()));
    let is_bucket = bucket.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if bucket.is_empty() || !is_bucket {
        return Err("write b2:BUCKET:PATH; the name of a bucket has letters, digits and \"-\"");
    }
    let parts: Vec<&str> = rest.split([':', '/']).filter(|part| !part.is_empty()).collect();
    Ok(B2Address { bucket: bucket.to_owned(), prefix: prefix(&parts.join("/"))? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, bucket, prefix) in [
            ("bucket", "bucket", ""),
            ("bucket:", "bucket", ""),
            ("bucket:path/to", "bucket", "path/to"),
            ("bucket:/path/to/", "bucket", "path/to"),
            ("bucket/path", "bucket", "path"),
            ("bucket/path:type/uuid", "bucket", "path/type/uuid"),
            ("//bucket/path", "bucket", "path"),
        ] {
            assert_eq!(parse(text), Ok(B2Address { bucket: bucket.into(), prefix: prefix.into() }), "{text}");
        }
        for text in ["", ":path", "/path", "buc_ket", "b:../x"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
