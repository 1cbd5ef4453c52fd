//! What the user wants backed up, put together to one tree: which directories are taken whole, and which are only passed
//! on the way to something.

use std::{
    collections::{BTreeMap, HashSet},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    sync::Arc,
};

use crate::{
    error::{Error, Result},
    source::path,
    tree::name::{Name, escape},
};

/// Something to back up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Absolute, or relative to the working directory.
    pub path: PathBuf,
    /// Whether the user named just this; a rule never excludes it then (though it may exclude all that is in it).
    pub explicit: bool,
}

impl Target {
    /// Something the user named.
    pub fn named(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), explicit: true }
    }

    /// Something that a pattern of the user matches.
    pub fn matched(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), explicit: false }
    }
}

/// A place in the tree of targets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// Whether it is a target itself, hence taken whole.
    pub(super) is_target: bool,
    /// Whether the user named it.
    pub(super) is_explicit: bool,
    /// Targets in it, and what leads to them.
    pub(super) children: BTreeMap<Name, Arc<Node>>,
}

/// The targets that are stored relative to one directory: `/` for absolute ones, the working directory or one above it
/// for relative ones.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Base {
    /// Absolute path of that directory.
    pub(super) path: Vec<u8>,
    /// The tree below it.
    pub(super) tree: Arc<Node>,
}

/// All targets: their bases in the order in which they first came, and their absolute paths.
pub(super) struct Resolved {
    pub(super) bases: Vec<Base>,
    pub(super) paths: Vec<Vec<u8>>,
}

impl Node {
    /// Whether rules have no say about it: it was named, or something below it is wanted.
    pub(super) fn is_wanted(&self) -> bool {
        self.is_explicit || !self.children.is_empty()
    }

    fn add(&mut self, components: &[Name], explicit: bool) {
        if let Some((first, rest)) = components.split_first() {
            let child = self.children.entry(first.clone()).or_default();
            Arc::get_mut(child).expect("the tree is not shared while it is built").add(rest, explicit);
        } else {
            self.is_target = true;
            self.is_explicit |= explicit;
        }
    }
}

/// Sorts the targets out. Cleaned as text, as restic does: `..` does not look at links.
///
/// # Errors
/// When there is none, one cannot be a path, or the contents of two directories would both be the root.
pub(super) fn resolve(targets: &[Target], working_directory: &[u8]) -> Result<Resolved> {
    if targets.is_empty() {
        return Err(Error::Invalid("nothing to back up: name files or directories".into()));
    }
    if !working_directory.starts_with(b"/") {
        return Err(Error::Invalid("the working directory must be an absolute path".into()));
    }
    let mut bases: Vec<(Vec<u8>, Node)> = Vec::new();
    let mut paths = Vec::new();
    let mut seen = HashSet::new();
    for target in targets {
        let text = target.path.as_os_str().as_bytes();
        if text.is_empty() {
            return Err(Error::Invalid("one of the paths to back up is empty".into()));
        }
        let cleaned = path::clean(text);
        let (base, components) = split(&cleaned, working_directory)
            .map_err(|error| Error::Invalid(format!("cannot back up {}: {error}", escape(text))))?;
        let number = bases.iter().position(|(path, _)| *path == base).unwrap_or_else(|| {
            bases.push((base, Node::default()));
            bases.len() - 1
        });
        bases[number].1.add(&components, target.explicit);
        let absolute = path::join(working_directory, &cleaned);
        if seen.insert(absolute.clone()) {
            paths.push(absolute);
        }
    }
    let whole: Vec<_> = bases.iter().filter(|(_, tree)| tree.is_target).map(|(path, _)| escape(path)).collect();
    if whole.len() > 1 {
        return Err(Error::Invalid(format!(
            "the contents of {} cannot all be the root of one snapshot: name them by their full paths, or entries of them",
            whole.join(" and ")
        )));
    }
    let bases = bases.into_iter().map(|(path, tree)| Base { path, tree: Arc::new(tree) }).collect();
    Ok(Resolved { bases, paths })
}

/// The directory a cleaned path is stored relative to, and the names from there on.
fn split(cleaned: &[u8], working_directory: &[u8]) -> Result<(Vec<u8>, Vec<Name>), crate::tree::name::NameError> {
    let mut components: Vec<&[u8]> = path::components(cleaned).collect();
    let base = if cleaned.starts_with(b"/") {
        b"/".to_vec()
    } else {
        let up = components.iter().take_while(|component| **component == b"..").count();
        let ups: Vec<&[u8]> = components.drain(..up).collect();
        path::join(working_directory, &ups.join(&b'/'))
    };
    let names = components.into_iter().map(Name::new).collect::<Result<_, _>>()?;
    Ok((base, names))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(node: &Node) -> String {
        let mark = match (node.is_target, node.is_explicit) {
            (false, _) => "",
            (true, false) => "+",
            (true, true) => "!",
        };
        let children: Vec<_> = node.children.iter().map(|(name, child)| format!("{name}{}", shape(child))).collect();
        if children.is_empty() { mark.to_owned() } else { format!("{mark}({})", children.join(" ")) }
    }

    fn resolved(targets: &[&str]) -> Result<Vec<String>> {
        let targets: Vec<_> = targets.iter().map(Target::named).collect();
        let resolved = resolve(&targets, b"/srv/here")?;
        Ok(resolved.bases.iter().map(|base| format!("{}{}", escape(&base.path), shape(&base.tree))).collect())
    }

    #[test]
    fn where_targets_are_stored() {
        for (targets, want) in [
            (&["/a/b/c"][..], &["/(a(b(c!)))"][..]),
            (&["sub/x", "./sub//y/"], &["/srv/here(sub(x! y!))"]),
            (&["."], &["/srv/here!"]),
            (&["/"], &["/!"]),
            (&[".."], &["/srv!"]),
            (&["../x"], &["/srv(x!)"]),
            (&["../../../x", "/y"], &["/(x! y!)"]),
            (&["/a", "/a/b", "/a"], &["/(a!(b!))"]),
            (&["a", "/a", "../a"], &["/srv/here(a!)", "/(a!)", "/srv(a!)"]),
            (&["x/../y"], &["/srv/here(y!)"]),
        ] {
            assert_eq!(resolved(targets).unwrap(), want, "{targets:?}");
        }
    }

    #[test]
    fn what_cannot_be() {
        assert!(resolved(&[]).is_err());
        assert!(resolved(&[""]).is_err());
        assert!(resolved(&[".", ".."]).is_err());
        assert!(resolved(&["a\0b"]).is_err());
        assert!(resolved(&[&"x".repeat(256)]).is_err());
    }

    #[test]
    fn what_a_pattern_found_is_not_explicit() {
        let targets = [Target::matched("a/b"), Target::named("a/c"), Target::matched("a/c")];
        let resolved = resolve(&targets, b"/").unwrap();
        assert_eq!(shape(&resolved.bases[0].tree), "(a(b+ c!))");
        assert_eq!(resolved.paths, [b"/a/b", b"/a/c"]);
    }
}
