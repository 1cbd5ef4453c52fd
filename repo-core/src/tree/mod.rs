//! Directories as they are stored: names, nodes, pages, and walking them.

pub mod name;
pub mod node;
