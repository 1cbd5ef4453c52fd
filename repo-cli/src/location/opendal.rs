//! `opendal:SCHEME:ROOT`, where ROOT may begin with `http[s]://HOST[:PORT]/`.

use super::{OpendalAddress, host_and_port, prefix};

const FORM: &str =
    "write opendal:SCHEME:ROOT, as in opendal:webdav:https://HOST/PATH or opendal:azblob:CONTAINER/PREFIX";

/// What follows `opendal:`. Which services there are is known to the store.
pub(super) fn parse(text: &str) -> Result<OpendalAddress, &'static str> {
    let (scheme, root) = text.split_once(':').unwrap_or((text, ""));
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if scheme.is_empty() || !scheme.bytes().all(is_name) {
        return Err(FORM);
    }
    let scheme = scheme.to_ascii_lowercase();
    let root = match root.split_once("://") {
        Some((protocol, rest)) => {
            let protocol = protocol.to_ascii_lowercase();
            if protocol != "https" && protocol != "http" {
                return Err(FORM);
            }
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            if authority.contains('@') {
                return Err("user and password do not belong into the address; they are settings of the service");
            }
            host_and_port(authority)?;
            format!("{protocol}://{authority}/{}", checked(path)?)
        }
        None if root.starts_with('/') => format!("/{}", checked(root)?),
        None => checked(root)?,
    };
    Ok(OpendalAddress { scheme, root })
}

fn checked(path: &str) -> Result<String, &'static str> {
    if path.contains(['?', '#']) || path.contains(char::is_control) {
        return Err("the path has characters that the path of a repository cannot have");
    }
    prefix(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, scheme, root) in [
            ("azblob:container/a/b/", "azblob", "container/a/b"),
            ("webdav:https://h:80/a/", "webdav", "https://h:80/a"),
            ("WebDAV:HTTP://[::1]", "webdav", "http://[::1]/"),
            ("webdav:/a", "webdav", "/a"),
            ("fs:/srv/x y", "fs", "/srv/x y"),
            ("swift", "swift", ""),
        ] {
            assert_eq!(parse(text), Ok(OpendalAddress { scheme: scheme.into(), root: root.into() }), "{text}");
        }
        for text in [
            "",
            ":x",
            "a b:x",
            "webdav:ftp://h/",
            "webdav:https://u:geheim@h/",
            "webdav:https:///x",
            "gcs:b/../x",
            "gcs:b?x",
        ] {
            assert!(parse(text).is_err(), "{text}: {:?}", parse(text));
        }
    }
}
