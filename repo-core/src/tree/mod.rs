//! Directories and piece lists as they are stored, and walking them (`docs/format.md` section 7).

pub mod content;
pub mod directory;
pub mod name;
pub mod node;
mod page;
pub mod visit;
pub mod walk;

pub use page::{EntryPage, PiecePage, TreeBlob};

#[cfg(test)]
mod tests;
