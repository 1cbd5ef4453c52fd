//! Files and directories of this machine.

mod directory;
mod place;
mod reader;
mod stat;
mod targets;
mod xattr;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
};

use directory::LocalDirectory;
use rustix::fs::CWD;
pub use targets::Target;
use targets::{Base, Resolved};

use super::{Directory, FileReader, OwnerNames, Severity, Source, SourceError, Stat, exclude::ExcludeRules, owners};
use crate::{
    error::Result,
    tree::{
        name::{Name, escape},
        node::Xattr,
    },
};

/// How to go through the files of this machine.
#[derive(Debug)]
pub struct LocalOptions {
    /// What relative targets are relative to; an absolute path.
    pub working_directory: PathBuf,
    /// The targets as the user named them, before globs and lists. Without any, what is given as targets.
    pub named: Vec<String>,
    /// What to leave out.
    pub exclude: ExcludeRules,
    /// Whether to stay on the file system of each target: what is mounted in it is stored as an empty directory.
    pub one_file_system: bool,
}

impl LocalOptions {
    /// Everything, relative to a directory.
    pub fn new(working_directory: impl Into<PathBuf>) -> Self {
        Self {
            working_directory: working_directory.into(),
            named: Vec::new(),
            exclude: ExcludeRules::default(),
            one_file_system: false,
        }
    }
}

/// Targets on this machine, as one tree.
///
/// An absolute target `/a/b` is found at `a/b` of the tree, a relative one `x/y` at `x/y`, and the entries of `.` (or `..`)
/// are those of the root; directories on the way are there with their real metadata. Targets within others are no harm. If
/// an absolute and a relative target begin with the same name, the later one gets `-1` after it, as with restic.
pub struct LocalSource {
    shared: Arc<Shared>,
    bases: Vec<Base>,
    named: Vec<String>,
    paths: Vec<Vec<u8>>,
}

/// What all directories and files of a source have in common.
struct Shared {
    rules: ExcludeRules,
    one_file_system: bool,
    /// Who we are.
    user: u32,
    /// Whether reading somebody else's file without touching its access time was once refused.
    must_touch: AtomicBool,
    problems: Mutex<Vec<SourceError>>,
}

impl Shared {
    fn report(&self, problem: SourceError) {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).push(problem);
    }

    /// The attributes that were found; what is wrong with others is reported.
    fn xattrs(&self, (xattrs, problems): (Vec<Xattr>, Vec<io::Error>), path: impl Fn() -> Vec<u8>) -> Vec<Xattr> {
        for cause in problems {
            let during = "read extended attributes of";
            self.report(SourceError { during, path: path(), severity: Severity::Entry, cause });
        }
        xattrs
    }
}

impl LocalSource {
    /// A source of these targets.
    ///
    /// # Errors
    /// When there is no target, one cannot be a path, or several directories' contents would be the root.
    pub fn new(targets: &[Target], options: LocalOptions) -> Result<Self> {
        let Resolved { bases, paths } = targets::resolve(targets, options.working_directory.as_os_str().as_bytes())?;
        let mut named = options.named;
        if named.is_empty() {
            named = targets.iter().map(|target| escape(target.path.as_os_str().as_bytes()).into_owned()).collect();
        }
        let shared = Shared {
            rules: options.exclude,
            one_file_system: options.one_file_system,
            user: rustix::process::geteuid().as_raw(),
            must_touch: AtomicBool::new(false),
            problems: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared), bases, named, paths })
    }

    /// Fails when none of the targets is there: then this is a mistake, or something is not mounted.
    fn check_targets(&self) -> Result<(), SourceError> {
        let mut first_error = None;
        for path in &self.paths {
            match stat::stat_entry(CWD, path) {
                Ok(_) => return Ok(()),
                Err(error) => _ = first_error.get_or_insert((path, error)),
            }
        }
        first_error.map_or(Ok(()), |(path, error)| {
            Err(SourceError { during: "read", path: path.clone(), severity: Severity::Fatal, cause: error.into() })
        })
    }
}

impl Source for LocalSource {
    fn can_be_read_again(&self) -> bool {
        true
    }

    fn root(&self) -> Result<Arc<dyn Directory>, SourceError> {
        self.check_targets()?;
        let open = |base: &Base| LocalDirectory::open_base(&self.shared, &base.path, &base.tree);
        let main = self.bases.iter().position(|base| base.tree.is_target).unwrap_or(0);
        let root = open(&self.bases[main])?;
        if self.bases.len() == 1 {
            return Ok(Arc::new(root));
        }
        let mut merged = MergedRoot { root, others: BTreeMap::new() };
        let mut taken: BTreeSet<Name> = self.bases[main].tree.children.keys().cloned().collect();
        for (_, base) in self.bases.iter().enumerate().filter(|(number, _)| *number != main) {
            let directory = Arc::new(open(base)?);
            for name in base.tree.children.keys() {
                let is_taken = |candidate: &Name| {
                    taken.contains(candidate)
                        || self.bases[main].tree.is_target && merged.root.holds(candidate.as_bytes())
                };
                let free = free_name(name, is_taken).ok_or_else(|| {
                    let path = [&base.path, &b"/"[..], name.as_bytes()].concat();
                    let cause = io::Error::other("another target has the same name, and a longer one is too long");
                    SourceError { during: "store", path, severity: Severity::Fatal, cause }
                })?;
                taken.insert(free.clone());
                merged.others.insert(free, (Arc::clone(&directory), name.clone()));
            }
        }
        Ok(Arc::new(merged))
    }

    fn targets(&self) -> Vec<String> {
        self.named.clone()
    }

    fn paths(&self) -> Vec<String> {
        self.paths.iter().map(|path| escape(path).into_owned()).collect()
    }

    fn owner_names(&self, users: &[u32], groups: &[u32]) -> OwnerNames {
        owners::look_up(users, groups)
    }

    fn problems(&self) -> Vec<SourceError> {
        std::mem::take(&mut *self.shared.problems.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn finish(&self) -> Result<(), SourceError> {
        Ok(())
    }
}

/// `name`, or the first of `name-1`, `name-2`, … that is not taken.
fn free_name(name: &Name, is_taken: impl Fn(&Name) -> bool) -> Option<Name> {
    let mut candidate = name.clone();
    let mut suffix = 0_u64;
    while is_taken(&candidate) {
        suffix += 1;
        candidate = Name::new([name.as_bytes(), format!("-{suffix}").as_bytes()].concat()).ok()?;
    }
    Some(candidate)
}

/// A root with targets of several bases: one directory, and entries that are really somewhere else.
struct MergedRoot {
    root: LocalDirectory,
    /// Directories and real names of the others.
    others: BTreeMap<Name, (Arc<LocalDirectory>, Name)>,
}

impl MergedRoot {
    fn find<'a>(&'a self, name: &'a Name) -> (&'a LocalDirectory, &'a Name) {
        self.others.get(name).map_or((&self.root, name), |(directory, name)| (directory, name))
    }
}

impl Directory for MergedRoot {
    fn stat(&self) -> Stat {
        self.root.stat()
    }

    fn own_xattrs(&self) -> Result<Vec<Xattr>, SourceError> {
        self.root.own_xattrs()
    }

    fn names(&self) -> Result<Vec<Name>, SourceError> {
        let mut names = self.root.names()?;
        names.extend(self.others.keys().cloned());
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn entry(&self, name: &Name) -> Result<Option<Stat>, SourceError> {
        let (directory, name) = self.find(name);
        directory.entry(name)
    }

    fn directory(&self, name: &Name) -> Result<Arc<dyn Directory>, SourceError> {
        let (directory, name) = self.find(name);
        directory.directory(name)
    }

    fn file(&self, name: &Name, expected: &Stat) -> Result<Box<dyn FileReader>, SourceError> {
        let (directory, name) = self.find(name);
        directory.file(name, expected)
    }

    fn link_target(&self, name: &Name) -> Result<Vec<u8>, SourceError> {
        let (directory, name) = self.find(name);
        directory.link_target(name)
    }

    fn xattrs(&self, name: &Name) -> Result<Vec<Xattr>, SourceError> {
        let (directory, name) = self.find(name);
        directory.xattrs(name)
    }

    fn path_of(&self, name: &Name) -> Vec<u8> {
        let (directory, name) = self.find(name);
        directory.path_of(name)
    }
}
