//! Test stores.
