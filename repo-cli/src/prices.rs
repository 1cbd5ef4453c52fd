//! What a store charges: a small table that everybody can edit.

use std::{fs, path::PathBuf};

use repo_core::store::budget::Prices;
use serde::Deserialize;

use crate::{
    environment::Environment,
    report::{Failure, Result},
};

/// The table that counts where the user has none.
pub(crate) const TABLE: &str = include_str!("prices.json");

/// Most bytes of a table.
const TABLE_BYTES_MAX: u64 = 1 << 20;

/// Billionths of a unit: what `Prices` are told in.
const NANO: f64 = 1e9;

#[derive(Debug, Deserialize)]
struct Table {
    stores: Vec<Entry>,
}

/// One kind of store.
#[derive(Debug, Deserialize)]
pub(crate) struct Entry {
    /// What it is, for people.
    pub(crate) name: String,
    /// Texts of which one occurs in the address.
    #[serde(rename = "where")]
    places: Vec<String>,
    /// In which currency.
    pub(crate) currency: String,
    per_1000_requests: Requests,
    per_gib: Transfer,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Requests {
    put: f64,
    get: f64,
    list: f64,
    stat: f64,
    delete: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Transfer {
    sent: f64,
    fetched: f64,
}

impl Entry {
    /// The prices as the library counts them.
    fn prices(&self) -> Result<Prices, String> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was held against bounds")]
        let nano = |price: f64, of: f64| {
            (0.0..=1e6)
                .contains(&price)
                .then(|| (price / of * NANO).round() as u64)
                .ok_or_else(|| format!("the price {price} of \"{}\" is not between 0 and a million", self.name))
        };
        let request = |price| nano(price, 1000.0);
        let Self { per_1000_requests: requests, per_gib, .. } = self;
        Ok(Prices {
            put: request(requests.put)?,
            get: request(requests.get)?,
            list: request(requests.list)?,
            stat: request(requests.stat)?,
            delete: request(requests.delete)?,
            written_gib: nano(per_gib.sent, 1.0)?,
            read_gib: nano(per_gib.fetched, 1.0)?,
        })
    }
}

/// What the store at this address charges, if the table knows.
///
/// # Errors
/// When the user's table cannot be read.
pub(crate) fn of(location: &str, environment: &Environment) -> Result<Option<(Entry, Prices)>> {
    let Some(path) = path(environment) else { return find(TABLE, location).map_err(Failure::new) };
    let named = environment.get("PRICES").is_some();
    let failed = |error: &std::io::Error| Failure::io("read the prices in", path.display(), error);
    match fs::metadata(&path) {
        // A service's home may be no folder at all.
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) && !named =>
        {
            return find(TABLE, location).map_err(Failure::new);
        }
        Err(error) => return Err(failed(&error)),
        Ok(metadata) if metadata.len() > TABLE_BYTES_MAX => {
            return Err(Failure::usage(format!("{} is too large to be a table of prices", path.display())));
        }
        Ok(_) => {}
    }
    let text = fs::read_to_string(&path).map_err(|error| failed(&error))?;
    find(&text, location).map_err(|error| {
        Failure::usage(format!("the prices in {} are not valid: {error}", path.display()))
            .hint("\"coffer prices\" shows how such a table looks")
    })
}

/// Where the user's table is or would be.
fn path(environment: &Environment) -> Option<PathBuf> {
    if let Some(variable) = environment.get("PRICES") {
        return Some(PathBuf::from(variable.value));
    }
    let folder = |name: &str, below: &str| {
        let base = PathBuf::from(environment.exact(name)?.value);
        base.is_absolute().then(|| base.join(below))
    };
    folder("XDG_CONFIG_HOME", "coffer/prices.json").or_else(|| folder("HOME", ".config/coffer/prices.json"))
}

fn find(table: &str, location: &str) -> Result<Option<(Entry, Prices)>, String> {
    let table: Table = serde_json::from_str(table).map_err(|error| error.to_string())?;
    let mut found = None;
    for entry in table.stores {
        let prices = entry.prices()?;
        if found.is_none() && entry.places.iter().any(|place| location.contains(place.as_str())) {
            found = Some((entry, prices));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_valid_and_knows_where_it_is() {
        let (entry, prices) = find(TABLE, "s3:https://s3.eu-central-1.amazonaws.com/bucket").unwrap().unwrap();
        assert_eq!((entry.name.as_str(), entry.currency.as_str()), ("Amazon S3 Standard", "USD"));
        assert_eq!((prices.put, prices.get, prices.read_gib), (5_000, 400, 90_000_000));
        // By its own interface B2 looks before each upload, and lists the versions of what is deleted.
        let (entry, prices) = find(TABLE, "b2:bucket:path").unwrap().unwrap();
        assert_eq!((entry.name.as_str(), prices.put, prices.delete), ("Backblaze B2", 400, 4_000));
        let (entry, prices) = find(TABLE, "s3:https://s3.us-west-004.backblazeb2.com/bucket").unwrap().unwrap();
        assert_eq!((entry.name.as_str(), prices.delete), ("Backblaze B2 by its S3 interface", 0));
        assert!(find(TABLE, "/srv/backup").unwrap().is_none());
    }

    #[test]
    fn nonsense_is_refused() {
        for (from, to) in [("0.005", "-1"), ("0.005", "1e300"), ("\"put\"", "\"putt\""), ("}", "")] {
            assert!(find(&TABLE.replacen(from, to, 1), "x").is_err(), "{from} as {to}");
        }
    }
}
