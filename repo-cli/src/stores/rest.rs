//! Repositories on restic REST servers.

use repo_core::{
    progress::Cancel,
    store::{
        rest::{RestOptions, RestStore},
        secret::Secret,
    },
};

use super::StoreSettings;
use crate::{location::RestAddress, report::Result};

pub(super) fn open(address: &RestAddress, settings: &StoreSettings, cancel: &Cancel) -> Result<RestStore> {
    let text = |name| settings.environment.get(name).map(|variable| variable.text().map(str::to_owned)).transpose();
    let user = match &address.user {
        Some(user) => Some(user.clone()),
        None => match (text("REST_USERNAME")?, text("REST_PASSWORD")?) {
            (None, None) => None,
            (user, password) => Some((user.unwrap_or_default(), Secret::from(password.unwrap_or_default()))),
        },
    };
    let options = RestOptions {
        url: address.url.clone(),
        socket: address.socket.clone(),
        user,
        connections: settings.options.connections("rest.connections")?,
        tls: settings.tls()?,
        system_proxy: true,
        flow: settings.flow(cancel),
    };
    Ok(RestStore::new(options)?)
}
