//! Repair: making the index say again what the packs say themselves, and taking damaged packs out of use.
//!
//! Both run beside backups, prunes and readers. Neither takes anything away that is needed: an index run goes only after one that names
//! the same packs is there, and a pack that is taken out of use is a pack that a prune has condemned (`docs/protocol.md`).

mod index;
mod packs;
mod runs;

pub use index::{IndexOptions, IndexReport, index};
pub use packs::{PacksReport, packs};
