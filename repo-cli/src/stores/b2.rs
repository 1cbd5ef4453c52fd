//! Repositories in buckets of Backblaze B2.

use repo_core::{
    progress::Cancel,
    store::b2::{B2Options, B2Store},
};

use super::StoreSettings;
use crate::{
    location::B2Address,
    report::{Failure, Result},
};

/// What the key and its id are called by restic, by Backblaze, and by kopia.
const SPELLINGS: [(&str, &str); 3] =
    [("B2_ACCOUNT_ID", "B2_ACCOUNT_KEY"), ("B2_APPLICATION_KEY_ID", "B2_APPLICATION_KEY"), ("B2_KEY_ID", "B2_KEY")];

pub(super) fn open(address: &B2Address, settings: &StoreSettings, cancel: &Cancel) -> Result<B2Store> {
    let (key_id, key) = key(settings)?;
    Ok(B2Store::new(B2Options {
        authority: settings.options.get("b2.authority").map(str::to_owned),
        key_id,
        key: key.into(),
        bucket: address.bucket.clone(),
        prefix: address.prefix.clone(),
        connections: settings.options.connections("b2.connections")?,
        tls: settings.tls()?,
        system_proxy: true,
        flow: settings.flow(cancel),
    })?)
}

/// The first spelling of which anything is set.
fn key(settings: &StoreSettings) -> Result<(String, String)> {
    for (id_name, key_name) in SPELLINGS {
        match (settings.text(id_name)?, settings.text(key_name)?) {
            (Some(id), Some(key)) => return Ok((id, key)),
            (Some(_), None) => return Err(Failure::usage(format!("{id_name} is given, and no {key_name}"))),
            (None, Some(_)) => return Err(Failure::usage(format!("{key_name} is given, and no {id_name}"))),
            (None, None) => {}
        }
    }
    Err(Failure::usage("a repository on B2 needs a key: set B2_ACCOUNT_ID and B2_ACCOUNT_KEY"))
}
