//! Where a repository is: restic's forms of naming it.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

use repo_core::tree::name::escape;

use crate::report::{Failure, Result};

/// Stores that are known by name and not in this version.
const REMOTE: [&str; 9] = ["s3", "b2", "sftp", "rest", "rclone", "opendal", "azure", "gs", "swift"];

/// Turns a repository's name into the folder it is: a plain path, `local:PATH` or `file:PATH`.
///
/// # Errors
/// When it is in another kind of store. A folder called `s3:…` is never meant.
pub(crate) fn parse(name: &OsStr) -> Result<PathBuf> {
    let bytes = name.as_bytes();
    let shown = || escape(without_secret(bytes)).into_owned();
    let Some(colon) = bytes.iter().position(|byte| *byte == b':') else { return Ok(PathBuf::from(name)) };
    let (scheme, rest) = (&bytes[..colon], &bytes[colon + 1..]);
    let is_scheme = scheme.len() > 1 && scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(byte));
    if !is_scheme {
        return Ok(PathBuf::from(name));
    }
    let scheme = String::from_utf8_lossy(scheme).to_ascii_lowercase();
    if scheme == "local" || scheme == "file" {
        let path = if scheme == "file" { rest.strip_prefix(b"//").unwrap_or(rest) } else { rest };
        if path.is_empty() {
            return Err(Failure::usage(format!("\"{}\" names no folder", shown())));
        }
        return Ok(PathBuf::from(OsString::from(OsStr::from_bytes(path))));
    }
    if REMOTE.contains(&scheme.as_str()) {
        return Err(Failure::new(format!(
            "{scheme} repositories are not in this version of coffer, which has repositories in local folders only"
        ))
        .hint("mount the storage and name the folder"));
    }
    Err(Failure::usage(format!("\"{}\" names no kind of repository that coffer knows", shown()))
        .hint(format!("a folder of that name is written ./{}", shown())))
}

/// What may be shown of a name in which there may be a password (`https://user:password@host/`): its scheme.
fn without_secret(name: &[u8]) -> &[u8] {
    let is_url = name.windows(3).any(|part| part == b"://");
    let end = name.iter().position(|byte| *byte == b':').filter(|_| is_url).map_or(name.len(), |colon| colon + 1);
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Code;

    fn parsed(name: &str) -> Result<String, Code> {
        match parse(OsStr::new(name)) {
            Ok(path) => Ok(path.to_str().unwrap().to_owned()),
            Err(failure) => Err(failure.code()),
        }
    }

    #[test]
    fn forms() {
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
            assert_eq!(parsed(name), Ok(path.to_owned()), "{name}");
        }
        for name in [
            "s3:s3.amazonaws.com/bucket",
            "S3:x",
            "b2:bucket:path",
            "sftp:user@host:/x",
            "rest:http://x/",
            "rclone:a:b",
        ] {
            assert_eq!(parsed(name), Err(Code::Fatal), "{name}");
        }
        for name in ["local:", "file://", "https://user:secret@host/", "foo:bar"] {
            assert_eq!(parsed(name), Err(Code::Usage), "{name}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(without_secret(b"https://user:secret@host/"), b"https:");
        assert_eq!(without_secret(b"foo:bar"), b"foo:bar");
    }
}
