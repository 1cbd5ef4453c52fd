//! Which entries the user's patterns ask for. They mean what they mean in a backup; the root they may be anchored at is
//! that of the tree that is restored.

use super::{Select, Selection};
use crate::{
    source::{BadPattern, exclude::lower_case, path, pattern::PatternList},
    tree::name::Name,
};

/// Patterns of what to restore and of what to leave out. Without any, everything is restored.
#[derive(Debug, Default)]
pub struct Rules {
    include: Lists,
    exclude: Lists,
}

/// Patterns as they are written, and those that take upper and lower case for one.
#[derive(Debug, Default)]
struct Lists {
    exact: PatternList,
    folded: PatternList,
}

impl Lists {
    fn push(&mut self, pattern: &[u8], ignore_case: bool) -> Result<(), BadPattern> {
        if ignore_case { self.folded.push(&lower_case(pattern)) } else { self.exact.push(pattern) }
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.folded.is_empty()
    }

    /// Whether one of the lists answers yes to the components, those for the second one in lower case.
    fn any(&self, components: &[&[u8]], ask: impl Fn(&PatternList, &[&[u8]]) -> bool) -> bool {
        if ask(&self.exact, components) {
            return true;
        }
        if self.folded.is_empty() {
            return false;
        }
        let folded: Vec<Vec<u8>> = components.iter().map(|component| lower_case(component)).collect();
        ask(&self.folded, &folded.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    fn selects(&self, components: &[&[u8]]) -> bool {
        self.any(components, |list, components| list.selects(list.last_match_of(components)))
    }

    fn may_select_below(&self, components: &[&[u8]]) -> bool {
        self.any(components, PatternList::may_select_below)
    }
}

impl Rules {
    /// Restores what matches `pattern` and is not excluded; with `!` before it, takes back what earlier ones said.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn include(&mut self, pattern: &[u8], ignore_case: bool) -> Result<(), BadPattern> {
        self.include.push(pattern, ignore_case)
    }

    /// Leaves out what matches `pattern`; with `!` before it, takes back what earlier ones said.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn exclude(&mut self, pattern: &[u8], ignore_case: bool) -> Result<(), BadPattern> {
        self.exclude.push(pattern, ignore_case)
    }

    /// Whether there is no pattern at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }
}

impl Select for Rules {
    fn select(&self, path: &[u8], is_directory: bool) -> Selection {
        let components: Vec<&[u8]> = path::components(path).collect();
        if self.exclude.selects(&components) {
            return Selection::NONE;
        }
        if self.include.is_empty() || self.include.selects(&components) {
            return Selection::ALL;
        }
        Selection { restore: false, descend: is_directory && self.include.may_select_below(&components) }
    }

    fn names_in(&self, directory: &[u8]) -> Option<Vec<Name>> {
        let components: Vec<&[u8]> = path::components(directory).collect();
        if self.include.is_empty() || self.include.selects(&components) || !self.include.folded.is_empty() {
            return None;
        }
        self.include.exact.names_below(&components)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(include: &[&str], exclude: &[&str]) -> Rules {
        let mut rules = Rules::default();
        for pattern in include {
            rules.include(pattern.as_bytes(), false).unwrap();
        }
        for pattern in exclude {
            rules.exclude(pattern.as_bytes(), false).unwrap();
        }
        rules
    }

    fn decided(rules: &Rules, path: &str) -> &'static str {
        match rules.select(path.as_bytes(), true) {
            Selection { restore: true, descend: true } => "all",
            Selection { restore: false, descend: true } => "look",
            Selection { restore: false, descend: false } => "none",
            Selection { .. } => "alone",
        }
    }

    #[test]
    fn patterns() {
        for (include, exclude, path, want) in [
            (&[][..], &[][..], "a/b", "all"),
            (&[], &["b"], "a", "all"),
            (&[], &["b"], "a/b", "none"),
            (&[], &["state/environment"], "state/environment", "none"),
            (&["x"], &[], "a", "look"),
            (&["x"], &[], "a/x", "all"),
            (&["x"], &[], "a/x/y", "all"),
            (&["/a/x"], &[], "a", "look"),
            (&["/a/x"], &[], "b", "none"),
            (&["/a/x"], &[], "a/y", "none"),
            (&["/a/x"], &[], "a/x", "all"),
            (&["/a/x"], &[], "b/a/x", "none"),
            (&["/a/**/x"], &[], "a/b/c", "look"),
            (&["/a/**/x"], &[], "a/b/c/x", "all"),
            (&["/*/x"], &[], "q", "look"),
            (&["/a/x"], &["a/x/y"], "a/x/y", "none"),
            (&["/a", "!/a/b"], &[], "a/b", "none"),
            (&["/a", "!/a/b", "/a/b/c"], &[], "a/b", "look"),
            (&["/a", "!/a/b", "/a/b/c"], &[], "a/b/c", "all"),
        ] {
            assert_eq!(decided(&rules(include, exclude), path), want, "{include:?} {exclude:?} {path}");
        }
        assert!(!rules(&["x"], &[]).select(b"a", false).descend);
    }

    #[test]
    fn names_that_may_be_asked_for() {
        for (include, exclude, directory, want) in [
            (&[][..], &[][..], "", None),
            (&[], &["b"], "", None),
            (&["x"], &[], "", None),
            (&["/a/x"], &[], "", Some(&["a"][..])),
            (&["/a/x", "/b", "/a/y"], &["z"], "", Some(&["a", "b", "a"])),
            (&["/a/x", "/b", "/a/y"], &["z"], "a", Some(&["x", "y"])),
            (&["/a/x", "!/a/z"], &[], "a", Some(&["x"])),
            (&["/a/x", "y"], &[], "a", None),
            (&["/a/x*"], &[], "a", None),
            (&["/a/x/**/y"], &[], "a", Some(&["x"])),
            (&["/a/x/**/y"], &[], "a/x", None),
            (&["/a/x/**/y"], &[], "a/x/b", None),
            (&["/a/x"], &[], "a/x", None),
            (&["/a/x"], &[], "a/x/b", None),
            (&["/a/x"], &[], "b", Some(&[])),
            (&["/*/x"], &[], "q", Some(&["x"])),
            (&["/a", "!/a/b", "/a/b/c"], &[], "a/b", Some(&["c"])),
        ] {
            let names = rules(include, exclude).names_in(directory.as_bytes());
            let names = names.map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>());
            let want = want.map(|want| want.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(names, want, "{include:?} {exclude:?} {directory}");
        }
        let mut folded = rules(&["/a/x"], &[]);
        folded.include(b"/A/Y", true).unwrap();
        assert_eq!(folded.names_in(b"a"), None);
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_selected_that_has_another_name(
            patterns in proptest::collection::vec("(!)?/?(a|b|ab|\\*|a\\*|\\*\\*)(/(a|b|\\*|\\*\\*)){0,3}", 1..4),
            directory in proptest::collection::vec("a|b|ab", 0..4),
            name in "a|b|ab|c",
        ) {
            let rules = rules(&patterns.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
            let directory = directory.join("/");
            let path = format!("{directory}/{name}");
            if let Some(names) = rules.names_in(directory.as_bytes())
                && rules.select(path.as_bytes(), true) != Selection::NONE
            {
                proptest::prop_assert!(names.iter().any(|other| other.as_bytes() == name.as_bytes()));
            }
        }
    }

    #[test]
    fn case_is_ignored_where_that_was_asked_for() {
        let mut rules = Rules::default();
        rules.include("/ÄB/*.JPG".as_bytes(), true).unwrap();
        rules.exclude(b"Bad", true).unwrap();
        assert_eq!(decided(&rules, "äb"), "look");
        assert_eq!(decided(&rules, "äb/x.jpg"), "all");
        assert_eq!(decided(&rules, "äb/bad/x.jpg"), "none");
        assert_eq!(decided(&rules, "ab"), "none");
        assert!(rules.include(b"[", true).is_err());
    }
}
