//! Paths as bytes: cleaning, joining and splitting them without looking at a file system.

/// The shortest path that names the same place, going by the text alone: no `.`, no doubled or trailing slashes, `..`
/// only at the beginning of a relative path. Nothing becomes `.`.
pub(crate) fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.starts_with(b"/");
    let mut kept: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match kept.last() {
                Some(&last) if last != b".." => {
                    kept.pop();
                }
                _ if rooted => {}
                _ => kept.push(part),
            },
            _ => kept.push(part),
        }
    }
    let joined = kept.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/", &joined[..]].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

/// `path` as seen from `base`, cleaned. An absolute path stays what it is.
pub(crate) fn join(base: &[u8], path: &[u8]) -> Vec<u8> {
    if path.starts_with(b"/") { clean(path) } else { clean(&[base, b"/", path].concat()) }
}

/// The components of a cleaned path, without the root.
pub(crate) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning() {
        for (path, want) in [
            ("", "."),
            (".", "."),
            ("./", "."),
            ("/", "/"),
            ("//", "/"),
            ("/..", "/"),
            ("/../a", "/a"),
            ("a//b/", "a/b"),
            ("a/./b", "a/b"),
            ("a/../b", "b"),
            ("a/..", "."),
            ("../a", "../a"),
            ("../../a/..", "../.."),
            ("a/../../b", "../b"),
            ("/a/b/../../c", "/c"),
            ("...", "..."),
        ] {
            assert_eq!(String::from_utf8(clean(path.as_bytes())).unwrap(), want, "{path}");
        }
    }

    #[test]
    fn joining() {
        assert_eq!(join(b"/srv", b"../x"), b"/x");
        assert_eq!(join(b"/", b"a"), b"/a");
        assert_eq!(join(b"/srv/", b"/a/"), b"/a");
        assert_eq!(join(b"/srv", b"."), b"/srv");
        assert_eq!(components(b"/a/b").collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(components(b".").count() + components(b"/").count(), 0);
    }
}
