//! Lists of path patterns with restic's meaning, compiled so that a name costs next to nothing.
//!
//! A pattern is a sequence of components. It matches a path when the components fit a run of the path's components,
//! anywhere, or from the root on when the pattern begins with `/`; so it matches everything below what it matches, too.
//! `**` stands for any number of components, none included. In a list, the last pattern that matches decides: `!` before
//! it takes back what earlier ones said.
//!
//! Because of "everything below too", it is enough to know of a directory which was the last pattern that matched it,
//! and to ask of its entries only whether a later one ends exactly at their name. All but the last component of every
//! pattern is held against the directory once, for all its entries.

use std::collections::HashMap;

use super::{
    glob::{BadPattern, Glob},
    path,
};
use crate::tree::name::{Name, escape};

/// Patterns in the order in which they count.
#[derive(Debug, Default)]
pub(crate) struct PatternList {
    patterns: Vec<PathPattern>,
    /// The last of the patterns that are a single literal name, by that name.
    names: HashMap<Box<[u8]>, u32>,
    /// The other patterns of a single component.
    globs: Vec<u32>,
    /// Patterns that say something of the directory.
    paths: Vec<u32>,
}

/// One pattern.
#[derive(Debug)]
struct PathPattern {
    negated: bool,
    /// What the components of the directory must fit, all of them.
    head: Vec<Part>,
    /// What the name must fit.
    last: Glob,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    One(Glob),
    /// `**`, and what stands before a pattern that may begin anywhere.
    Any,
}

/// The last pattern of a list that matches a path, as its number; what is below the path starts from it.
pub(crate) type LastMatch = Option<u32>;

/// What a list says of the entries of one directory.
#[derive(Debug, Default)]
pub(crate) struct Here {
    inherited: LastMatch,
    /// Those of the patterns with several components that fit the directory, in order.
    armed: Vec<u32>,
}

impl PatternList {
    pub(crate) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Adds a pattern at the end. An empty one is passed over.
    pub(crate) fn push(&mut self, pattern: &[u8]) -> Result<(), BadPattern> {
        if pattern.is_empty() {
            return Ok(());
        }
        let parsed = PathPattern::parse(pattern)
            .map_err(|reason| BadPattern { pattern: escape(pattern).into_owned(), reason })?;
        let number = u32::try_from(self.patterns.len()).unwrap_or(u32::MAX);
        match &parsed.last {
            _ if parsed.head != [Part::Any] => self.paths.push(number),
            Glob::Literal(name) => _ = self.names.insert(name.clone(), number),
            _ => self.globs.push(number),
        }
        self.patterns.push(parsed);
        Ok(())
    }

    /// What the list says of the entries of a directory with these components, of which `inherited` was the last match.
    pub(crate) fn here(&self, directory: &[&[u8]], inherited: LastMatch) -> Here {
        let fits = |&number: &u32| inherited < Some(number) && covers(&self.patterns[number as usize].head, directory);
        Here { inherited, armed: self.paths.iter().copied().filter(fits).collect() }
    }

    /// The last match of a whole path, found from the root on.
    pub(crate) fn last_match_of(&self, components: &[&[u8]]) -> LastMatch {
        let mut last = None;
        for (depth, name) in components.iter().enumerate() {
            last = self.last_match(&self.here(&components[..depth], last), name);
        }
        last
    }

    /// The last match of an entry.
    pub(crate) fn last_match(&self, here: &Here, name: &[u8]) -> LastMatch {
        let mut last = here.inherited.max(self.names.get(name).copied());
        for numbers in [&self.globs, &here.armed] {
            let later = numbers.iter().rev().copied().take_while(|&number| last < Some(number));
            last = last.max(later.into_iter().find(|&number| self.patterns[number as usize].last.matches(name)));
        }
        last
    }

    /// Whether something below a directory with these components may be what the list is about, though the directory is not.
    /// Not always right when it says yes.
    pub(crate) fn may_select_below(&self, directory: &[&[u8]]) -> bool {
        self.patterns.iter().any(|pattern| !pattern.negated && pattern.may_fit_below(directory))
    }

    /// The names of what is in a directory with these components and may be what the list is about, or have such in it, though the directory is
    /// not what it is about; nothing if that may be any name.
    pub(crate) fn names_below(&self, directory: &[&[u8]]) -> Option<Vec<Name>> {
        let patterns = self.patterns.iter().filter(|pattern| !pattern.negated && pattern.may_fit_below(directory));
        let names = patterns.map(|pattern| match pattern.glob_at(directory.len())? {
            Glob::Literal(name) => Name::new(name.clone()).ok(),
            _ => None,
        });
        names.collect()
    }

    /// Whether a path with this last match is one the list is about.
    pub(crate) fn selects(&self, last: LastMatch) -> bool {
        last.is_some_and(|number| !self.patterns[number as usize].negated)
    }
}

impl PathPattern {
    fn parse(pattern: &[u8]) -> Result<Self, &'static str> {
        let (negated, text) = match pattern.strip_prefix(b"!") {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        let cleaned = path::clean(text);
        let mut head = Vec::new();
        if !cleaned.starts_with(b"/") {
            head.push(Part::Any);
        }
        for part in cleaned.split(|&byte| byte == b'/').filter(|part| !part.is_empty()) {
            match part {
                b"**" if head.last() == Some(&Part::Any) => {}
                b"**" => head.push(Part::Any),
                _ => head.push(Part::One(Glob::compile(part)?)),
            }
        }
        // "x/**" says no more than "x", for what is below belongs to it anyway.
        if head.last() == Some(&Part::Any) {
            head.pop();
        }
        let last = match head.pop() {
            Some(Part::One(last)) => last,
            Some(Part::Any) | None => {
                head = vec![Part::Any];
                Glob::Any
            }
        };
        Ok(Self { negated, head, last })
    }

    fn may_fit_below(&self, directory: &[&[u8]]) -> bool {
        for (at, component) in directory.iter().enumerate() {
            match self.head.get(at) {
                Some(Part::One(glob)) if glob.matches(component) => {}
                Some(Part::Any) => return true,
                Some(Part::One(_)) | None => return false,
            }
        }
        true
    }

    /// What the component at this depth must fit, if nothing before it may be any number of components.
    fn glob_at(&self, depth: usize) -> Option<&Glob> {
        match self.head.get(..=depth) {
            Some([before @ .., Part::One(glob)]) if !before.contains(&Part::Any) => Some(glob),
            Some(_) => None,
            None => (depth == self.head.len() && !self.head.contains(&Part::Any)).then_some(&self.last),
        }
    }
}

/// Whether the parts fit all of the components. As with `*` in a name, only the last [`Part::Any`] needs trying further.
fn covers(parts: &[Part], components: &[&[u8]]) -> bool {
    let (mut part, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match (parts.get(part), components.get(at)) {
            (None, None) => return true,
            (Some(Part::Any), _) => {
                part += 1;
                retry = Some((part, at));
            }
            (Some(Part::One(glob)), Some(component)) if glob.matches(component) => {
                part += 1;
                at += 1;
            }
            _ => match retry {
                Some((after, from)) if from < components.len() => {
                    retry = Some((after, from + 1));
                    (part, at) = (after, from + 1);
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(patterns: &[&[u8]]) -> PatternList {
        let mut list = PatternList::default();
        for pattern in patterns {
            list.push(pattern).unwrap();
        }
        list
    }

    fn selects(patterns: &[&[u8]], path: &[u8]) -> bool {
        let list = list(patterns);
        list.selects(list.last_match_of(&path::components(path).collect::<Vec<_>>()))
    }

    #[test]
    fn single_patterns() {
        for (pattern, path, want) in [
            // Anywhere in the path, whole components only.
            ("foo", "/foo", true),
            ("foo", "/a/foo", true),
            ("foo", "/a/foo/b/c", true),
            ("foo", "/a/foobar", false),
            ("foo", "/a/xfoo", false),
            ("Foo", "/a/foo", false),
            ("*.o", "/src/main.o", true),
            ("*.o", "/src.o/main.c", true),
            ("*.o", "/src/main.c", false),
            ("*", "/anything", true),
            ("?", "/a/bc", true),
            ("?", "/ab/cd", false),
            ("foo/bar", "/foo/bar", true),
            ("foo/bar", "/x/foo/bar/y", true),
            ("foo/bar", "/foo/x/bar", false),
            ("foo/bar", "/foo", false),
            ("foo/*", "/x/foo", false),
            ("foo/*", "/x/foo/y", true),
            ("fo*/b?r", "/x/foo/bar", true),
            ("volumes/data/cache", "/srv/volumes/data/cache/x", true),
            // From the root on.
            ("/foo", "/foo", true),
            ("/foo", "/foo/bar", true),
            ("/foo", "/x/foo", false),
            ("/foo/*", "/foo", false),
            ("/foo/*", "/foo/bar", true),
            ("/foo/*/baz", "/foo/bar/baz/qux", true),
            ("/foo/*/baz", "/foo/baz", false),
            ("/*/baz", "/x/baz", true),
            ("/*/baz", "/x/y/baz", false),
            ("/srv/x/Library/Application Support/*", "/srv/x/Library/Application Support/Cache", true),
            ("/", "/foo", true),
            // Any number of components.
            ("**", "/foo", true),
            ("**/foo", "/a/b/foo", true),
            ("**/foo", "/foo", true),
            ("foo/**", "/a/foo", true),
            ("foo/**", "/a/foo/b", true),
            ("foo/**/bar", "/foo/bar", true),
            ("foo/**/bar", "/foo/x/y/bar", true),
            ("foo/**/bar", "/foo/x/y/baz", false),
            ("foo/**/bar", "/bar/foo", false),
            ("foo/**/bar/*.go", "/home/user/foo/work/special/project/bar/test.go", true),
            ("foo/**/bar/*.go", "/foo/bar/baz/bar/test.go", true),
            ("foo/**/bar/**/x", "/home/foo/bar/x", true),
            ("foo/**/bar/**/x", "/foo/bla/blaz/bar/shared/work/x", true),
            ("user/**/hidden*/**/c", "/home/user/work/x/hidden/z/a/b/c", true),
            ("user/**/important*", "/home/user/work/hidden/x", false),
            ("/foo/**/qux", "/foo/bar/baz/qux", true),
            ("/foo/**/qux", "/x/foo/qux", false),
            ("/**/qux", "/a/b/qux", true),
            ("**/**/qux", "/qux", true),
            ("a**b", "/axyb", true),
            ("a**b", "/a/b", false),
            ("volumes/data/**/dovecot.index*", "/srv/volumes/data/u1/m/dovecot.index.log", true),
            // Cleaned first; escapes; classes.
            ("foo/", "/x/foo", true),
            ("/foo/", "/foo/bar", true),
            ("foo///bar", "/foo/bar", true),
            ("./foo", "/x/foo", true),
            ("/foo/../bar", "/bar", true),
            ("/foo/../bar", "/foo", false),
            ("../foo", "/foo", false),
            ("foo\\*", "/foo*", true),
            ("foo\\*", "/foox", false),
            ("[fb]oo", "/x/boo", true),
            ("[^f]oo", "/x/foo", false),
            ("[a-c]/d", "/b/d", true),
            ("\\!foo", "/!foo", true),
            ("with space", "/a/with space/b", true),
        ] {
            assert_eq!(selects(&[pattern.as_bytes()], path.as_bytes()), want, "{pattern} {path}");
        }
        assert!(selects(&[b"a\xff"], b"/x/a\xff"));
        assert!(selects(&[b"a?c"], b"/x/a\xffc"));
        assert!(!selects(&[b"a\xff"], b"/x/a\xfe"));
    }

    #[test]
    fn lists_with_negation() {
        for (patterns, path, want) in [
            (&["*.go", "!main.go"][..], "/x/main.go", false),
            (&["*.go", "!main.go"], "/x/other.go", true),
            (&["!main.go", "*.go"], "/x/main.go", true),
            (&["*.go", "!main.go", "main.go"], "/x/main.go", true),
            (&["v2/*", "!v2/keep"], "/v2/keep", false),
            (&["v2/*", "!v2/keep"], "/v2/keep/file", false),
            (&["v2/*", "!v2/keep"], "/v2/drop/file", true),
            (&["a", "!a/b"], "/a/b", false),
            (&["a", "!a/b"], "/a", true),
            (&["!a"], "/a", false),
            (&["", "b"], "/b", true),
            (&[], "/b", false),
            (&["/a/**", "!/a/**/*.txt", "secret.txt"], "/a/b/c.txt", false),
            (&["/a/**", "!/a/**/*.txt", "secret.txt"], "/a/b/secret.txt", true),
            (&["/a/**", "!/a/**/*.txt", "secret.txt"], "/a/b/c.bin", true),
            (&["data/**/dovecot.index*", "!data/**/dovecot.index.pvt*"], "/data/u/dovecot.index.pvt", false),
            (&["data/**/dovecot.index*", "!data/**/dovecot.index.pvt*"], "/data/u/dovecot.index.log", true),
        ] {
            let patterns: Vec<&[u8]> = patterns.iter().map(|pattern| pattern.as_bytes()).collect();
            assert_eq!(selects(&patterns, path.as_bytes()), want, "{patterns:?} {path}");
        }
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for pattern in ["[", "a/[b", "a\\", "[]a]", "x/**/["] {
            let error = PatternList::default().push(pattern.as_bytes()).unwrap_err();
            assert!(error.to_string().contains("malformed"), "{error}");
        }
    }

    /// Whether the parts fit the beginning of the path, with at least one component of it.
    fn runs(parts: &[&str], path: &[&str], taken: usize) -> bool {
        match parts.split_first() {
            None => taken > 0,
            Some((&"**", rest)) => (0..=path.len()).any(|skip| runs(rest, &path[skip..], taken + skip)),
            Some((part, rest)) => path.split_first().is_some_and(|(first, path)| {
                Glob::compile(part.as_bytes()).unwrap().matches(first.as_bytes()) && runs(rest, path, taken + 1)
            }),
        }
    }

    /// The meaning as restic's documentation and tests have it: `**` becomes any number of `*`, then every run of
    /// components is tried.
    fn plainly(pattern: &str, path: &[&str]) -> bool {
        let cleaned = String::from_utf8(path::clean(pattern.as_bytes())).unwrap();
        let anchored = cleaned.starts_with('/');
        let parts: Vec<&str> = cleaned.split('/').filter(|part| !part.is_empty()).collect();
        (0..if anchored { 1 } else { path.len() }).any(|from| runs(&parts, &path[from..], 0))
    }

    proptest! {
        #[test]
        fn the_compiled_list_means_the_same(
            patterns in proptest::collection::vec("(!)?/?(a|b|ab|\\*|a\\*|\\*\\*|\\?)(/(a|b|\\*|\\*b|\\*\\*)){0,3}", 1..6),
            path in proptest::collection::vec("a|b|ab|ba", 1..6),
        ) {
            let components: Vec<&str> = path.iter().map(String::as_str).collect();
            let mut want = false;
            for pattern in &patterns {
                match pattern.strip_prefix('!') {
                    Some(rest) => want &= !plainly(rest, &components),
                    None => want |= plainly(pattern, &components),
                }
            }
            let patterns: Vec<&[u8]> = patterns.iter().map(String::as_bytes).collect();
            let path = format!("/{}", path.join("/"));
            prop_assert_eq!(selects(&patterns, path.as_bytes()), want);
        }
    }
}
