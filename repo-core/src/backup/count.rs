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
