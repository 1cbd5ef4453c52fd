//! Packs: many blobs of one kind in frames, with a sealed directory (`docs/format.md` section 8).

pub mod builder;
pub mod directory;
pub mod reader;
