//! Lists of what to back up: `--files-from`, `--files-from-verbatim` and `--files-from-raw`, with restic's meaning.

use std::{ffi::OsString, fs, os::unix::ffi::OsStringExt, path::Path, path::PathBuf};

use super::{
    glob::{BadPattern, Glob, has_meta},
    lines::{self, ListError},
    local::Target,
    path,
};
use crate::tree::name::escape;

/// What a list of patterns comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Matches {
    /// What they match, in the order of the patterns.
    pub targets: Vec<Target>,
    /// Patterns that match nothing. That is worth a warning, no more.
    pub unmatched: Vec<Vec<u8>>,
}

/// A list with a pattern on each line: white space around it taken off, empty lines and comments (`#`) left out.
/// `*`, `?` and `[]` match within a component, hidden files included; `**` is nothing special. What has no pattern in it
/// counts as named by the user.
///
/// # Errors
/// When the list is no text, or a pattern is malformed.
pub fn from_patterns(content: &[u8], working_directory: &Path) -> Result<Matches, ListError> {
    let mut matches = Matches::default();
    for pattern in lines::entries(content)? {
        let found = expand(&pattern, working_directory)?;
        if found.is_empty() {
            matches.unmatched.push(pattern);
        } else if has_meta(&pattern) {
            matches.targets.extend(found.into_iter().map(|found| Target::matched(to_path(found))));
        } else {
            matches.targets.extend(found.into_iter().map(|found| Target::named(to_path(found))));
        }
    }
    Ok(matches)
}

/// A list with a path on each line, taken as it is; empty lines are left out.
///
/// # Errors
/// When the list is no text.
pub fn from_verbatim(content: &[u8]) -> Result<Vec<Target>, ListError> {
    let lines = lines::lines(content)?;
    Ok(lines.into_iter().filter(|line| !line.is_empty()).map(|line| Target::named(to_path(line))).collect())
}

/// A list of paths with a NUL byte after each, as `find -print0` writes it.
///
/// # Errors
/// When the last one has no NUL after it, or one is empty.
pub fn from_raw(content: &[u8]) -> Result<Vec<Target>, ListError> {
    if content.is_empty() {
        return Ok(Vec::new());
    }
    let content = content.strip_suffix(b"\0").ok_or(ListError::NoNul)?;
    let target = |name: &[u8]| {
        if name.is_empty() { Err(ListError::EmptyName) } else { Ok(Target::named(to_path(name.to_vec()))) }
    };
    content.split(|&byte| byte == 0).map(target).collect()
}

fn to_path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

/// What a pattern matches, sorted, as paths of the same form (relative patterns give relative paths). Links are followed
/// on the way, but what is matched may itself be a link to nowhere. What cannot be listed matches nothing.
fn expand(pattern: &[u8], working_directory: &Path) -> Result<Vec<Vec<u8>>, BadPattern> {
    let exists = |path: &[u8]| fs::symlink_metadata(working_directory.join(to_path(path.to_vec()))).is_ok();
    let bad = |reason| BadPattern { pattern: escape(pattern).into_owned(), reason };
    if !has_meta(pattern) {
        return Ok(if exists(pattern) { vec![pattern.to_vec()] } else { Vec::new() });
    }
    let cleaned = path::clean(pattern);
    let parts: Vec<Glob> =
        path::components(&cleaned).map(|part| Glob::compile(part).map_err(bad)).collect::<Result<_, _>>()?;
    let mut found: Vec<Vec<u8>> = vec![if cleaned.starts_with(b"/") { b"/".to_vec() } else { Vec::new() }];
    for part in &parts {
        let mut next = Vec::new();
        for directory in found {
            let mut prefix = directory;
            if !prefix.is_empty() && prefix != b"/" {
                prefix.push(b'/');
            }
            if let Glob::Literal(name) = part {
                let path = [&prefix[..], name].concat();
                if exists(&path) {
                    next.push(path);
                }
                continue;
            }
            let Ok(listing) = fs::read_dir(working_directory.join(to_path(prefix.clone()))) else { continue };
            let mut names: Vec<Vec<u8>> =
                listing.flatten().map(|entry| entry.file_name().into_vec()).filter(|name| part.matches(name)).collect();
            names.sort_unstable();
            next.extend(names.into_iter().map(|name| [&prefix[..], &name].concat()));
        }
        found = next;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for path in
            ["state/a.env", "state/b.env", "state/.hidden.env", "state/sub/x", "volumes/data/dump-1.ldif", "[x]"]
        {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        symlink("sub", dir.path().join("state/link")).unwrap();
        symlink("nowhere", dir.path().join("state/dangling.env")).unwrap();
        dir
    }

    fn expanded(dir: &Path, pattern: &str) -> Vec<String> {
        expand(pattern.as_bytes(), dir).unwrap().into_iter().map(|path| String::from_utf8(path).unwrap()).collect()
    }

    #[test]
    fn globs() {
        let dir = tree();
        for (pattern, want) in [
            ("state/*.env", &["state/.hidden.env", "state/a.env", "state/b.env", "state/dangling.env"][..]),
            ("state/?.env", &["state/a.env", "state/b.env"]),
            ("state/[^a].env", &["state/b.env"]),
            ("./state//[ab].env", &["state/a.env", "state/b.env"]),
            ("*/data/dump-*.ldif", &["volumes/data/dump-1.ldif"]),
            ("state/link/*", &["state/link/x"]),
            ("state/*/x", &["state/link/x", "state/sub/x"]),
            ("**/x", &[]),
            ("state/a.env/*", &[]),
            ("none/*", &[]),
            ("\\[x\\]", &["[x]"]),
            ("[[]x]", &["[x]"]),
            ("!state", &[]),
            ("state", &["state"]),
            ("state/../volumes", &["state/../volumes"]),
        ] {
            assert_eq!(expanded(dir.path(), pattern), want, "{pattern}");
        }
        let absolute = format!("{}/state/a*", dir.path().display());
        assert_eq!(expanded(Path::new("/"), &absolute), [format!("{}/state/a.env", dir.path().display())]);
    }

    #[test]
    fn a_list_of_patterns() {
        let dir = tree();
        let list = b"# head\n\n state/a.env \r\nstate/?.env\nvolumes/none\nvolumes/x   # note\n!x";
        let matches = from_patterns(list, dir.path()).unwrap();
        assert_eq!(
            matches.targets,
            [Target::named("state/a.env"), Target::matched("state/a.env"), Target::matched("state/b.env")]
        );
        assert_eq!(matches.unmatched, [&b"volumes/none"[..], b"volumes/x   # note", b"!x"]);
        assert!(matches!(from_patterns(b"state/[x", dir.path()), Err(ListError::Pattern(_))));
        assert!(matches!(from_patterns(b"none/[x", dir.path()), Err(ListError::Pattern(_))));
    }

    #[test]
    fn verbatim_and_raw() {
        assert_eq!(from_verbatim(b" a*\n\n#b\r\n").unwrap(), [Target::named(" a*"), Target::named("#b")]);
        assert_eq!(from_raw(b"a\nb\0c\0").unwrap(), [Target::named("a\nb"), Target::named("c")]);
        assert!(from_raw(b"").unwrap().is_empty());
        assert!(matches!(from_raw(b"a\0b"), Err(ListError::NoNul)));
        assert!(matches!(from_raw(b"a\0\0b\0"), Err(ListError::EmptyName)));
        assert!(matches!(from_raw(b"\0"), Err(ListError::EmptyName)));
    }
}
