//! What several integration tests share.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "every test uses a part of it, and ends where it cannot go on"
)]

pub mod bench;
pub mod beside;
pub mod checkpoints;
pub mod compare;
pub mod late;
pub mod memory_blobs;
pub mod model;
pub mod prune_stage;
pub mod sample;
pub mod snapshot_of;
