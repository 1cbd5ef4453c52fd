//! Planning regular files.

use std::sync::Arc;

use super::{First, Planner, Spot};
use crate::{
    blob::BlobKind,
    error::Error,
    progress::Outcome,
    restore::{
        compare::WHOLE_BYTES_MAX,
        directory::Directory,
        file::{File, Method, Wanted, trusts_names},
        report::add,
    },
    sink::{Attributes, Existing, ExistingKind, Sink},
    tree::{
        content::Pieces,
        name::Name,
        node::{Content, Entry, Piece},
    },
};

impl<S: Sink> Planner<'_, S> {
    pub(super) fn file(&mut self, entry: &Entry, listed: bool, size_bytes: u64, content: &Content) {
        self.found(size_bytes);
        let (directory, existing) = match self.spot(&entry.name, listed) {
            Spot::In(directory, existing) => (directory, existing),
            Spot::Absent => return self.foretell_new(entry, size_bytes, content),
            Spot::None => return self.context.progress.done(1, size_bytes),
        };
        let attributes = Attributes::of(&entry.node.metadata);
        if self.keeps(&directory, entry, existing.as_ref(), ExistingKind::File, size_bytes, &attributes) {
            self.context.exempt_from_verification(|| directory.path_of(&entry.name));
            self.begin_group_if_same(&directory, entry, existing.as_ref());
            return self.context.progress.done(1, size_bytes);
        }
        if self.joins_group(&directory, entry, existing) {
            return self.context.progress.done(0, size_bytes);
        }
        let Some((method, compared)) = self.method(&directory, &entry.name, existing, size_bytes) else {
            return self.context.progress.done(1, size_bytes);
        };
        let links = entry.node.metadata.hard_links;
        let name = entry.name.clone();
        let is_linked = links.is_some();
        let wanted = Wanted { directory, name, attributes, size_bytes, is_linked };
        let file = Arc::new(File::new(wanted, method, compared));
        self.begin_group(entry, First::File(Arc::clone(&file)));
        self.pieces(&file, content);
    }

    /// How a file's bytes will come under its name, and the file they are compared with. `None` when something is in the
    /// way, which is told.
    fn method(
        &self,
        directory: &Directory<S>,
        name: &Name,
        existing: Option<Existing>,
        size_bytes: u64,
    ) -> Option<(Method, Option<Existing>)> {
        let sink = self.context.sink;
        let fresh = if trusts_names(self.context.options.overwrite) {
            Method::Staged { replace: false }
        } else {
            Method::Direct
        };
        let Some(existing) = existing else { return Some((fresh, None)) };
        Some(match existing.kind {
            ExistingKind::Directory => {
                if !self.clear_directory(directory, name) {
                    return None;
                }
                (fresh, None)
            }
            ExistingKind::File if size_bytes <= WHOLE_BYTES_MAX => (Method::InPlace, Some(existing)),
            ExistingKind::File
                if existing.links == 1
                    && sink.open(&directory.handle, name, existing.identity, !self.context.options.dry_run).is_ok() =>
            {
                (Method::InPlace, Some(existing))
            }
            _ => (Method::Staged { replace: true }, None),
        })
    }

    /// Plans the pieces of a file.
    fn pieces(&mut self, file: &Arc<File<S>>, content: &Content) {
        self.window.add_file(Arc::clone(file));
        let mut offset_bytes = 0;
        for piece in Pieces::new(self.context.blobs, content, file.size_bytes) {
            // Before a piece rather than behind one: the window with the last piece also ends the file.
            if self.is_full() {
                if file.method() == Method::InPlace && file.size_bytes <= WHOLE_BYTES_MAX {
                    // It can be compared only as a whole. A small file of so many pieces is odd enough to be replaced.
                    file.set_method(Method::Staged { replace: true });
                }
                self.flush();
                self.window.add_file(Arc::clone(file));
            }
            let is_compared = file.method() == Method::InPlace;
            match piece {
                Ok(Piece::Data { blob, length_bytes }) => self.window.add_piece(blob, offset_bytes, length_bytes),
                Ok(Piece::Hole { length_bytes }) if is_compared => self.window.add_hole(offset_bytes, length_bytes),
                Ok(Piece::Hole { length_bytes }) => self.context.progress.done(0, length_bytes),
                Err(error) => {
                    if let Err(error) = self.context.give_up_on(error) {
                        file.fail(error.chain());
                    }
                    break;
                }
            }
            offset_bytes += piece.map_or(0, |piece| piece.length_bytes());
        }
        self.window.end_file();
        if self.is_full() {
            self.flush();
        }
    }

    /// In a dry run, what would become of a file of which not even the directory is there.
    fn foretell_new(&mut self, entry: &Entry, size_bytes: u64, pieces: &Content) {
        let context = self.context;
        let window = &mut self.window;
        let missing = Pieces::new(context.blobs, pieces, size_bytes).find_map(|piece| match piece {
            Ok(Piece::Data { blob, .. }) => match context.blobs.locate(BlobKind::Data, &blob) {
                Ok(Some(location)) => {
                    window.foresee(location.frame);
                    None
                }
                Ok(None) => Some(Error::MissingBlob { kind: BlobKind::Data, id: blob }),
                Err(error) => Some(error),
            },
            Ok(_) => None,
            Err(error) => Some(error),
        });
        let path = || self.path_of(&entry.name);
        if let Some(error) = missing {
            context.failed(path(), "restore", format!("{}; it cannot be restored", error.chain()));
        } else {
            add(&context.tally.bytes_written, size_bytes);
            context.item(Outcome::New, size_bytes, path);
        }
        context.progress.done(1, size_bytes);
        if self.is_full() {
            self.flush();
        }
    }
}
