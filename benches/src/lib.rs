//! What the measuring programs share: a bare walk over a directory, and a stopwatch for the stages of a backup.

pub mod stopwatch;
pub mod walk;
