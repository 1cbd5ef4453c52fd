//! What the user does not want in a backup: patterns, marked directories, large files. The meaning is restic's.

use super::{
    glob::BadPattern,
    lines::{self, ListError},
    pattern::{Here, LastMatch, PatternList},
};

/// Name and beginning of the file that marks a directory as a cache, by the Cache Directory Tagging Specification.
const CACHE_TAG: (&[u8], &[u8]) = (b"CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55");

/// Rules by which entries are left out. Without any, they cost nothing.
#[derive(Debug, Default)]
pub struct ExcludeRules {
    exact: PatternList,
    /// Patterns in lower case, held against paths in lower case.
    folded: PatternList,
    tags: Vec<Tag>,
    larger_than_bytes: Option<u64>,
}

/// A file whose presence excludes everything else in its directory.
#[derive(Debug)]
pub(crate) struct Tag {
    pub(crate) name: Box<[u8]>,
    /// What the file must begin with.
    pub(crate) header: Box<[u8]>,
}

/// What the patterns say of a directory, to be handed on to what is in it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Verdict {
    exact: LastMatch,
    folded: LastMatch,
}

/// What the patterns say of the entries of one directory.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    exact: Here,
    folded: Here,
}

impl ExcludeRules {
    /// Excludes what matches `pattern`; beginning with `!`, takes back what earlier patterns excluded.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn pattern(&mut self, pattern: &[u8]) -> Result<(), BadPattern> {
        self.exact.push(pattern)
    }

    /// The same, with upper and lower case taken for one. These patterns are a list of their own.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn pattern_ignoring_case(&mut self, pattern: &[u8]) -> Result<(), BadPattern> {
        self.folded.push(&lower_case(pattern))
    }

    /// Excludes everything in directories that hold the file `NAME`, given as `NAME` or `NAME:HEADER`, save that file
    /// itself. With a header, the file must begin with it.
    ///
    /// # Errors
    /// When there is no name.
    pub fn if_present(&mut self, spec: &[u8]) -> Result<(), BadPattern> {
        let (name, header) = match spec.iter().position(|&byte| byte == b':') {
            Some(colon) => (&spec[..colon], &spec[colon + 1..]),
            None => (spec, &[][..]),
        };
        if name.is_empty() || name.contains(&b'/') {
            let pattern = crate::tree::name::escape(spec).into_owned();
            return Err(BadPattern { pattern, reason: "it must begin with the name of a file" });
        }
        self.tags.push(Tag { name: name.into(), header: header.into() });
        Ok(())
    }

    /// Excludes what is in directories marked as caches by a `CACHEDIR.TAG` with the right signature.
    pub fn caches(&mut self) {
        let (name, header) = CACHE_TAG;
        self.tags.push(Tag { name: name.into(), header: header.into() });
    }

    /// Excludes regular files larger than so many bytes.
    pub fn larger_than(&mut self, bytes: u64) {
        self.larger_than_bytes = Some(self.larger_than_bytes.map_or(bytes, |before| before.min(bytes)));
    }

    pub(crate) fn has_patterns(&self) -> bool {
        !self.exact.is_empty() || !self.folded.is_empty()
    }

    pub(crate) fn tags(&self) -> &[Tag] {
        &self.tags
    }

    pub(crate) fn is_too_large(&self, size_bytes: u64) -> bool {
        self.larger_than_bytes.is_some_and(|most| size_bytes > most)
    }

    /// What the patterns say of a whole path.
    pub(crate) fn verdict_of(&self, components: &[&[u8]]) -> Verdict {
        Verdict {
            exact: self.exact.last_match_of(components),
            folded: self.with_folded(components, |components| self.folded.last_match_of(components)),
        }
    }

    /// What they say of the entries of a directory with these components and this verdict.
    pub(crate) fn scope(&self, directory: &[&[u8]], verdict: Verdict) -> Scope {
        Scope {
            exact: self.exact.here(directory, verdict.exact),
            folded: self.with_folded(directory, |directory| self.folded.here(directory, verdict.folded)),
        }
    }

    /// What they say of an entry.
    pub(crate) fn verdict(&self, scope: &Scope, name: &[u8]) -> Verdict {
        Verdict {
            exact: self.exact.last_match(&scope.exact, name),
            folded: if self.folded.is_empty() {
                None
            } else {
                self.folded.last_match(&scope.folded, &lower_case(name))
            },
        }
    }

    /// Whether something with this verdict is left out.
    pub(crate) fn excludes(&self, verdict: Verdict) -> bool {
        self.exact.selects(verdict.exact) || self.folded.selects(verdict.folded)
    }

    /// Whether something below a directory with these components may be left out, though the directory is not. Not always right when
    /// it says yes.
    pub(crate) fn may_exclude_below(&self, directory: &[&[u8]]) -> bool {
        self.exact.may_select_below(directory)
            || self.with_folded(directory, |directory| self.folded.may_select_below(directory))
    }

    fn with_folded<T: Default>(&self, components: &[&[u8]], then: impl FnOnce(&[&[u8]]) -> T) -> T {
        if self.folded.is_empty() {
            return T::default();
        }
        let folded: Vec<Vec<u8>> = components.iter().map(|component| lower_case(component)).collect();
        then(&folded.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }
}

/// In lower case, character by character; bytes that are not UTF-8 stay as they are.
pub(crate) fn lower_case(bytes: &[u8]) -> Vec<u8> {
    if bytes.is_ascii() {
        return bytes.to_ascii_lowercase();
    }
    let mut lower = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        lower.extend(chunk.valid().chars().flat_map(char::to_lowercase).collect::<String>().into_bytes());
        lower.extend(chunk.invalid());
    }
    lower
}

/// The patterns of an exclude file: one a line, white space around it taken off, empty lines and comments (`#`) left out,
/// `$NAME` and `${NAME}` replaced by what `variable` says (nothing if it does not know it), `$$` by a dollar sign.
///
/// # Errors
/// When the file begins like UTF-16 and is not.
pub fn parse_exclude_file(
    content: &[u8],
    variable: &dyn Fn(&[u8]) -> Option<Vec<u8>>,
) -> Result<Vec<Vec<u8>>, ListError> {
    Ok(lines::entries(content)?.iter().map(|line| expand(line, variable)).collect())
}

/// Replaces variables as Go's `os.Expand` does, down to what it makes of mistakes.
fn expand(line: &[u8], variable: &dyn Fn(&[u8]) -> Option<Vec<u8>>) -> Vec<u8> {
    let is_special = |byte: u8| b"*#$@!?-0123456789".contains(&byte);
    let is_name = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric();
    let mut out = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(dollar) = rest.iter().position(|&byte| byte == b'$') {
        out.extend_from_slice(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        let (name, length) = match after {
            [] => (&[][..], 0),
            [b'{', inner @ ..] => match inner.iter().position(|&byte| byte == b'}') {
                // Mistakes: nothing between the braces, or no second one. What was understood of it is dropped.
                Some(0) => (&[][..], 2),
                None => (&[][..], 1),
                Some(end) => (&inner[..end], end + 2),
            },
            [first, ..] if is_special(*first) => (&after[..1], 1),
            _ => {
                let length = after.iter().take_while(|&&byte| is_name(byte)).count();
                (&after[..length], length)
            }
        };
        match (name, length) {
            (b"", 0) | (b"$", _) => out.push(b'$'),
            (b"", _) => {}
            _ => out.extend(variable(name).unwrap_or_default()),
        }
        rest = &after[length..];
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::path;

    fn excludes(rules: &ExcludeRules, path: &str) -> bool {
        rules.excludes(rules.verdict_of(&path::components(path.as_bytes()).collect::<Vec<_>>()))
    }

    #[test]
    fn case_is_ignored_in_a_list_of_its_own() {
        let mut rules = ExcludeRules::default();
        for pattern in ["*.JPG", "!/Keep/*.jpg", "/ÄÖ/Sub", "[A-C]x"] {
            rules.pattern_ignoring_case(pattern.as_bytes()).unwrap();
        }
        rules.pattern(b"*.raw").unwrap();
        for (path, want) in [
            ("/a/x.jpg", true),
            ("/a/X.Jpg", true),
            ("/keep/X.JPG", false),
            ("/KEEP/deeper/X.JPG", true),
            ("/äö/SUB/x", true),
            ("/a/BX", true),
            ("/a/bx/y", true),
            ("/a/dx", false),
            ("/keep/x.raw", true),
            ("/keep/x.RAW", false),
        ] {
            assert_eq!(excludes(&rules, path), want, "{path}");
        }
        assert_eq!(lower_case(b"A\xff\xc3\x84"), b"a\xff\xc3\xa4");
    }

    #[test]
    fn variables() {
        let variable = |name: &[u8]| match name {
            b"HOME" => Some(b"/home/me".to_vec()),
            b"A_1" => Some(b"x".to_vec()),
            b"1" => Some(b"one".to_vec()),
            _ => None,
        };
        for (line, want) in [
            ("$HOME/x", "/home/me/x"),
            ("${HOME}x", "/home/mex"),
            ("$A_1-$A_1", "x-x"),
            ("$UNKNOWN/y", "/y"),
            ("a$$b", "a$b"),
            ("a$", "a$"),
            ("a$/b", "a$/b"),
            ("${}x", "x"),
            ("${x", "x"),
            ("$12", "one2"),
            ("${1}", "one"),
            ("${$}", "$"),
            ("no", "no"),
        ] {
            assert_eq!(String::from_utf8(expand(line.as_bytes(), &variable)).unwrap(), want, "{line}");
        }
        let file = b"# c\n $HOME/*.tmp \n\n!$HOME/a.tmp";
        assert_eq!(parse_exclude_file(file, &variable).unwrap(), [&b"/home/me/*.tmp"[..], b"!/home/me/a.tmp"]);
    }

    #[test]
    fn tags_need_a_name() {
        let mut rules = ExcludeRules::default();
        rules.if_present(b".nobackup").unwrap();
        rules.if_present(b"TAG:a:b").unwrap();
        rules.caches();
        assert_eq!((&*rules.tags()[1].name, &*rules.tags()[1].header), (&b"TAG"[..], &b"a:b"[..]));
        for bad in [&b""[..], b":x", b"a/b"] {
            assert!(rules.if_present(bad).is_err());
        }
    }

    #[test]
    fn the_smallest_size_counts() {
        let mut rules = ExcludeRules::default();
        assert!(!rules.is_too_large(u64::MAX));
        rules.larger_than(10);
        rules.larger_than(20);
        assert!(!rules.is_too_large(10) && rules.is_too_large(11));
    }
}
