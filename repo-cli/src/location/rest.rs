//! `rest:http[s]://[USER[:PASSWORD]@]HOST[:PORT]/PATH/` and `rest:http+unix:///SOCKET:/PATH/`.

use repo_core::store::secret::Secret;

use super::{RestAddress, host_and_port};

/// User and password, if they are in the address.
type User = Option<(String, Secret)>;

/// What follows `rest:`.
pub(super) fn parse(text: &str) -> Result<RestAddress, &'static str> {
    let (scheme, rest) =
        text.split_once("://").ok_or("\"rest:\" is followed by a URL, as in rest:https://HOST:PORT/PATH/")?;
    let scheme = scheme.to_ascii_lowercase();
    match scheme.as_str() {
        "http" | "https" => of_host(&scheme, rest),
        "http+unix" => of_socket(rest),
        _ => Err("after \"rest:\" comes http://, https:// or http+unix://"),
    }
}

fn of_host(scheme: &str, rest: &str) -> Result<RestAddress, &'static str> {
    let (user, rest) = split_user(rest)?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = host_and_port(authority)?;
    if !host.is_ascii() {
        return Err("the host's name is not ASCII; write it in its xn-- form");
    }
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    Ok(RestAddress { url: format!("{scheme}://{host}{port}{}", checked_path(path)?), socket: None, user })
}

/// The path of the socket, which may contain anything but a colon, and after it the repository's.
fn of_socket(rest: &str) -> Result<RestAddress, &'static str> {
    let (user, rest) = match rest.split_once('@') {
        Some((user, path)) if path.starts_with('/') => (Some(user_of(user)?), path),
        _ => (None, rest),
    };
    let (socket, path) = rest.split_once(':').unwrap_or((rest, "/"));
    if !socket.starts_with('/') || socket.len() < 2 {
        return Err(
            "\"http+unix://\" is followed by the absolute path of a socket, as in rest:http+unix:///run/rest.sock:/PATH/",
        );
    }
    Ok(RestAddress { url: format!("http://localhost{}", checked_path(path)?), socket: Some(socket.into()), user })
}

/// Takes user and password off. A password in which `/` stands as it is would end the host; it has to be written `%2F`.
fn split_user(rest: &str) -> Result<(User, &str), &'static str> {
    let authority = &rest[..rest.find('/').unwrap_or(rest.len())];
    match authority.rfind('@') {
        Some(at) => Ok((Some(user_of(&rest[..at])?), &rest[at + 1..])),
        None => Ok((None, rest)),
    }
}

fn user_of(text: &str) -> Result<(String, Secret), &'static str> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    Ok((decoded(user)?, Secret::from(decoded(password)?)))
}

/// Resolves `%2F` and its like.
fn decoded(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "user or password has a % that is not followed by two hexadecimal digits; write it %25";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first == b'%' {
            let (digits, after) = rest.split_at_checked(2).ok_or(WRONG)?;
            let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
            let digits = std::str::from_utf8(digits).ok().filter(|_| is_hex).ok_or(WRONG)?;
            bytes.push(u8::from_str_radix(digits, 16).map_err(|_| WRONG)?);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).map_err(|_| "user or password is not valid UTF-8")
}

/// The path with a slash at each end.
fn checked_path(path: &str) -> Result<String, &'static str> {
    if path.contains(['?', '#']) {
        return Err("a repository's URL has no \"?\" and no \"#\"");
    }
    if path.bytes().any(|byte| byte <= b' ' || byte >= 0x7f || b"\"<>\\^`{|}".contains(&byte)) {
        return Err("the path has characters that a URL cannot have; write a space %20, and so on");
    }
    let path = path.trim_matches('/');
    Ok(if path.is_empty() { "/".to_owned() } else { format!("/{path}/") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_restic() {
        for (text, url, socket, user) in [
            ("http://host:8000/", "http://host:8000/", None, None),
            ("https://host", "https://host/", None, None),
            ("HTTPS://host/a/b", "https://host/a/b/", None, None),
            ("http://[::1]:8000//a//", "http://[::1]:8000/a/", None, None),
            ("https://me:geheim@host/x/", "https://host/x/", None, Some(("me", "geheim"))),
            ("https://me@host/x@y/", "https://host/x@y/", None, Some(("me", ""))),
            ("https://a%40b:c%2Fd%25:e@host/", "https://host/", None, Some(("a@b", "c/d%:e"))),
            ("http+unix:///run/rest.sock:/repo/", "http://localhost/repo/", Some("/run/rest.sock"), None),
            ("http+unix:///run/rest.sock", "http://localhost/", Some("/run/rest.sock"), None),
            ("http+unix://me:pw@/run/s:/", "http://localhost/", Some("/run/s"), Some(("me", "pw"))),
        ] {
            let user = user.map(|(user, password)| (user.to_owned(), Secret::from(password)));
            let address = RestAddress { url: url.into(), socket: socket.map(Into::into), user };
            assert_eq!(parse(text), Ok(address), "{text}");
        }
    }

    #[test]
    fn mistakes() {
        for text in [
            "",
            "host/path",
            "host:8000",
            "ftp://host/",
            "http://",
            "http:///path",
            "http://host:port/",
            "http://host/?x",
            "http://host/a b",
            "http://u:%zz@host/",
            "http://u:%2@host/",
            "http+unix://run/rest.sock",
            "http+unix://",
            "http+unix:///",
        ] {
            assert!(parse(text).is_err(), "{text}: {:?}", parse(text));
        }
    }
}
