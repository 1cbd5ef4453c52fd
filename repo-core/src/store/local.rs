//! Local folder.
