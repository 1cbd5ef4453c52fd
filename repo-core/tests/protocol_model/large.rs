//! Searches that take minutes.
