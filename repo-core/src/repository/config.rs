//! The repository's config: what all readers and writers must agree on.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::{
    chunker::ChunkerParameters,
    error::{Damage, Error, Result},
    id::RepositoryId,
    limits,
    time::Timestamp,
};

/// The stored config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The repository's random name, the one in its key slots.
    pub repository: RepositoryId,
    /// When it was made.
    pub created: Timestamp,
    /// What all writers go by.
    pub parameters: Parameters,
    /// Names of features a program must know to read the repository. None in version 1.
    pub required_features: Vec<String>,
    /// Names of features a program must know to write to it; to read it, they do not matter. None in version 1.
    pub required_features_to_write: Vec<String>,
}

/// What all writers of a repository go by, so that they find each other's chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// Where files are cut.
    pub chunker: ChunkerParameters,
    /// Plain bytes after which a frame of data is closed.
    pub data_frame_bytes: u32,
    /// Plain bytes after which a frame of tree pages is closed.
    pub tree_frame_bytes: u32,
    /// Stored bytes a pack is filled up to.
    pub pack_bytes: u32,
}

impl Default for Parameters {
    fn default() -> Self {
        let number = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        Self {
            chunker: ChunkerParameters::default(),
            data_frame_bytes: number(limits::DATA_FRAME_BYTES),
            tree_frame_bytes: number(limits::TREE_FRAME_BYTES),
            pack_bytes: number(limits::PACK_BYTES),
        }
    }
}

impl Parameters {
    /// Small everything, so that a small repository has many of each.
    #[cfg(any(test, feature = "test-support"))]
    #[must_use]
    pub const fn tiny() -> Self {
        let chunker = ChunkerParameters { min_bytes: 256, average_bytes: 512, max_bytes: 1024, normalization: 2 };
        Self { chunker, data_frame_bytes: 2048, tree_frame_bytes: 1024, pack_bytes: 4096 }
    }

    /// # Errors
    /// A text that says which parameter is out of bounds.
    pub fn validate(&self) -> Result<(), String> {
        self.chunker.validate().map_err(|error| error.to_string())?;
        let frame_bytes_max = limits::FRAME_BYTES_MAX - limits::BLOB_BYTES_MAX;
        for (what, bytes, max_bytes) in [
            ("data frame", self.data_frame_bytes, frame_bytes_max as u64),
            ("tree frame", self.tree_frame_bytes, frame_bytes_max as u64),
            ("pack", self.pack_bytes, limits::PACK_BYTES_MAX / 2),
        ] {
            if !(1024..=max_bytes).contains(&u64::from(bytes)) {
                return Err(format!("a {what} size of {bytes} bytes is not between 1024 and {max_bytes}"));
            }
        }
        Ok(())
    }
}

/// The feature of a repository that cuts files with the gear table of another one; the table follows, in hexadecimal digits.
const GEAR_TABLE: &str = "gear-table:";

/// What cuts files: 256 numbers.
pub type GearTable = Box<[u64; 256]>;

impl Config {
    /// The gear table of another repository, if this one is to cut files as that one does.
    #[must_use]
    pub fn foreign_gear_table(&self) -> Option<GearTable> {
        self.required_features_to_write.iter().find_map(|feature| parse_gear_table(feature))
    }

    /// Cut files with this table.
    pub(super) fn set_gear_table(&mut self, table: &[u64; 256]) {
        let mut feature = GEAR_TABLE.to_owned();
        for number in table {
            let _ = write!(feature, "{number:016x}"); // a text takes everything
        }
        self.required_features_to_write.push(feature);
    }

    /// The config of a new repository.
    #[must_use]
    pub const fn new(repository: RepositoryId, created: Timestamp, parameters: Parameters) -> Self {
        Self { repository, created, parameters, required_features: Vec::new(), required_features_to_write: Vec::new() }
    }

    /// Holds what was read against bounds and against the key slot.
    pub(super) fn check(&self, repository: RepositoryId) -> Result<()> {
        if self.repository != repository {
            return Err(Damage::new("config", "it names another repository than the key").into());
        }
        if let Some(feature) = self.required_features.first() {
            return Err(Error::Invalid(format!(
                "the repository uses the feature \"{feature}\", which this program does not know; use a newer one"
            )));
        }
        self.parameters.validate().map_err(|reason| Damage::new("config", reason).into())
    }

    /// Whether this program knows all that is needed to write.
    pub(super) fn check_writable(&self) -> Result<()> {
        match self.required_features_to_write.iter().find(|feature| parse_gear_table(feature).is_none()) {
            None => Ok(()),
            Some(feature) => Err(Error::Invalid(format!(
                "writing to the repository needs the feature \"{feature}\", which this program does not know; it can be read; \
                 use a newer one to write"
            ))),
        }
    }
}

/// The table that a feature holds, if it is one that does.
fn parse_gear_table(feature: &str) -> Option<GearTable> {
    let digits = feature.strip_prefix(GEAR_TABLE)?;
    if digits.len() != 256 * 16 || !digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
        return None;
    }
    let mut table = Box::new([0; 256]);
    for (at, number) in table.iter_mut().enumerate() {
        *number = u64::from_str_radix(digits.get(at * 16..at * 16 + 16)?, 16).ok()?;
    }
    Some(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_gear_table_is_no_obstacle() {
        let mut config = Config::new(RepositoryId([1; 32]), Timestamp::default(), Parameters::default());
        assert!(config.foreign_gear_table().is_none());
        let table: [u64; 256] = std::array::from_fn(|at| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        config.set_gear_table(&table);
        assert_eq!(*config.foreign_gear_table().unwrap(), table);
        assert!(config.check_writable().is_ok());
        for bad in ["gear-table:", "gear-table:00", &format!("gear-table:{}", "+1234567".repeat(512))] {
            config.required_features_to_write = vec![bad.to_owned()];
            assert!(config.check_writable().is_err() && config.foreign_gear_table().is_none());
        }
    }

    #[test]
    fn features_to_write_do_not_keep_from_reading() {
        let id = RepositoryId([1; 32]);
        let mut config = Config::new(id, Timestamp::default(), Parameters::default());
        assert!(config.check(id).is_ok() && config.check_writable().is_ok());
        config.required_features_to_write.push("later".into());
        assert!(config.check(id).is_ok());
        let refused = config.check_writable().unwrap_err();
        assert!(matches!(&refused, Error::Invalid(text) if text.contains("\"later\"")), "{refused}");
        config.required_features.push("all".into());
        assert!(config.check(id).is_err());
    }
}
