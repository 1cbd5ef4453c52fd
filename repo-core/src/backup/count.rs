//! Counting what there is, for progress only.

use std::sync::Arc;

use crate::{
    progress::Progress,
    source::{Directory, FileType, Source},
};

/// Walks the source and tells `progress` how many files and bytes there are. What cannot be read is not counted; the backup itself
/// tells of it. Ends early when `stopped` says so.
pub(super) fn count(source: &dyn Source, progress: &dyn Progress, stopped: &dyn Fn() -> bool) {
    let Ok(root) = source.root() else { return };
    let mut directories: Vec<Arc<dyn Directory>> = vec![root];
    while let Some(directory) = directories.pop() {
        let Ok(names) = directory.names() else { continue };
        let (mut files, mut bytes) = (0, 0u64);
        for name in names {
            if stopped() {
                return;
            }
            match directory.entry(&name) {
                Ok(Some(stat)) if stat.file_type == FileType::Directory => {
                    directories.extend(directory.directory(&name));
                }
                Ok(Some(stat)) => {
                    files += 1;
                    bytes = bytes.saturating_add(stat.size_bytes);
                }
                Ok(None) | Err(_) => {}
            }
        }
        progress.found(files, bytes);
    }
    progress.found_all();
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::Path,
        sync::atomic::{AtomicU64, Ordering},
    };

    use super::*;
    use crate::source::local::{LocalOptions, LocalSource, Target};

    #[derive(Default)]
    struct Totals {
        files: AtomicU64,
        bytes: AtomicU64,
        ends: AtomicU64,
    }

    impl Progress for Totals {
        fn found(&self, files: u64, bytes: u64) {
            self.files.fetch_add(files, Ordering::Relaxed);
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }

        fn found_all(&self) {
            self.ends.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counted(path: &Path, stopped: bool) -> (u64, u64, u64) {
        let source = LocalSource::new(&[Target::named(path)], LocalOptions::new("/")).unwrap();
        let totals = Totals::default();
        count(&source, &totals, &|| stopped);
        (totals.files.into_inner(), totals.bytes.into_inner(), totals.ends.into_inner())
    }

    /// The end is told once, after everything was found; never when the backup has overtaken the count.
    #[test]
    fn the_end_of_the_scan_is_told() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("a"), "12345").unwrap();
        fs::write(folder.path().join("sub/b"), "123").unwrap();
        assert_eq!(counted(folder.path(), false), (2, 8, 1));
        assert_eq!(counted(folder.path(), true).2, 0);
    }
}
