//! Repositories in buckets of S3 services.

use std::path::{Path, PathBuf};

use repo_core::{
    error::Error,
    progress::Cancel,
    store::{
        opendal::{
            BucketStore,
            s3::{CredentialSource, S3Credentials, S3Options},
        },
        secret::Secret,
    },
};

use super::{StoreSettings, read};
use crate::{
    location::S3Address,
    report::{Failure, Result},
};

/// Region that services take which have none.
const DEFAULT_REGION: &str = "us-east-1";

pub(super) fn open(address: &S3Address, settings: &StoreSettings, cancel: &Cancel) -> Result<BucketStore> {
    let options = &settings.options;
    let host = address.endpoint.as_deref().map(host_of);
    let is_amazon = host.is_none_or(|host| host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn"));
    let named_region = || host.and_then(region_of).map(str::to_owned);
    let region = match options.get("s3.region") {
        Some(region) => region.to_owned(),
        None => settings
            .text("AWS_REGION")?
            .or(settings.text("AWS_DEFAULT_REGION")?)
            .or_else(named_region)
            .unwrap_or_else(|| DEFAULT_REGION.to_owned()),
    };
    let virtual_host = match options.get("s3.bucket-lookup").unwrap_or("auto") {
        "auto" => is_amazon && !address.bucket.contains('.'),
        "dns" => true,
        "path" => false,
        _ => return Err(Failure::usage("-o s3.bucket-lookup is not valid: write auto, dns or path")),
    };
    let checksum = match options.get("s3.checksum").unwrap_or("crc32c") {
        "none" => None,
        known @ ("crc32c" | "md5") => Some(known.to_owned()),
        _ => return Err(Failure::usage("-o s3.checksum is not valid: write crc32c, md5 or none")),
    };
    Ok(BucketStore::s3(&S3Options {
        endpoint: address.endpoint.clone(),
        bucket: address.bucket.clone(),
        prefix: address.prefix.clone(),
        region,
        virtual_host,
        storage_class: options.get("s3.storage-class").map(str::to_owned),
        checksum,
        list_objects_v1: options.switch("s3.list-objects-v1")?,
        connections: options.connections("s3.connections")?,
        credentials: credentials(settings)?,
        tls: settings.tls()?,
        flow: settings.flow(cancel),
    })?)
}

/// Keys of the file that was named, else of variables, else of the user's file, else whoever the machine is.
fn credentials(settings: &StoreSettings) -> Result<S3Credentials> {
    if settings.options.switch("s3.unsafe-anonymous-auth")? {
        return Ok(S3Credentials::Nobody);
    }
    let profile = settings.text("AWS_PROFILE")?;
    let of_file = |path: PathBuf| {
        let profile = profile.clone().unwrap_or_else(|| "default".to_owned());
        let ask = move || keys_of_file(&path, &profile).map_err(|failure| Error::Invalid(failure.message()));
        S3Credentials::Asked(CredentialSource::new(ask))
    };
    if let Some(path) = settings.options.get("s3.credentials-file") {
        return Ok(of_file(path.into()));
    }
    let session_token = settings.text("AWS_SESSION_TOKEN")?.map(Secret::from);
    match (settings.text("AWS_ACCESS_KEY_ID")?, settings.text("AWS_SECRET_ACCESS_KEY")?) {
        (Some(access_key_id), Some(secret)) => {
            return Ok(S3Credentials::Keys { access_key_id, secret_access_key: secret.into(), session_token });
        }
        (Some(_), None) => return Err(Failure::usage("AWS_ACCESS_KEY_ID is given, and no AWS_SECRET_ACCESS_KEY")),
        (None, Some(_)) => return Err(Failure::usage("AWS_SECRET_ACCESS_KEY is given, and no AWS_ACCESS_KEY_ID")),
        (None, None) => {}
    }
    if let Some(file) = settings.variable("AWS_SHARED_CREDENTIALS_FILE") {
        return Ok(of_file(file.value.into()));
    }
    Ok(profile.map_or(S3Credentials::OfMachine, S3Credentials::Profile))
}

/// The keys that a file has now; programs that get new ones write them there.
fn keys_of_file(path: &Path, profile: &str) -> Result<S3Credentials> {
    let text = read("the keys", path)?;
    of_profile(&String::from_utf8_lossy(&text), profile)
        .ok_or_else(|| Failure::usage(format!("{} has no keys for the profile \"{profile}\"", path.display())))
}

/// The keys of a profile in a file of such: `[NAME]`, and below it `aws_access_key_id = …` and its like.
fn of_profile(text: &str, wanted: &str) -> Option<S3Credentials> {
    let (mut id, mut secret, mut token) = (None, None, None);
    let mut is_wanted = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let name = name.trim();
            is_wanted = name == wanted || name.strip_prefix("profile ").is_some_and(|name| name.trim() == wanted);
        } else if let Some((key, value)) = line.split_once('=').filter(|_| is_wanted && !line.starts_with(['#', ';'])) {
            let value = value.trim();
            match key.trim().to_ascii_lowercase().as_str() {
                "aws_access_key_id" => id = Some(value.to_owned()),
                "aws_secret_access_key" => secret = Some(Secret::from(value)),
                "aws_session_token" => token = Some(Secret::from(value)),
                _ => {}
            }
        }
    }
    Some(S3Credentials::Keys { access_key_id: id?, secret_access_key: secret?, session_token: token })
}

fn host_of(endpoint: &str) -> &str {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    rest.split(':').next().unwrap_or(rest)
}

/// The region in the name of a host, as many services have it: `s3.REGION.…`, or `REGION.…` with those that are known for it.
fn region_of(host: &str) -> Option<&str> {
    const FIRST: [&str; 3] = ["your-objectstorage.com", "digitaloceanspaces.com", "synologyc2.net"];
    let labels: Vec<&str> = host.split('.').collect();
    let is_name = |label: &&str| label.bytes().any(|byte| byte.is_ascii_alphabetic());
    match labels[..] {
        ["s3", "amazonaws", ..] => None,
        ["s3" | "s3-accesspoint", "dualstack", region, _, ..] => Some(region),
        ["s3", region, _, _, ..] => Some(region).filter(is_name),
        [first, "amazonaws", ..] => first.strip_prefix("s3-"),
        [first, ..] if FIRST.iter().any(|known| host.ends_with(known)) => Some(first),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_in_names() {
        for (host, region) in [
            ("s3.amazonaws.com", None),
            ("s3.eu-central-1.amazonaws.com", Some("eu-central-1")),
            ("s3-eu-west-1.amazonaws.com", Some("eu-west-1")),
            ("s3.dualstack.eu-west-1.amazonaws.com", Some("eu-west-1")),
            ("s3.us-west-004.backblazeb2.com", Some("us-west-004")),
            ("s3.eu-central-1.wasabisys.com", Some("eu-central-1")),
            ("s3.gra.io.cloud.ovh.net", Some("gra")),
            ("fsn1.your-objectstorage.com", Some("fsn1")),
            ("localhost", None),
            ("127.0.0.1", None),
            ("minio.example.com", None),
        ] {
            assert_eq!(region_of(host), region, "{host}");
        }
        assert_eq!(host_of("https://s3.example.com:9000"), "s3.example.com");
    }

    #[test]
    fn profiles() {
        let text = "[default]\naws_access_key_id = A\naws_secret_access_key=B\n# [x]\n[other]\naws_access_key_id=C\n\
                    [ third ]\naws_access_key_id=D\naws_secret_access_key = E=F\naws_session_token=G\n";
        let found = |name| match of_profile(text, name) {
            Some(S3Credentials::Keys { access_key_id, secret_access_key, session_token }) => {
                Some((access_key_id, secret_access_key.expose().to_owned(), session_token.is_some()))
            }
            _ => None,
        };
        assert_eq!(found("default"), Some(("A".into(), "B".into(), false)));
        assert_eq!(found("third"), Some(("D".into(), "E=F".into(), true)));
        assert_eq!((found("other"), found("x")), (None, None));
    }
}
