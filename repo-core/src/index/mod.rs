//! The index: which pack holds a blob (`docs/format.md` section 9).
//!
//! An index run is immutable: fixed-width tables sorted by blob id, cut into sealed pages. The plain tables are the same bytes in a
//! run, in memory and in a mapped cache file, and looking a blob up costs no heap.
//!
//! The index is only ever a hint for *where*; the authority is the pack's own directory.

pub mod builder;
pub mod cached;
pub mod digest;
mod load;
pub mod lookup;
pub mod paged;
pub mod run;
pub mod set;
pub mod table;
