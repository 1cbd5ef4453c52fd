//! The order in which a repository is written to, without locks (`docs/protocol.md`).
//!
//! Sans I/O: a machine says what to do next and is told what came of it. It reads no clock and touches no store, so that a model
//! checker and the real driver run the same code.

pub mod writer;
