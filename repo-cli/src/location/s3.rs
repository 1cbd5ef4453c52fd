//! `s3:HOST/BUCKET/PREFIX`, `s3:https://HOST[:PORT]/BUCKET/PREFIX`, `s3://HOST/BUCKET/PREFIX` and `s3://BUCKET/PREFIX`.

use super::{S3Address, host_and_port, prefix};

const FORM: &str = "write s3:HOST/BUCKET/PREFIX, s3:https://HOST:PORT/BUCKET/PREFIX or s3://BUCKET/PREFIX";

/// What follows `s3:`.
pub(super) fn parse(text: &str) -> Result<S3Address, &'static str> {
    let lower = text.to_ascii_lowercase();
    for scheme in ["https", "http"] {
        if lower.strip_prefix(scheme).is_some_and(|rest| rest.starts_with("://")) {
            return at_host(scheme, &text[scheme.len() + 3..]);
        }
    }
    let Some(rest) = text.strip_prefix("//") else { return at_host("https", text) };
    // The command line of Amazon names a bucket here, restic a host. A host has a dot or a port; a bucket with a dot cannot be meant.
    let first = rest.split('/').next().unwrap_or_default();
    if first.contains(['.', ':']) || first == "localhost" {
        return at_host("https", rest);
    }
    let (bucket, rest) = rest.split_once('/').unwrap_or((rest, ""));
    Ok(S3Address { endpoint: None, bucket: checked_bucket(bucket)?, prefix: prefix(rest)? })
}

fn at_host(scheme: &str, rest: &str) -> Result<S3Address, &'static str> {
    if rest.contains('@') {
        return Err("keys do not belong into the address; they come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
    }
    let (authority, path) = rest.split_once('/').ok_or(FORM)?;
    let (host, port) = host_and_port(authority)?;
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let (bucket, rest) = path.split_once('/').unwrap_or((path, ""));
    Ok(S3Address {
        endpoint: Some(format!("{scheme}://{host}{port}")),
        bucket: checked_bucket(bucket)?,
        prefix: prefix(rest)?,
    })
}

fn checked_bucket(bucket: &str) -> Result<String, &'static str> {
    if bucket.is_empty() {
        return Err(FORM);
    }
    if !bucket.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)) {
        return Err("the name of the bucket has characters that no bucket has");
    }
    Ok(bucket.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, endpoint, bucket, prefix) in [
            ("s3.amazonaws.com/bucket", Some("https://s3.amazonaws.com"), "bucket", ""),
            ("s3.amazonaws.com/bucket/a/b/", Some("https://s3.amazonaws.com"), "bucket", "a/b"),
            ("http://localhost:9000/bucket/a", Some("http://localhost:9000"), "bucket", "a"),
            ("HTTPS://[::1]:9000/bucket", Some("https://[::1]:9000"), "bucket", ""),
            ("//s3.eu.example.com/bucket", Some("https://s3.eu.example.com"), "bucket", ""),
            ("//bucket/a/b", None, "bucket", "a/b"),
            ("//bucket", None, "bucket", ""),
            ("localhost/bucket", Some("https://localhost"), "bucket", ""),
        ] {
            let endpoint = endpoint.map(str::to_owned);
            let address = S3Address { endpoint, bucket: bucket.into(), prefix: prefix.into() };
            assert_eq!(parse(text), Ok(address), "{text}");
        }
    }

    #[test]
    fn mistakes() {
        for text in [
            "",
            "bucket",
            "host/",
            "//",
            "https://host",
            "https://host/",
            "https:///bucket",
            "//host.example",
            "https://key:secret@host/bucket",
            "host/buc ket",
            "host/bucket/../x",
            "http://host:x/bucket",
        ] {
            assert!(parse(text).is_err(), "{text}: {:?}", parse(text));
        }
    }
}
