//! coffer's core: a content-addressed, deduplicating, encrypted backup repository.
//!
//! The layers, lower ones knowing nothing of higher ones, are described in `docs/architecture.md` and held by a test.

pub mod backup;
pub mod blob;
pub mod cache;
pub mod check;
pub mod chunker;
pub mod codec;
pub mod compress;
pub mod copy;
pub mod crypto;
pub mod doctor;
pub mod dump;
pub mod edit;
pub mod envelope;
pub mod error;
pub mod forget;
pub mod id;
pub mod index;
pub mod limits;
pub mod pack;
pub mod parallel;
pub mod progress;
pub mod protocol;
pub mod prune;
pub mod repair;
pub mod repository;
pub mod restore;
pub mod retention;
pub mod runtime;
pub mod sink;
pub mod snapshot;
pub mod source;
pub mod stats;
pub mod status;
pub mod store;
pub mod time;
pub mod tree;
