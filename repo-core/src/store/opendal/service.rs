//! Repositories at any other service that `OpenDAL` knows: one feature of this crate for each, one entry in [`SERVICES`].

use std::{collections::BTreeMap, path::Path, sync::Arc};

use opendal::{Configurator, HttpTransporter, OperationContext, Operator};
use serde::{
    Deserializer, de,
    de::{DeserializeOwned, Visitor, value::Error as NoValue},
    forward_to_deserialize_any,
};

use super::{BucketStore, Clients, Exclusive, http, invalid, listings::WholeListings, staged::StagedStore};
use crate::{
    error::Error,
    store::{Store, flow::Flow, secret::Secret, throttle::ThrottledStore, tls::TlsOptions},
};

/// Where a repository is, and how to get at it.
#[derive(Debug, Clone, Default)]
pub struct ServiceOptions {
    /// Which service, as `OpenDAL` calls it.
    pub scheme: String,
    /// Where the repository is there: `CONTAINER/PREFIX`, or a path where the service has no containers; with `http[s]://HOST[:PORT]/`
    /// before it that is the service's address.
    pub root: String,
    /// Everything else, by the names that `OpenDAL` gives it ([`Service::settings`]).
    pub settings: BTreeMap<String, Secret>,
    /// Requests in flight at once; [`super::CONNECTIONS`] if 0.
    pub connections: usize,
    /// Certificates.
    pub tls: TlsOptions,
    /// Limits of transfer, and the end.
    pub flow: Flow,
}

/// A service that is compiled in.
pub struct Service {
    /// Its name.
    pub scheme: &'static str,
    /// What it calls that which the first part of the root names, if it has such.
    container: Option<&'static str>,
    /// Whether it can be asked to replace nothing.
    is_exclusive: bool,
    /// Whether others see what is there of an object while it is written, so that it is given its name afterwards.
    shows_parts: bool,
    names: fn() -> &'static [&'static str],
    open: fn(BTreeMap<String, String>) -> opendal::Result<Operator>,
}

/// All that are compiled in.
pub const SERVICES: &[Service] = &[
    #[cfg(feature = "opendal-azblob")]
    Service {
        scheme: "azblob",
        container: Some("container"),
        is_exclusive: true,
        shows_parts: false,
        names: names::<opendal::services::AzblobConfig>,
        open: operator::<opendal::services::AzblobConfig>,
    },
    #[cfg(feature = "opendal-fs")]
    Service {
        scheme: "fs",
        container: None,
        is_exclusive: false,
        shows_parts: true,
        names: names::<opendal::services::FsConfig>,
        open: operator::<opendal::services::FsConfig>,
    },
    #[cfg(feature = "opendal-gcs")]
    Service {
        scheme: "gcs",
        container: Some("bucket"),
        is_exclusive: true,
        shows_parts: false,
        names: names::<opendal::services::GcsConfig>,
        open: operator::<opendal::services::GcsConfig>,
    },
    #[cfg(feature = "opendal-swift")]
    Service {
        scheme: "swift",
        container: Some("container"),
        is_exclusive: false,
        shows_parts: false,
        names: names::<opendal::services::SwiftConfig>,
        open: operator::<opendal::services::SwiftConfig>,
    },
    #[cfg(feature = "opendal-webdav")]
    Service {
        scheme: "webdav",
        container: None,
        is_exclusive: false,
        shows_parts: true,
        names: names::<opendal::services::WebdavConfig>,
        open: operator::<opendal::services::WebdavConfig>,
    },
];

/// What the root says, and what is decided here.
const RESERVED: [&str; 5] = ["root", "container", "bucket", "atomic_write_dir", "disable_create_dir"];

impl Service {
    /// The one of that name, if it is compiled in.
    #[must_use]
    pub fn find(scheme: &str) -> Option<&'static Self> {
        SERVICES.iter().find(|service| service.scheme == scheme)
    }

    /// The names of its settings.
    pub fn settings(&self) -> impl Iterator<Item = &'static str> + use<> {
        let is_free = |name: &&str| !RESERVED.iter().any(|reserved| name.contains(reserved));
        (self.names)().iter().copied().filter(is_free)
    }

    /// Whether the value of a setting is to be shown nowhere.
    #[must_use]
    pub fn is_secret(name: &str) -> bool {
        const WORDS: [&str; 5] = ["password", "secret", "token", "signature", "sas_"];
        WORDS.iter().any(|word| name.contains(word)) || name.ends_with("key") || name == "credential"
    }

    /// All settings, with what the root says.
    fn resolve(&self, options: &ServiceOptions) -> Result<BTreeMap<String, String>, Error> {
        let mut settings = BTreeMap::new();
        for (name, value) in &options.settings {
            if !self.settings().any(|known| known == name) {
                return Err(Error::Invalid(format!("{} has no setting \"{name}\"", self.scheme)));
            }
            settings.insert(name.clone(), value.expose().to_owned());
        }
        let mut root = options.root.as_str();
        if let Some((scheme, rest)) = root.split_once("://") {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            if settings.insert("endpoint".into(), format!("{scheme}://{host}")).is_some() {
                return Err(Error::Invalid("the address names a host, and so does the setting \"endpoint\"".into()));
            }
            root = path;
        }
        if let Some(container) = self.container {
            let (name, prefix) = root.trim_start_matches('/').split_once('/').unwrap_or((root.trim_matches('/'), ""));
            if name.is_empty() {
                return Err(Error::Invalid(format!("the address names no {container}")));
            }
            settings.insert(container.into(), name.to_owned());
            root = prefix;
        }
        settings.insert("root".into(), format!("/{}", root.trim_matches('/')));
        if self.scheme == "webdav" {
            // A folder that is missing is told of, and not made anew below a mount point.
            settings.insert("disable_create_dir".into(), "true".into());
        }
        Ok(settings)
    }
}

/// The repository at a service, whether there is one or not; nothing is sent.
///
/// # Errors
/// [`Error::Invalid`] when the service is not compiled in, or what was given cannot be.
pub fn open(options: &ServiceOptions) -> Result<Box<dyn Store>, Error> {
    let service = Service::find(&options.scheme)
        .ok_or_else(|| Error::Invalid(format!("there is no service \"{}\"", options.scheme)))?;
    let settings = service.resolve(options)?;
    let is_local = service.scheme == "fs";
    if is_local && !settings.get("root").is_some_and(|root| Path::new(root).is_dir()) {
        return Err(Error::Invalid(format!("there is no folder {}; make it first", options.root)));
    }
    let is_encrypted = !is_local && !settings.get("endpoint").is_some_and(|url| url.starts_with("http://"));
    let transport = http::transport(&options.tls, is_encrypted, &options.flow)?;
    let transport = HttpTransporter::new(WholeListings(transport));
    let built = (service.open)(settings).map_err(|error| invalid(&error))?;
    let operator = built.with_context(OperationContext::new().with_http_transport(transport));
    let location = format!("opendal:{}:{}", service.scheme, options.root.trim_end_matches('/'));
    let exclusive = if service.is_exclusive { Exclusive::ByCondition } else { Exclusive::ByAsking };
    let clients = Clients { operator: operator.clone(), packs: operator };
    let store = BucketStore::new(clients, location, options.connections, exclusive, options.flow.clone());
    let store: Box<dyn Store> =
        if service.shows_parts { Box::new(StagedStore::new(store, is_local)) } else { Box::new(store) };
    Ok(match &options.flow.throttle {
        // No request goes through the transport here, which else keeps to the limits.
        Some(throttle) if is_local => Box::new(ThrottledStore::new(store, Arc::clone(throttle))),
        _ => store,
    })
}

fn operator<C: Configurator>(settings: BTreeMap<String, String>) -> opendal::Result<Operator> {
    Operator::new(C::from_iter(settings)?.into_builder())
}

/// The names of a configuration's fields: what it asks of whoever it is read from, which here has nothing to give.
fn names<C: DeserializeOwned>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    let _ = C::deserialize(Asked(&mut names));
    names
}

struct Asked<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Asked<'_> {
    type Error = NoValue;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, NoValue> {
        *self.0 = fields;
        Err(de::Error::custom("nothing is given"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NoValue> {
        Err(de::Error::custom("nothing is given"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_tells_its_settings() {
        for service in SERVICES {
            let names: Vec<_> = service.settings().collect();
            assert!(!names.contains(&"root"), "{}: {names:?}", service.scheme);
            assert_eq!(names.contains(&"endpoint"), service.scheme != "fs", "{}: {names:?}", service.scheme);
        }
        for (name, is_secret) in [
            ("endpoint", false),
            ("username", false),
            ("account_name", false),
            ("credential_path", false),
            ("encryption_key_sha256", false),
            ("password", true),
            ("token", true),
            ("account_key", true),
            ("sas_token", true),
            ("temp_url_key", true),
            ("credential", true),
        ] {
            assert_eq!(Service::is_secret(name), is_secret, "{name}");
        }
    }

    #[test]
    #[cfg(feature = "opendal-webdav")]
    fn what_the_address_says() {
        let of = |root: &str, settings: &[(&str, &str)]| {
            let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), Secret::from(*value))).collect();
            let options =
                ServiceOptions { scheme: "webdav".into(), root: root.into(), settings, ..ServiceOptions::default() };
            let resolved = Service::find("webdav").unwrap().resolve(&options).map_err(|error| error.to_string())?;
            Ok::<_, String>((resolved["endpoint"].clone(), resolved["root"].clone()))
        };
        let found = Ok(("https://h:1".to_owned(), "/a/b".to_owned()));
        assert_eq!(of("https://h:1/a/b/", &[]), found);
        assert_eq!(of("a/b", &[("endpoint", "https://h:1")]), found);
        assert!(of("https://h/a", &[("endpoint", "https://h")]).is_err());
        assert!(of("https://h/a", &[("colour", "red")]).unwrap_err().contains("colour"));
        assert!(of("https://h/a", &[("root", "/")]).is_err());
    }
}
