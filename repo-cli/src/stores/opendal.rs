//! Repositories at other services that `OpenDAL` knows. Settings come from `-o opendal.NAME=…`, from variables
//! `OPENDAL_SCHEME_NAME`, and from a file of lines `NAME=VALUE`; secrets from the latter two.

use std::{collections::BTreeMap, path::Path};

use repo_core::{
    error::Error,
    progress::Cancel,
    store::{
        Store,
        opendal::service::{SERVICES, Service, ServiceOptions, open as open_service},
        secret::Secret,
    },
};

use super::{StoreSettings, options, read};
use crate::{
    location::OpendalAddress,
    report::{Failure, Result},
};

pub(super) fn open(address: &OpendalAddress, settings: &StoreSettings, cancel: &Cancel) -> Result<Box<dyn Store>> {
    let service = Service::find(&address.scheme).ok_or_else(|| no_such(&address.scheme))?;
    let names: Vec<&str> = service.settings().collect();
    let known = |name: &str, from: &str| {
        if names.contains(&name) {
            return Ok(());
        }
        Err(Failure::usage(format!("{from}: {} has no setting \"{name}\"", address.scheme))
            .hint(format!("there are {}", names.join(", "))))
    };
    let mut found = BTreeMap::new();
    if let Some(path) = settings.options.get(options::OPENDAL_FILE) {
        for (name, value) in of_file(Path::new(path))? {
            known(&name, path)?;
            found.insert(name, value);
        }
    }
    for name in &names {
        let variable = format!("OPENDAL_{}_{}", address.scheme, name).to_ascii_uppercase();
        if let Some(value) = settings.text(&variable)? {
            found.insert((*name).to_owned(), value.into());
        }
    }
    for (name, value) in settings.options.of_opendal() {
        let flag = format!("-o {}{name}", options::OPENDAL);
        known(name, &flag)?;
        if Service::is_secret(name) {
            let variable = format!("OPENDAL_{}_{name}", address.scheme).to_ascii_uppercase();
            return Err(Failure::usage(format!(
                "{flag}: everybody on this machine can read the arguments of a program"
            ))
            .hint(format!("set {variable}, or write it to a file that -o {}=FILE names", options::OPENDAL_FILE)));
        }
        found.insert(name.to_owned(), value.into());
    }
    let options = ServiceOptions {
        scheme: address.scheme.clone(),
        root: address.root.clone(),
        settings: found,
        connections: settings.options.connections("opendal.connections")?,
        tls: settings.tls()?,
        flow: settings.flow(cancel),
    };
    open_service(&options).map_err(|error| match error {
        Error::Invalid(reason) => Failure::usage(format!("opendal:{}: {reason}", address.scheme)),
        error => error.into(),
    })
}

fn no_such(scheme: &str) -> Failure {
    let there: Vec<&str> = SERVICES.iter().map(|service| service.scheme).collect();
    Failure::usage(format!(
        "this build of coffer has no opendal:{scheme}: repositories, but those of {}",
        there.join(", ")
    ))
    .hint(
        "\"rclone serve restic REMOTE:PATH\" makes a REST server of nearly any storage; name it rest:http://HOST:PORT/",
    )
}

/// Lines `NAME=VALUE`; empty ones and those that begin with `#` say nothing.
fn of_file(path: &Path) -> Result<Vec<(String, Secret)>> {
    let bytes = read("settings", path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Failure::usage(format!("{} is no text", path.display())))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pair = |line: &str| match line.split_once('=') {
        Some((name, value)) => Ok((name.trim().to_ascii_lowercase(), Secret::from(value.trim()))),
        None => Err(Failure::usage(format!("{} has a line that is not NAME=VALUE", path.display()))),
    };
    lines.map(pair).collect()
}
