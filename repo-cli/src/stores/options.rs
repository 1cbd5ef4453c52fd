//! Settings of stores: `-o KEY=VALUE`.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use crate::report::{Failure, Result};

/// All keys there are. Those of a store that is not used are no mistake: two repositories may be open at once.
const KEYS: [&str; 13] = [
    "b2.authority",
    "b2.connections",
    "rest.connections",
    "s3.bucket-lookup",
    "s3.checksum",
    "s3.connections",
    "s3.list-objects-v1",
    "s3.region",
    "s3.storage-class",
    "s3.unsafe-anonymous-auth",
    "sftp.args",
    "sftp.command",
    "sftp.connections",
];

/// Settings of stores. Some are secret, and none is shown.
#[derive(Default)]
pub(super) struct Options(BTreeMap<String, String>);

impl Options {
    pub(super) fn parse(flags: &[String]) -> Result<Self> {
        let mut options = BTreeMap::new();
        for flag in flags {
            let Some((key, value)) = flag.split_once('=') else {
                return Err(Failure::usage(format!("-o {flag}: a setting is written KEY=VALUE")));
            };
            let key = key.trim().to_ascii_lowercase();
            if !KEYS.contains(&key.as_str()) {
                return Err(Failure::usage(format!("-o {key}: there is no such setting"))
                    .hint(format!("there are {}", KEYS.join(", "))));
            }
            if options.insert(key.clone(), value.to_owned()).is_some() {
                return Err(Failure::usage(format!("-o {key} is given twice")));
            }
        }
        Ok(Self(options))
    }

    /// The value of a setting.
    #[allow(dead_code, reason = "which stores need it depends on the features")]
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        debug_assert!(KEYS.contains(&key), "{key}");
        self.0.get(key).map(String::as_str)
    }

    /// The value of a setting that is not text.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&self, key: &str) -> Result<Option<T>> {
        let value = self.get(key).map(str::parse::<T>);
        value.transpose().map_err(|error| Failure::usage(format!("-o {key} is not valid: {error}")))
    }

    /// A setting that is on or off.
    #[allow(dead_code, reason = "which stores need it depends on the features")]
    pub(super) fn switch(&self, key: &str) -> Result<bool> {
        Ok(self.parsed::<bool>(key)?.unwrap_or(false))
    }

    /// How many requests are to be in flight at once; 0 if that was not said.
    pub(super) fn connections(&self, key: &str) -> Result<usize> {
        match self.parsed::<usize>(key)? {
            Some(number) if !(1..=256).contains(&number) => {
                Err(Failure::usage(format!("-o {key} is not valid: write a number from 1 to 256")))
            }
            number => Ok(number.unwrap_or(0)),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values() {
        let options = Options::parse(&["rest.connections=7".into()]).unwrap();
        assert_eq!(options.connections("rest.connections").unwrap(), 7);
        assert!(!format!("{options:?}").contains('7'));
        for flags in [&["rest.connections"][..], &["rest.color=red"], &["rest.connections=1", "REST.connections=2"]] {
            let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
            assert!(Options::parse(&flags).is_err(), "{flags:?}");
        }
        for value in ["0", "many", "-1", "257"] {
            let options = Options::parse(&[format!("rest.connections={value}")]).unwrap();
            assert!(options.connections("rest.connections").is_err(), "{value}");
        }
    }
}
