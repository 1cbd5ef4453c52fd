//! `sftp:[USER@]HOST:PATH` and `sftp://[USER@]HOST[:PORT]/PATH`.

use super::{SftpAddress, host_and_port};

const FORM: &str = "write sftp:USER@HOST:/PATH or sftp://USER@HOST:PORT//PATH";

const PASSWORD: &str = "a password does not belong into the address; use a key, or an agent of ssh";

/// What follows `sftp:`. In the form of a URL one slash ends the host, so that an absolute path begins with a second one.
pub(super) fn parse(text: &str) -> Result<SftpAddress, &'static str> {
    let (authority, path) = if let Some(rest) = text.strip_prefix("//") {
        rest.split_once('/').ok_or(FORM)?
    } else {
        let bracket = text.find(']').unwrap_or(0);
        let colon = text[bracket..].find(':').ok_or(FORM)? + bracket;
        let (authority, path) = (&text[..colon], &text[colon + 1..]);
        if !authority.contains('@') && path.split_once('@').is_some_and(|(_, rest)| rest.contains(':')) {
            return Err(PASSWORD);
        }
        (authority, path)
    };
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let (host, port) = host_and_port(host)?;
    if let Some(user) = user {
        if user.contains(':') {
            return Err(PASSWORD);
        }
        if user.is_empty() || user.starts_with('-') || user.contains(char::is_whitespace) {
            return Err("the user before \"@\" is no name");
        }
    }
    if path.trim_end_matches('/').is_empty() && !path.starts_with('/') || path.contains('\0') {
        return Err(FORM);
    }
    if path.split('/').any(|part| part == "..") {
        return Err("the path has a part \"..\"");
    }
    let path = match path.trim_end_matches('/') {
        "" => "/",
        trimmed => trimmed,
    };
    Ok(SftpAddress { user: user.map(str::to_owned), host: host.to_owned(), port, path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_restic() {
        for (text, user, host, port, path) in [
            ("me@host:/srv/repo", Some("me"), "host", None, "/srv/repo"),
            ("host:repo", None, "host", None, "repo"),
            ("host:/srv/repo/", None, "host", None, "/srv/repo"),
            ("//me@host:2222//srv/repo", Some("me"), "host", Some(2222), "/srv/repo"),
            ("//me@[::1]:2222/below/home", Some("me"), "[::1]", Some(2222), "below/home"),
            ("[::1]:/srv", None, "[::1]", None, "/srv"),
            ("me@corp@host:/x", Some("me@corp"), "host", None, "/x"),
        ] {
            let address = SftpAddress { user: user.map(str::to_owned), host: host.into(), port, path: path.into() };
            assert_eq!(parse(text), Ok(address), "{text}");
        }
        for text in [
            "",
            "host",
            "host:",
            "//host",
            "//host/",
            "@host:/x",
            "me:secret@host:/x",
            "//me:pw@host/x",
            "-oX:/x",
            "h:a/../b",
        ] {
            assert!(parse(text).is_err(), "{text}: {:?}", parse(text));
        }
    }
}
