//! Where a repository is: restic's forms of naming it. Nothing here touches a store or reads a variable.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

use repo_core::{store::secret::Secret, tree::name::escape};

use crate::report::{Failure, Result};

mod b2;
mod opendal;
mod rest;
mod s3;
mod sftp;

/// Stores that restic and others know by name and this program does not have.
const ABSENT: [&str; 7] = ["rclone", "azure", "gs", "swift", "webdav", "smb", "ftp"];

/// Those of them that go by another name.
const SERVICES: [(&str, &str); 4] = [
    ("azure", "opendal:azblob:CONTAINER/PREFIX"),
    ("gs", "opendal:gcs:BUCKET/PREFIX"),
    ("swift", "opendal:swift:CONTAINER/PREFIX"),
    ("webdav", "opendal:webdav:https://HOST/PATH"),
];

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// In a folder.
    Local(PathBuf),
    /// On a restic REST server.
    Rest(RestAddress),
    /// In a bucket of an S3 service.
    S3(S3Address),
    /// In a bucket of Backblaze B2.
    B2(B2Address),
    /// In a folder of another machine, reached with ssh.
    Sftp(SftpAddress),
    /// At another service that `OpenDAL` knows.
    Opendal(OpendalAddress),
}

/// A repository on a restic REST server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RestAddress {
    /// The repository's URL, without user and password, with `/` at its end.
    pub(crate) url: String,
    /// The socket of a server on this machine; the URL's host is then only for show.
    pub(crate) socket: Option<PathBuf>,
    /// User and password, if they are in the address.
    pub(crate) user: Option<(String, Secret)>,
}

/// A repository in a bucket of an S3 service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct S3Address {
    /// `https://HOST[:PORT]`; the service of Amazon if there is none.
    pub(crate) endpoint: Option<String>,
    /// The bucket.
    pub(crate) bucket: String,
    /// What precedes the names of objects, without slashes around it; may be empty.
    pub(crate) prefix: String,
}

/// A repository in a bucket of Backblaze B2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct B2Address {
    /// The bucket.
    pub(crate) bucket: String,
    /// What precedes the names of objects, without slashes around it; may be empty.
    pub(crate) prefix: String,
}

/// A repository in a folder of another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SftpAddress {
    /// The user there, if not the one that ssh would take.
    pub(crate) user: Option<String>,
    /// The host, or its name in the configuration of ssh.
    pub(crate) host: String,
    /// The port, if not the one that ssh would take.
    pub(crate) port: Option<u16>,
    /// The folder; one that does not begin with a slash is below the user's home.
    pub(crate) path: String,
}

/// A repository at another service that `OpenDAL` knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpendalAddress {
    /// Which service, in small letters.
    pub(crate) scheme: String,
    /// Where it is there; with `http[s]://HOST[:PORT]/` before it the service's own address.
    pub(crate) root: String,
}

impl Address {
    /// Turns a repository's name into where it is. A plain path, `local:PATH` and `file:PATH` are folders; a folder called `s3:…` is
    /// never meant.
    ///
    /// # Errors
    /// When it has a form that nothing has; the message says which form is meant to be there, and shows no secret.
    pub(crate) fn parse(name: &OsStr) -> Result<Self> {
        let bytes = name.as_bytes();
        let shown = || escape(&without_secret(bytes)).into_owned();
        let Some(colon) = bytes.iter().position(|byte| *byte == b':') else { return Ok(Self::Local(name.into())) };
        let (scheme, rest) = (&bytes[..colon], &bytes[colon + 1..]);
        let is_scheme =
            scheme.len() > 1 && scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(byte));
        if !is_scheme {
            return Ok(Self::Local(name.into()));
        }
        let scheme = String::from_utf8_lossy(scheme).to_ascii_lowercase();
        if scheme == "local" || scheme == "file" {
            let path = if scheme == "file" { rest.strip_prefix(b"//").unwrap_or(rest) } else { rest };
            if path.is_empty() {
                return Err(Failure::usage(format!("\"{}\" names no folder", shown())));
            }
            return Ok(Self::Local(PathBuf::from(OsString::from(OsStr::from_bytes(path)))));
        }
        let text = || std::str::from_utf8(rest).map_err(|_| "it is not valid UTF-8");
        let parsed = match scheme.as_str() {
            "rest" => text().and_then(rest::parse).map(Self::Rest),
            "s3" => text().and_then(s3::parse).map(Self::S3),
            "b2" => text().and_then(b2::parse).map(Self::B2),
            "sftp" => text().and_then(sftp::parse).map(Self::Sftp),
            "opendal" => text().and_then(opendal::parse).map(Self::Opendal),
            "http" | "https" => {
                return Err(Failure::usage(format!("\"{}\" names no kind of repository that coffer knows", shown()))
                    .hint("a repository on a REST server is written rest:https://HOST/PATH/, one on S3 s3:https://HOST/BUCKET"));
            }
            absent if ABSENT.contains(&absent) => {
                let by_rclone = "\"rclone serve restic REMOTE:PATH\" makes a REST server of nearly any storage; name it rest:http://HOST:PORT/";
                let hint = match SERVICES.iter().find(|(name, _)| *name == absent) {
                    Some((_, form)) => format!("write {form}, if this build has it; else {by_rclone}"),
                    None => by_rclone.to_owned(),
                };
                return Err(Failure::usage(format!("coffer has no {absent} repositories")).hint(hint));
            }
            _ => {
                return Err(Failure::usage(format!("\"{}\" names no kind of repository that coffer knows", shown()))
                    .hint(format!("a folder of that name is written ./{}", shown())));
            }
        };
        parsed.map_err(|reason| Failure::usage(format!("\"{}\" is not the address of a repository: {reason}", shown())))
    }
}

/// What may be shown of a name in which there may be a password (`rest:https://user:password@host/`): without what is before an `@`, if
/// that is more than the user of `sftp:`.
fn without_secret(name: &[u8]) -> Vec<u8> {
    let Some(at) = name.iter().rposition(|byte| *byte == b'@') else { return name.to_vec() };
    let slashes = name.windows(2).position(|part| part == b"//").map(|start| start + 2);
    let colon = name.iter().position(|byte| *byte == b':').map(|start| start + 1);
    let start = slashes.or(colon).filter(|start| *start <= at).unwrap_or(at);
    let is_secret = slashes.is_some() || name[start..at].contains(&b':');
    if is_secret { [&name[..start], &name[at + 1..]].concat() } else { name.to_vec() }
}

/// `HOST`, `HOST:PORT`, `[ADDRESS]` or `[ADDRESS]:PORT`.
fn host_and_port(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or("the bracket around the host's address is not closed")?;
            let (number, zone) = address.split_once('%').unwrap_or((address, ""));
            let is_address = number.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte))
                && zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            if !is_address || !(port.is_empty() || port.starts_with(':')) {
                return Err("what is in brackets is no address of a host");
            }
            (&text[..address.len() + 2], port.strip_prefix(':'))
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:%".contains(&byte) || byte >= 0x80;
    if host.is_empty() || host.starts_with('-') || !host.bytes().all(is_host) {
        return Err("it names no host");
    }
    match port.map(str::parse::<u16>) {
        None => Ok((host, None)),
        Some(Ok(port)) if port > 0 => Ok((host, Some(port))),
        Some(_) => Err("the port is not a number from 1 to 65535"),
    }
}

/// A prefix of object names: without slashes around it, and with no part that a store might resolve.
fn prefix(text: &str) -> Result<String, &'static str> {
    let prefix = text.trim_matches('/');
    if prefix.split('/').any(|part| part == "." || part == "..") {
        return Err("the path within the bucket has a part \".\" or \"..\"");
    }
    Ok(prefix.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Code;

    fn folder(name: &str) -> Result<String, Code> {
        match Address::parse(OsStr::new(name)) {
            Ok(Address::Local(path)) => Ok(path.to_str().unwrap().to_owned()),
            Ok(address) => panic!("{address:?}"),
            Err(failure) => Err(failure.code()),
        }
    }

    #[test]
    fn folders() {
        for (name, path) in [
            ("/srv/repo", "/srv/repo"),
            ("repo", "repo"),
            ("local:repo", "repo"),
            ("local:/srv/a:b", "/srv/a:b"),
            ("file:/srv/repo", "/srv/repo"),
            ("file:///srv/repo", "/srv/repo"),
            ("./s3:x", "./s3:x"),
            ("/a/s3:x", "/a/s3:x"),
            ("c:x", "c:x"),
        ] {
            assert_eq!(folder(name), Ok(path.to_owned()), "{name}");
        }
        for name in ["local:", "file://", "https://user:secret@host/", "foo:bar", "rclone:a:b", "azure:x", "S3:x"] {
            assert_eq!(folder(name), Err(Code::Usage), "{name}");
        }
    }

    #[test]
    fn each_scheme_has_its_kind() {
        for (name, is_kind) in [
            ("rest:http://h/", (|address| matches!(address, Address::Rest(_))) as fn(&Address) -> bool),
            ("s3:host/bucket", |address| matches!(address, Address::S3(_))),
            ("S3:host/bucket", |address| matches!(address, Address::S3(_))),
            ("b2:bucket:path", |address| matches!(address, Address::B2(_))),
            ("sftp:user@host:/x", |address| matches!(address, Address::Sftp(_))),
            ("opendal:webdav:https://h/x", |address| matches!(address, Address::Opendal(_))),
        ] {
            assert!(is_kind(&Address::parse(OsStr::new(name)).unwrap()), "{name}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        for (name, shown) in [
            ("https://user:secret@host/", "https://host/"),
            ("rest:http://user:se@cret@host/x", "rest:http://host/x"),
            ("foo:bar", "foo:bar"),
            ("sftp:me@host/x", "sftp:me@host/x"),
            ("sftp:me:secret@host:/x", "sftp:host:/x"),
            ("rest:http://u:secret@ho st/", "rest:http://ho st/"),
        ] {
            assert_eq!(without_secret(name.as_bytes()), shown.as_bytes(), "{name}");
        }
        let failure = Address::parse(OsStr::new("rest:http://u:secret@/")).unwrap_err();
        assert!(!format!("{failure:?}").contains("secret"), "{failure:?}");
        let address = Address::parse(OsStr::new("rest:http://u:secret@h/")).unwrap();
        assert!(!format!("{address:?}").contains("\"secret"), "{address:?}");
    }

    #[test]
    fn hosts_and_ports() {
        for (text, found) in [
            ("host", Ok(("host", None))),
            ("host:80", Ok(("host", Some(80)))),
            ("[::1]:80", Ok(("[::1]", Some(80)))),
            ("[fe80::1%eth0]", Ok(("[fe80::1%eth0]", None))),
            ("müller.example", Ok(("müller.example", None))),
        ] {
            assert_eq!(host_and_port(text), found, "{text}");
        }
        for text in [
            "",
            ":80",
            "host:",
            "host:0",
            "host:65536",
            "host:x",
            "[::1",
            "[::1]x",
            "[g]",
            "a b",
            "-oProxyCommand=x",
            "a/b",
        ] {
            assert!(host_and_port(text).is_err(), "{text}");
        }
    }
}
