//! How every stored object is built: a header in clear, everything else sealed (`docs/format.md` sections 5 and 6).
//!
//! Small objects are one sealed part ([`object`]); packs and index runs are many ([`container`]).

pub mod container;
pub mod header;
pub mod object;
pub mod padding;
