//! A restore that dies, runs out of space or is stopped at any operation goes on when it is run again.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    fs, io,
    sync::atomic::{AtomicU64, Ordering},
};

use common::{
    compare::{CompareOptions, assert_same_tree, differences},
    sample::{Stage, small_windows},
};
use repo_core::{
    error::{Error, Result as CoreResult},
    progress::{Cancel, Silent},
    restore::{Everything, Overwrite, RestoreOptions, RestoreReport, restore},
    sink::{
        Attributes, Existing, Identity, Sink, SinkError, Special,
        local::{LocalDirectory, LocalFile, LocalSink},
    },
    tree::{name::Name, node::Mode},
};

type Result<T> = std::result::Result<T, SinkError>;

/// What happens at the n-th change of the target.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// The process dies: from then on nothing is changed any more.
    Death,
    /// The disk is full: nothing can be made or written any more, but removed.
    Full,
    /// The user asks to stop.
    Stop,
}

/// A local sink in which something happens at the n-th change.
struct Faulty {
    inner: LocalSink,
    fault: Fault,
    left: AtomicU64,
    cancel: Cancel,
}

impl Faulty {
    fn change(&self, during: &'static str, takes_space: bool) -> Result<()> {
        let left = self.left.load(Ordering::SeqCst);
        self.left.store(left.saturating_sub(1), Ordering::SeqCst);
        match self.fault {
            _ if left > 0 => Ok(()),
            Fault::Death => Err(SinkError::new(during, io::Error::other("the process is dead"))),
            Fault::Full if takes_space => Err(SinkError::new(during, io::ErrorKind::StorageFull)),
            Fault::Full => Ok(()),
            Fault::Stop => {
                self.cancel.cancel();
                Ok(())
            }
        }
    }
}

impl Sink for Faulty {
    type Directory = LocalDirectory;
    type File = LocalFile;

    fn open_root(&self) -> Result<Option<LocalDirectory>> {
        self.inner.open_root()
    }
    fn make_root(&self) -> Result<LocalDirectory> {
        self.inner.make_root()
    }
    fn names(&self, directory: &LocalDirectory) -> Result<Vec<Name>> {
        self.inner.names(directory)
    }
    fn stat(&self, directory: &LocalDirectory, name: &Name) -> Result<Option<Existing>> {
        self.inner.stat(directory, name)
    }
    fn open_directory(&self, parent: &LocalDirectory, name: &Name, same_device: bool) -> Result<LocalDirectory> {
        self.inner.open_directory(parent, name, same_device)
    }
    fn make_directory(&self, parent: &LocalDirectory, name: &Name) -> Result<LocalDirectory> {
        self.change("make the directory", true)?;
        self.inner.make_directory(parent, name)
    }
    fn unlock_directory(&self, directory: &LocalDirectory) {
        if self.change("unlock the directory", false).is_ok() {
            self.inner.unlock_directory(directory);
        }
    }
    fn finish_directory(&self, directory: &LocalDirectory, attributes: &Attributes) -> Vec<SinkError> {
        match self.change("finish the directory", false) {
            Ok(()) => self.inner.finish_directory(directory, attributes),
            Err(error) => vec![error],
        }
    }
    fn create(&self, directory: &LocalDirectory, name: &Name, mode: Mode) -> Result<LocalFile> {
        self.change("create the file", true)?;
        self.inner.create(directory, name, mode)
    }
    fn open(&self, directory: &LocalDirectory, name: &Name, identity: Identity, write: bool) -> Result<LocalFile> {
        self.inner.open(directory, name, identity, write)
    }
    fn identity(&self, file: &LocalFile) -> Result<Identity> {
        self.inner.identity(file)
    }
    fn read_at(&self, file: &LocalFile, offset_bytes: u64, into: &mut [u8]) -> Result<usize> {
        self.inner.read_at(file, offset_bytes, into)
    }
    fn write_at(&self, file: &LocalFile, offset_bytes: u64, bytes: &[u8]) -> Result<()> {
        if let Err(error) = self.change("write the file", true) {
            // A write may be cut short.
            let _ = self.inner.write_at(file, offset_bytes, &bytes[..bytes.len() / 2]);
            return Err(error);
        }
        self.inner.write_at(file, offset_bytes, bytes)
    }
    fn set_length(&self, file: &LocalFile, length_bytes: u64) -> Result<()> {
        self.change("set the length", true)?;
        self.inner.set_length(file, length_bytes)
    }
    fn is_hole(&self, file: &LocalFile, offset_bytes: u64, length_bytes: u64) -> Result<bool> {
        self.inner.is_hole(file, offset_bytes, length_bytes)
    }
    fn make_hole(&self, file: &LocalFile, offset_bytes: u64, length_bytes: u64) -> Result<()> {
        self.change("make a hole", true)?;
        self.inner.make_hole(file, offset_bytes, length_bytes)
    }
    fn has_attributes(&self, file: &LocalFile, attributes: &Attributes) -> Result<bool> {
        self.inner.has_attributes(file, attributes)
    }
    fn finish_file(&self, file: LocalFile, attributes: &Attributes) -> Vec<SinkError> {
        match self.change("finish the file", false) {
            Ok(()) => self.inner.finish_file(file, attributes),
            Err(error) => vec![error],
        }
    }
    fn link_target(&self, directory: &LocalDirectory, name: &Name) -> Result<Vec<u8>> {
        self.inner.link_target(directory, name)
    }
    fn make_special(
        &self,
        directory: &LocalDirectory,
        name: &Name,
        special: &Special<'_>,
        attributes: &Attributes,
    ) -> Result<Option<(Identity, Vec<SinkError>)>> {
        self.change("make the link or device", true)?;
        self.inner.make_special(directory, name, special, attributes)
    }
    fn link(&self, from: (&LocalDirectory, &Name), identity: Identity, to: (&LocalDirectory, &Name)) -> Result<()> {
        self.change("link", true)?;
        self.inner.link(from, identity, to)
    }
    fn rename(&self, directory: &LocalDirectory, from: &Name, to: &Name, replace: bool) -> Result<()> {
        self.change("rename", false)?;
        self.inner.rename(directory, from, to, replace)
    }
    fn remove(&self, directory: &LocalDirectory, name: &Name) -> Result<()> {
        self.change("remove", false)?;
        self.inner.remove(directory, name)
    }
    fn remove_directory(&self, directory: &LocalDirectory, name: &Name) -> Result<()> {
        self.change("remove", false)?;
        self.inner.remove_directory(directory, name)
    }
    fn sync(&self, root: &LocalDirectory) -> Result<()> {
        self.inner.sync(root)
    }
    fn notes(&self) -> Vec<String> {
        self.inner.notes()
    }
}

fn run(stage: &Stage, fault: Fault, after: u64, options: &RestoreOptions) -> CoreResult<RestoreReport> {
    let cancel = Cancel::default();
    let faulty = Faulty { inner: stage.sink(), fault, left: AtomicU64::new(after), cancel: cancel.clone() };
    restore(&stage.blobs, &stage.tree, &faulty, &Everything, options, &Silent, &cancel)
}

/// Runs with a fault at the n-th change, for every `step`-th n, until a run comes through without meeting it.
fn sweep(fault: Fault, step: usize, options: &RestoreOptions, check: impl Fn(&Stage, u64, CoreResult<RestoreReport>)) {
    let stage = Stage::sample();
    for after in (0..).step_by(step) {
        if stage.target.exists() {
            fs::remove_dir_all(&stage.target).unwrap();
        }
        // The first n changes go well; is there a change after them?
        let result = run(&stage, fault, after, options);
        let came_through = matches!(&result, Ok(report) if report.problem_count == 0);
        check(&stage, after, result);
        if came_through {
            assert!(after > 200, "the sample takes more changes than {after}");
            return;
        }
    }
}

#[test]
fn the_next_run_goes_on_where_any_death_was() {
    let plain = RestoreOptions { threads: 2, ..RestoreOptions::default() };
    for (overwrite, base, step) in [
        (Overwrite::Always, plain.clone(), 1),
        (Overwrite::Always, small_windows(), 5),
        (Overwrite::IfChanged, plain, 3),
        (Overwrite::IfChanged, small_windows(), 7),
    ] {
        let options = RestoreOptions { overwrite, ..base };
        sweep(Fault::Death, step, &options, |stage, after, _| {
            let report = stage.restore(&options);
            let left = differences(&stage.source, &stage.target, &CompareOptions::default());
            assert!(left.is_empty(), "after {after}, {overwrite:?}: {left:#?} {report:#?}");
        });
    }
}

#[test]
fn rules_that_trust_names_never_see_half_a_file() {
    for overwrite in [Overwrite::IfNewer, Overwrite::Never] {
        let options = RestoreOptions { overwrite, threads: 2, ..RestoreOptions::default() };
        sweep(Fault::Death, 5, &options, |stage, after, _| {
            stage.restore(&options);
            // Directories, links and pipes that were made before keep what they got; files must be whole.
            for line in differences(&stage.source, &stage.target, &CompareOptions::default()) {
                let path = stage.source.join(line.split(": ").next().unwrap_or_default());
                let is_file = fs::symlink_metadata(&path).is_ok_and(|found| found.is_file());
                // The staging name of a file that was finished under another name since is left over.
                assert!(!is_file || line.contains("only in"), "after {after}, {overwrite:?}: {line}");
                assert!(!line.contains("only in") || line.contains(".coffer-restore"), "after {after}: {line}");
            }
        });
    }
}

#[test]
fn a_full_disk_ends_the_restore_with_one_error() {
    let options = RestoreOptions { threads: 2, ..RestoreOptions::default() };
    sweep(Fault::Full, 3, &options, |stage, after, result| {
        match result {
            Err(Error::Io { source, path, .. }) => {
                assert_eq!(source.kind(), io::ErrorKind::StorageFull);
                assert!(!path.is_empty());
            }
            Err(error) => panic!("after {after}: {error:?}"),
            Ok(report) => assert_eq!(report.problem_count, 0, "after {after}: {:?}", report.problems),
        }
        stage.restore(&options);
        assert_same_tree(&stage.source, &stage.target, &CompareOptions::default());
    });
}

#[test]
fn stopping_at_any_change_ends_the_restore() {
    let stage = Stage::sample();
    for after in (0..250).step_by(7) {
        if stage.target.exists() {
            fs::remove_dir_all(&stage.target).unwrap();
        }
        let result = run(&stage, Fault::Stop, after, &RestoreOptions { threads: 2, ..RestoreOptions::default() });
        // Near the end there may be nothing left to stop.
        assert!(matches!(result, Err(Error::Cancelled)) || after > 150, "after {after}: {result:?}");
        let again = stage.restore(&RestoreOptions::default());
        assert_same_tree(&stage.source, &stage.target, &CompareOptions::default());
        drop(again);
    }
}
