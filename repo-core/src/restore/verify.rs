//! Reads back what was restored and holds every piece against its id.

use super::{context::Context, report::add};
use crate::{
    blob::BlobKind,
    error::Result,
    id::BlobId,
    limits,
    parallel::for_each_with,
    sink::{ExistingKind, Sink, SinkError},
    tree::{
        content::Pieces,
        name::Name,
        node::{Content, NodeKind, Piece},
        walk::{Descend, Visit, walk_some},
    },
};

/// Pieces that one thread compares at a time, and that are planned before the threads begin.
const PIECES_PER_ITEM: usize = 1024;
const PIECES_PER_BATCH: usize = 256 << 10;

/// Consecutive pieces of a file in the target.
struct Item<S: Sink> {
    path: Vec<u8>,
    directory: S::Directory,
    name: Name,
    size_bytes: u64,
    offset_bytes: u64,
    pieces: Vec<Piece>,
}

/// Compares every selected file that was written or found equal with the snapshot.
///
/// # Errors
/// When everything has to stop.
pub(super) fn verify<S: Sink>(context: &Context<'_, S>, tree: &BlobId) -> Result<()> {
    let Ok(Some(root)) = context.sink.open_root() else { return Ok(()) };
    let mut directories = vec![Some(root)];
    let mut batch = Batch { context, items: Vec::new(), pieces: 0 };
    walk_some(context.blobs, tree, &|path| context.select.names_in(path), &mut |path, visit| {
        context.check()?;
        let entry = match visit {
            Visit::Entry(entry) => entry,
            Visit::Leave(_) => {
                directories.pop();
                return Ok(Descend::Past);
            }
            // The restore itself told of it.
            Visit::Unreadable(_) => return Ok(Descend::Past),
        };
        let selection = context.select.select(path, matches!(entry.node.kind, NodeKind::Directory { .. }));
        let here = directories.last().and_then(Option::as_ref);
        match &entry.node.kind {
            NodeKind::Directory { .. } if selection.restore || selection.descend => {
                if !context.is_verified(path) {
                    return Ok(Descend::Past);
                }
                let here = here.and_then(|here| context.sink.open_directory(here, &entry.name, false).ok());
                if here.is_none() && selection.restore {
                    context.problem(path.to_vec(), "verify", "the directory is not in the target");
                    return Ok(Descend::Past);
                }
                directories.push(here);
                return Ok(Descend::Into);
            }
            NodeKind::File { size_bytes, content } if selection.restore && context.is_verified(path) => match here {
                Some(here) => batch.add(path, here, &entry.name, *size_bytes, content)?,
                None => context.problem(path.to_vec(), "verify", "the file is not in the target"),
            },
            _ => {}
        }
        Ok(Descend::Past)
    })?;
    batch.run()?;
    context.check()
}

struct Batch<'a, S: Sink> {
    context: &'a Context<'a, S>,
    items: Vec<Item<S>>,
    pieces: usize,
}

impl<S: Sink> Batch<'_, S> {
    fn add(
        &mut self,
        path: &[u8],
        directory: &S::Directory,
        name: &Name,
        size_bytes: u64,
        content: &Content,
    ) -> Result<()> {
        let begin = |offset_bytes| Item {
            path: path.to_vec(),
            directory: directory.clone(),
            name: name.clone(),
            size_bytes,
            offset_bytes,
            pieces: Vec::new(),
        };
        let mut item = begin(0);
        let mut at = 0;
        for piece in Pieces::new(self.context.blobs, content, size_bytes) {
            // The restore itself told of what cannot be read.
            let Ok(piece) = piece else { return Ok(()) };
            item.pieces.push(piece);
            at += piece.length_bytes();
            if item.pieces.len() >= PIECES_PER_ITEM {
                self.push(std::mem::replace(&mut item, begin(at)))?;
            }
        }
        if !item.pieces.is_empty() || size_bytes == 0 {
            self.push(item)?;
        }
        Ok(())
    }

    fn push(&mut self, item: Item<S>) -> Result<()> {
        self.pieces += item.pieces.len() + 1;
        self.items.push(item);
        if self.pieces >= PIECES_PER_BATCH {
            self.run()?;
        }
        Ok(())
    }

    fn run(&mut self) -> Result<()> {
        self.pieces = 0;
        let (context, items) = (self.context, std::mem::take(&mut self.items));
        let work = |buffer: &mut Vec<u8>, item: &Item<S>| {
            context.check()?;
            verify_item(context, item, buffer);
            Ok(())
        };
        for_each_with(&items, context.options.thread_count(), Vec::new, work, |_| Ok(()))
    }
}

fn verify_item<S: Sink>(context: &Context<'_, S>, item: &Item<S>, buffer: &mut Vec<u8>) {
    match is_same(context, item, buffer) {
        Ok(true) => add(&context.tally.bytes_verified, item.pieces.iter().map(Piece::length_bytes).sum()),
        Ok(false) => context.problem(item.path.clone(), "verify", "what is in the target is not what the snapshot has"),
        Err(error) => context.problem(item.path.clone(), "verify", error.to_string()),
    }
}

fn is_same<S: Sink>(context: &Context<'_, S>, item: &Item<S>, buffer: &mut Vec<u8>) -> Result<bool, SinkError> {
    let sink = context.sink;
    let there = sink.stat(&item.directory, &item.name)?;
    let Some(there) = there.filter(|there| there.kind == ExistingKind::File && there.size_bytes == item.size_bytes)
    else {
        return Ok(false);
    };
    let file = sink.open(&item.directory, &item.name, there.identity, false)?;
    let mut at = item.offset_bytes;
    for piece in &item.pieces {
        let same = match piece {
            Piece::Data { blob, length_bytes } => {
                let length = (*length_bytes as usize).min(limits::BLOB_BYTES_MAX);
                buffer.resize(length, 0);
                sink.read_at(&file, at, buffer)? == length && context.blobs.blob_id(BlobKind::Data, buffer) == *blob
            }
            Piece::Hole { length_bytes } => sink.is_hole(&file, at, *length_bytes)?,
        };
        if !same {
            return Ok(false);
        }
        at += piece.length_bytes();
    }
    Ok(true)
}
