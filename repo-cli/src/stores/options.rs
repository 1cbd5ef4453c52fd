//! Settings of stores: `-o KEY=VALUE`.

use std::collections::BTreeMap;
#[cfg(any(feature = "tls", feature = "sftp"))]
use std::{fmt::Display, str::FromStr};

use crate::report::{Failure, Result};

/// All keys there are. Those of a store that is not used are no mistake: two repositories may be open at once.
const KEYS: [&str; 16] = [
    "b2.authority",
    "b2.connections",
    "opendal.config-file",
    "opendal.connections",
    "rest.connections",
    "s3.bucket-lookup",
    "s3.checksum",
    "s3.connections",
    "s3.credentials-file",
    "s3.list-objects-v1",
    "s3.region",
    "s3.storage-class",
    "s3.unsafe-anonymous-auth",
    "sftp.args",
    "sftp.command",
    "sftp.connections",
];

/// How the settings begin of services that only the store itself knows.
pub(super) const OPENDAL: &str = "opendal.";

/// The file with such settings.
#[cfg(feature = "services")]
pub(super) const OPENDAL_FILE: &str = "opendal.config-file";

/// Most requests at once.
const CONNECTIONS_MAX: usize = 256;

/// Settings of stores. Some are secret, and none is shown.
#[derive(Default)]
pub(super) struct Options {
    values: BTreeMap<String, String>,
    /// How many requests are to be in flight at once, whatever store it is; 0 if that was not said.
    connections: usize,
}

impl Options {
    pub(super) fn parse(flags: &[String], connections: Option<usize>) -> Result<Self> {
        let connections = valid("--connections", connections)?;
        let mut values = BTreeMap::new();
        for flag in flags {
            let Some((key, value)) = flag.split_once('=') else {
                return Err(Failure::usage(format!("-o {flag}: a setting is written KEY=VALUE")));
            };
            let key = key.trim().to_ascii_lowercase();
            if !KEYS.contains(&key.as_str()) && key.strip_prefix(OPENDAL).is_none_or(str::is_empty) {
                return Err(Failure::usage(format!("-o {key}: there is no such setting"))
                    .hint(format!("there are {}", KEYS.join(", "))));
            }
            if values.insert(key.clone(), value.to_owned()).is_some() {
                return Err(Failure::usage(format!("-o {key} is given twice")));
            }
        }
        Ok(Self { values, connections })
    }

    /// The value of a setting.
    #[cfg(any(feature = "tls", feature = "sftp"))]
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        debug_assert!(KEYS.contains(&key), "{key}");
        self.values.get(key).map(String::as_str)
    }

    /// The settings of services, without the prefix.
    #[cfg(feature = "services")]
    pub(super) fn of_opendal(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = self.values.iter().filter(|(key, _)| !KEYS.contains(&key.as_str()));
        own.filter_map(|(key, value)| Some((key.strip_prefix(OPENDAL)?, value.as_str())))
    }

    /// The value of a setting that is not text.
    #[cfg(any(feature = "tls", feature = "sftp"))]
    pub(super) fn parsed<T: FromStr<Err: Display>>(&self, key: &str) -> Result<Option<T>> {
        let value = self.get(key).map(str::parse::<T>);
        value.transpose().map_err(|error| Failure::usage(format!("-o {key} is not valid: {error}")))
    }

    /// A setting that is on or off.
    #[cfg(feature = "s3")]
    pub(super) fn switch(&self, key: &str) -> Result<bool> {
        Ok(self.parsed::<bool>(key)?.unwrap_or(false))
    }

    /// How many requests are to be in flight at once; 0 if that was not said. What is said of this kind of store counts before
    /// what is said of all.
    #[cfg(any(feature = "tls", feature = "sftp"))]
    pub(super) fn connections(&self, key: &str) -> Result<usize> {
        match self.parsed::<usize>(key)? {
            None => Ok(self.connections),
            number => valid(&format!("-o {key}"), number),
        }
    }

    /// What is said of all stores.
    pub(super) const fn all_connections(&self) -> usize {
        self.connections
    }
}

/// A number of connections; 0 if there is none.
fn valid(flag: &str, number: Option<usize>) -> Result<usize> {
    match number {
        Some(number) if !(1..=CONNECTIONS_MAX).contains(&number) => {
            Err(Failure::usage(format!("{flag} is not valid: write a number from 1 to {CONNECTIONS_MAX}")))
        }
        number => Ok(number.unwrap_or(0)),
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_set().entries(self.values.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values() {
        let options = Options::parse(&["rest.connections=7".into(), "opendal.endpoint=x".into()], Some(9)).unwrap();
        assert_eq!(options.all_connections(), 9);
        assert!(!format!("{options:?}").contains('7'));
        for flags in [
            &["rest.connections"][..],
            &["rest.color=red"],
            &["rest.connections=1", "REST.connections=2"],
            &["opendal.=1"],
        ] {
            let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
            assert!(Options::parse(&flags, None).is_err(), "{flags:?}");
        }
        assert!(Options::parse(&[], Some(0)).is_err() && Options::parse(&[], Some(257)).is_err());
    }

    #[test]
    #[cfg(any(feature = "tls", feature = "sftp"))]
    fn connections() {
        let parse = |flags: &[&str], all| {
            let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
            Options::parse(&flags, all).unwrap().connections("rest.connections")
        };
        assert_eq!(parse(&[], None).unwrap(), 0);
        assert_eq!(parse(&["s3.connections=3"], Some(9)).unwrap(), 9);
        assert_eq!(parse(&["rest.connections=7"], Some(9)).unwrap(), 7);
        for value in ["0", "many", "-1", "257"] {
            assert!(parse(&[&format!("rest.connections={value}")], Some(9)).is_err(), "{value}");
        }
    }
}
