//! The protocol (`docs/protocol.md`), searched exhaustively in a model.
//!
//! The machines are those of `repo_core::protocol`, as the real drivers use them; what is modelled is the store, and what a driver
//! remembers. The searches that take minutes run with
//!
//! ```text
//! cargo test -p repo-core --test protocol_model -- --ignored --nocapture --test-threads 1
//! ```

mod cleaner;
mod config;
mod epilogue;
mod model;
mod process;
mod pruner;
mod search;
mod world;
mod writer;

mod large;
mod mutations;
mod small;
