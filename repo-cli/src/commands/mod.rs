//! One file per command: its flags with their help, and one function.

pub(crate) mod backup;
pub(crate) mod cat;
pub(crate) mod check;
pub(crate) mod completions;
//DUMP
pub(crate) mod init;
pub(crate) mod key;
pub(crate) mod ls;
pub(crate) mod man;
pub(crate) mod restore;
pub(crate) mod snapshots;
//STATS
pub(crate) mod version;
